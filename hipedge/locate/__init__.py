"""locate: where the hips are on a radiograph, and whose side each is."""

from hipedge.locate.given import GivenHip, GivenHips, read_hips_csv
from hipedge.locate.heads import Heads, find_heads
from hipedge.locate.rules import Located, locate

__all__ = [
    "GivenHip",
    "GivenHips",
    "Heads",
    "Located",
    "find_heads",
    "locate",
    "read_hips_csv",
]
