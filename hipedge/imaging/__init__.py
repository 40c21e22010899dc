"""Image geometry and resampling: crops, areas of a film, and their coordinates."""
