"""The front half of the line, in a worker process: read → locate → prepare."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hipedge.dicom import load, read
from hipedge.errors import Code, Refused
from hipedge.locate import GivenHips, Located, locate
from hipedge.locate.learned import LearnedLocator
from hipedge.locate.upright import turn_upright
from hipedge.prepare import prepare_hips
from hipedge.types import CropGeometry, Film, Hip, Mark, Radiograph, Refusal, Sample


@dataclass(frozen=True, eq=False)
class Prepared:
    """A film on its way from a worker to the model: its hips, each seen one way or both."""

    film: Film
    hips: tuple[tuple[Hip, tuple[Sample, ...]], ...]
    marks: frozenset[Mark]
    timings_ms: Mapping[str, float]


@dataclass(frozen=True)
class Known:
    """A content that already has its row: nothing to do but note where it was seen again."""

    source: Path
    sha256: str


@dataclass(frozen=True)
class Front:
    """read → locate → prepare: what a worker process does with one path."""

    geometry: CropGeometry
    given_hips: GivenHips
    known: frozenset[str]
    locator: Path | None = None

    def __call__(self, path: Path) -> Prepared | Refusal | Known:
        """Return what became of the file: expected faults are values, never exceptions."""
        sha256, timings_ms = None, dict[str, float]()
        try:
            with timed("load", timings_ms):
                payload = load(path)
            with timed("hash", timings_ms):
                sha256 = payload.sha256
            if sha256 in self.known:
                return Known(path, sha256)
            with timed("read", timings_ms):
                radiograph = read(path, payload)
            with timed("locate", timings_ms):
                radiograph, located = self._locate(radiograph)
            with timed("prepare", timings_ms):
                samples = prepare_hips(radiograph, located.hips, self.geometry.size_px)
            hips = tuple(zip(located.hips, samples, strict=True))
            marks = radiograph.film.marks | located.marks
            return Prepared(radiograph.film, hips, marks, timings_ms)
        except Refused as refused:
            return Refusal(path, refused.code, refused.detail, sha256=sha256, timings_ms=timings_ms)
        except MemoryError:
            return Refusal(path, Code.TOO_LARGE, "needs more memory than it may have", sha256)
        except Exception as error:
            # A fault of ours must cost one film, not the night's run: it is stated in its row.
            return Refusal(path, Code.UNEXPECTED_ERROR, where(error), sha256=sha256)

    def _locate(self, radiograph: Radiograph) -> tuple[Radiograph, Located]:
        """Return the film upright, with its hips: as given, learned, or by a drawn pelvis."""
        given = self.given_hips.of(radiograph.film)
        if given or self.locator is None:
            return radiograph, locate(radiograph, self.geometry, given)
        find = open_locator(self.locator)
        overview = radiograph.overview
        spacing_mm = overview.spacing_mm(radiograph.film.spacing_mm)
        turns = find.quarter_turns(overview.pixels, spacing_mm)
        upright = turn_upright(radiograph, turns)
        return upright, locate(upright, self.geometry, find=find)


@lru_cache(maxsize=1)
def open_locator(path: Path) -> LearnedLocator:
    """Open a model's locator, once in a process; others do without its runtime."""
    from hipedge.backends.ort_locator import OrtLocator

    return LearnedLocator(OrtLocator(path))


@contextmanager
def timed(stage: str, timings_ms: dict[str, float]) -> Iterator[None]:
    """Note how long the block took, also where it raises."""
    start = time.perf_counter()
    try:
        yield
    finally:
        timings_ms[stage] = (time.perf_counter() - start) * 1e3


def where(error: BaseException) -> str:
    """Name an error's type and line, and nothing of its text, which could hold patient data."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"
