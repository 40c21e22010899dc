"""The name of a file's content: its BLAKE3 hash, which other programs compute too (`b3sum`).

hipedge 0.2 and before named contents by SHA-256, which takes four times as long. What they recorded
keeps its name, 64 hexadecimal digits without a prefix; every other content has BLAKE3 and a prefix.
"""

from __future__ import annotations

import re

BLAKE3 = "blake3:"
# The columns of CSV files that name films by their content.
HASH_COLUMNS = ("content_hash", "sha256")
# The start of a hash, as a person types it who looks for a film.
_START = re.compile(rf"({BLAKE3})?[0-9a-f]{{6,64}}")
_DIGITS = re.compile(r"[0-9a-f]{64}")


def is_sha256(name: str) -> bool:
    """Return whether a content has its name from hipedge 0.2 or before."""
    return not name.startswith(BLAKE3)


def hashes_of(name: str | None) -> dict[str, str | None]:
    """Return the hash that a content is named by, under the name that columns of that kind have."""
    old = name is not None and is_sha256(name)
    return {"content_hash": None if old else name, "sha256": name if old else None}


def prefixed(text: str) -> str:
    """Return the name of a content whose BLAKE3 may stand without its prefix, as from `b3sum`."""
    return BLAKE3 + text.lower().removeprefix(BLAKE3)


def read_hash(column: str, text: str) -> str:
    """Return the hash in a cell of one of `HASH_COLUMNS`.

    Raises `ValueError` for anything else than 64 hexadecimal digits.
    """
    name = prefixed(text) if column == "content_hash" else text.lower()
    if not _DIGITS.fullmatch(name.removeprefix(BLAKE3)):
        raise ValueError(f"{column} must be 64 hexadecimal digits")
    return name


def starts_of(text: str) -> list[str]:
    """Return what the names of contents begin with that a person may mean by this text."""
    start = text.lower()
    if not _START.fullmatch(start):
        return []
    return [start] if start.startswith(BLAKE3) else [start, BLAKE3 + start]
