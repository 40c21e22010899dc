"""Checkpoints that are there whole or not at all, whenever the power fails."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch


def save_atomically(path: Path, content: Mapping[str, object]) -> None:
    """Write with `torch.save` under another name, flush it to the disk, then rename it."""
    # One process writes it, again and again: what a kill leaves half written is written over.
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
