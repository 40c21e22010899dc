"""Files that are there whole or not at all, whenever the power fails."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def save_atomically(path: Path, content: Mapping[str, object]) -> None:
    """Write with `torch.save`, in the same way."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
