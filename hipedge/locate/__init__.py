"""locate: where the hips are on a radiograph, and which side each is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Each module is imported when one of its names is first used, so that a command imports no more
# than it needs.
_HOMES = {
    "GivenHip": "given",
    "GivenHips": "given",
    "Heads": "heads",
    "Located": "rules",
    "file_names": "given",
    "find_heads": "heads",
    "locate": "rules",
    "read_hips_csv": "given",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
