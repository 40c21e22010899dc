"""One runtime a file, the same surface each."""
