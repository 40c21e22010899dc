"""hipedge: screen hip radiographs in batches, at the edge."""

__version__ = "0.1.0"
