"""One film at one resolution, as the viewer asks for it: what a decoding process does.

Worker processes import this module, and no part of the server.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hipedge.dicom.display import DisplayFilm, read_for_display
from hipedge.dicom.read import load
from hipedge.errors import Code, HipedgeError, Refused
from hipedge.imaging.area import MAX_HALVINGS, TurnedPixels
from hipedge.locate.upright import turns_of
from hipedge.types import Box, Mark

# A larger level is not sent: 64 MiB of pixels. Of a larger film the finest level is a halved one.
MAX_LEVEL_PIXELS = 32 << 20
# Of the longer side: what is decoded before anything else, since it is soon there.
FIRST_PX = 1024


@dataclass(frozen=True)
class LevelRequest:
    """A film by its path, content and quarter turns, and how often it is to be halved."""

    path: Path
    content_hash: str
    turns: int
    halvings: int


@dataclass(frozen=True, eq=False)
class Level:
    """A film halved to `shape` (h, w): the little-endian uint16 of `curve`, then of the pixels.

    `curve_points` is 0 where the header asks for no window. Each pixel covers `step_px` of the
    film, whose corner lies at `origin_px` (x, y).
    """

    data: bytes
    shape: tuple[int, int]
    curve_points: int
    origin_px: tuple[float, float]
    step_px: int


@dataclass(frozen=True)
class Unavailable:
    """Why a film cannot be shown."""

    reason: str


def finest_halvings(shape: tuple[int, int]) -> int:
    """Return how often a film (H, W) is halved at the finest level that is sent."""
    halvings = 0
    while (shape[0] >> halvings) * (shape[1] >> halvings) > MAX_LEVEL_PIXELS:
        halvings += 1
    return halvings


def first_halvings(shape: tuple[int, int]) -> int:
    """Return how often a film (H, W) is halved at the level that is shown first."""
    halvings = finest_halvings(shape)
    while max(shape) >> halvings > FIRST_PX and halvings < MAX_HALVINGS:
        halvings += 1
    return halvings


def level_request(
    path: Path, content_hash: str, marks: Collection[Mark], halvings: int
) -> LevelRequest:
    """Return the request for a film that was turned as its marks say."""
    return LevelRequest(path, content_hash, turns_of(marks), halvings)


def read_level(request: LevelRequest) -> Level | Unavailable:
    """Decode a film at a resolution. Expected faults are returned, not raised."""
    try:
        return _level(_open(request.path, request.content_hash), request)
    except _Changed:
        return Unavailable("the file has changed since it was screened: it holds another film now")
    except Refused as refused:
        gone = refused.code in (Code.UNREADABLE, Code.EMPTY_FILE)
        what = "is no longer where it was" if gone else "cannot be decoded"
        return Unavailable(f"the film {what}: {refused}")
    except MemoryError:
        return Unavailable("the film needs more memory than worker_memory_mb allows")


class _Changed(HipedgeError):
    """A path holds another film."""


# The viewer asks for one level after another of the same film. What is raised is not kept.
@lru_cache(maxsize=1)
def _open(path: Path, content_hash: str) -> DisplayFilm:
    payload = load(path)
    if not payload.is_named(content_hash):
        raise _Changed
    return read_for_display(payload)


def _level(film: DisplayFilm, request: LevelRequest) -> Level:
    height, width = film.shape
    pixels = film.pixels
    for _ in range(request.turns):
        pixels = TurnedPixels(pixels, width)
        height, width = width, height
    # `area` returns pixels half as large as what it is asked for, or smaller.
    area = pixels.area(Box(0.0, 0.0, width, height), 2.0 * 2**request.halvings)
    curve = np.empty(0, np.uint16) if film.curve is None else film.curve
    data = curve.astype("<u2").tobytes() + np.ascontiguousarray(area.pixels, "<u2").tobytes()
    shape = (area.pixels.shape[0], area.pixels.shape[1])
    return Level(data, shape, len(curve), area.origin_px, area.step_px)
