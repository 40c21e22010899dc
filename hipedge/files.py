"""Atomic file writes, and the folder of hipedge's caches."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write a file under, and rename it to `path` at the end.

    A reader sees the old file or the new one. Each name is another, so that processes which share
    a folder do not write into one another's files; where the writing fails, nothing is left.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, and flush it to the disk before it is there."""
    with replacing(path) as partial, partial.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return hipedge's folder in the user's cache (the XDG Base Directory Specification)."""
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hipedge"
