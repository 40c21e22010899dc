"""The first half of the pipeline, in a worker process: read → locate → prepare."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from hipedge.dicom.read import load, read
from hipedge.errors import BackendError, Code, InstallationError, Refused
from hipedge.imaging.prepare import prepare_hips
from hipedge.locate.heads import find_heads
from hipedge.locate.learned import LearnedLocator, ScoreThumbnail
from hipedge.locate.rules import FindHeads, locate
from hipedge.locate.upright import quarter_turns, turn_upright
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.types import Known, Radiograph, Refusal


def preprocess(task: Preprocessor, path: Path) -> Prepared | Refusal | Known:
    """Return the outcome for one file, as `Preprocessor` does."""
    content_hash, sha256, film = None, None, None
    timings_ms = dict[str, float]()
    # This thread does all the work. Where CPU time is limited, Linux advances the clock of the
    # process only at its ticks, every few milliseconds.
    start_core = time.thread_time()
    try:
        with timed("load", timings_ms):
            payload = load(path)
        with timed("hash", timings_ms):
            content_hash = payload.content_hash
            if task.with_sha256:
                sha256 = payload.sha256
        if content_hash in task.known or sha256 in task.known:
            return Known(path, content_hash, sha256)
        with timed("read", timings_ms):
            radiograph = read(path, payload, task.patient_key)
        film = replace(radiograph.film, sha256=sha256)
        radiograph = replace(radiograph, film=film)
        with timed("locate", timings_ms):
            radiograph, find = upright(task, radiograph)
            film = radiograph.film
            located = locate(
                radiograph,
                task.geometry,
                task.given_hips.of(film),
                find=find,
                age_range_years=task.age_range_years,
            )
        with timed("prepare", timings_ms):
            samples = prepare_hips(radiograph, located.hips, task.geometry.size_px)
        hips = tuple(zip(located.hips, samples, strict=True))
        core_s = time.thread_time() - start_core
        return Prepared(film, hips, radiograph.marks | located.marks, timings_ms, core_s)
    except Refused as refused:
        code, detail = refused.code, refused.detail
    except MemoryError:
        code, detail = Code.TOO_LARGE, "needs more memory than it may have"
    except InstallationError:
        raise
    except Exception as error:
        # A bug must cost one film, not the whole run: it is recorded in the film's row.
        code, detail = Code.UNEXPECTED_ERROR, error_location(error)
    marks = film.marks if film else frozenset()
    return Refusal(
        path,
        code,
        detail,
        content_hash=content_hash,
        film=film,
        marks=marks,
        timings_ms=timings_ms,
        sha256=sha256,
    )


def upright(task: Preprocessor, radiograph: Radiograph) -> tuple[Radiograph, FindHeads]:
    """Return the film rotated upright, and the function that finds its femoral heads.

    A film whose hips are given is not rotated, since their coordinates refer to it as it is.
    Its scale may need the locator, which is opened only then.
    """
    if task.locator is None:
        return radiograph, find_heads
    if task.given_hips.of(radiograph.film):
        locator = task.locator
        return radiograph, lambda pixels, spacing_mm: LearnedLocator(open_locator(locator))(
            pixels, spacing_mm
        )
    find = LearnedLocator(open_locator(task.locator))
    return turn_upright(radiograph, quarter_turns(radiograph, find.quarter_turns)), find


@lru_cache(maxsize=1)
def open_locator(path: Path) -> ScoreThumbnail:
    """Open a model's locator, once per process.

    ONNX Runtime is imported here, as a process without a locator may do without it.
    Raises `InstallationError` where it cannot be opened.
    """
    from hipedge.locate.session import OnnxLocator

    try:
        return OnnxLocator(path)
    except BackendError as error:
        raise InstallationError(f"the model's locator cannot be used here: {error}") from error


@contextmanager
def timed(stage: str, timings_ms: dict[str, float]) -> Iterator[None]:
    """Add the duration of the block to `timings_ms`, also where it raises."""
    start = time.perf_counter()
    try:
        yield
    finally:
        timings_ms[stage] = (time.perf_counter() - start) * 1e3


def error_location(error: BaseException) -> str:
    """Return an error's type, file and line. Its message is left out: it may hold patient data."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"
