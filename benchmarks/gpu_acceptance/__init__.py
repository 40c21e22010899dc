"""Whether a GPU does what hipedge promises of it: see `__main__`."""
