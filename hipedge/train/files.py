"""Atomic writing of checkpoints, safe against power failure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch


def save_atomically(path: Path, content: Mapping[str, object]) -> None:
    """Write with `torch.save` to a temporary name, flush to disk, then rename."""
    # Only one process writes this file, repeatedly: a partial file left by a killed process is
    # overwritten.
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
