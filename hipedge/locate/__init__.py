"""locate: where the hips are on a radiograph, and which side each is."""
