"""What the reference model is worth: on phantoms that it has not seen, and on real films."""
