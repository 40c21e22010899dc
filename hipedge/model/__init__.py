"""What a model folder is, and the reference model that ships."""
