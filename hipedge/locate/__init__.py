"""locate: where the hips are on a radiograph, and which side each is."""

from hipedge.locate.given import GivenHip, GivenHips, file_names, read_hips_csv
from hipedge.locate.heads import Heads, find_heads
from hipedge.locate.rules import Located, locate

__all__ = [
    "GivenHip",
    "GivenHips",
    "Heads",
    "Located",
    "file_names",
    "find_heads",
    "locate",
    "read_hips_csv",
]
