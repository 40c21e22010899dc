"""The first half of the pipeline, in a worker process: read → locate → prepare."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hipedge.dicom import load, read
from hipedge.errors import BackendError, Code, InstallationError, Refused
from hipedge.imaging.prepare import prepare_hips
from hipedge.locate import GivenHips, find_heads, locate
from hipedge.locate.learned import LearnedLocator, ScoreThumbnail
from hipedge.locate.rules import FindHeads
from hipedge.locate.upright import quarter_turns, turn_upright
from hipedge.types import CropGeometry, Film, Hip, Known, Mark, Radiograph, Refusal, Sample

if TYPE_CHECKING:
    # Worker processes import this module, and need no more of a model than its values.
    from hipedge.model import ModelFolder


@dataclass(frozen=True, eq=False)
class Prepared:
    """A preprocessed film: its hips, each with one sample, or with two if its side is unclear.

    `core_s` is the CPU time that it took; `timings_ms` are wall-clock times by stage.
    """

    film: Film
    hips: tuple[tuple[Hip, tuple[Sample, ...]], ...]
    marks: frozenset[Mark]
    timings_ms: Mapping[str, float]
    core_s: float = 0.0


@dataclass(frozen=True)
class Preprocessor:
    """read → locate → prepare: the function that worker processes apply to each path.

    `known` holds the names of contents that are recorded already; `locator` is the model's
    ONNX locator, None for the template of a pelvis. With `patient_key` films have a pseudonym of
    their patient, and `with_sha256` they have their SHA-256 beside the name of their content.
    """

    geometry: CropGeometry
    given_hips: GivenHips
    known: frozenset[str]
    locator: Path | None = None
    age_range_years: tuple[float, float] | None = None
    patient_key: bytes | None = None
    with_sha256: bool = False

    @classmethod
    def for_model(
        cls,
        model: ModelFolder,
        given_hips: GivenHips | None = None,
        known: frozenset[str] = frozenset(),
        patient_key: bytes | None = None,
        *,
        with_sha256: bool = False,
    ) -> Preprocessor:
        """Return the preprocessor that a model's card and locator ask for.

        Films also have their SHA-256 where hips are given by it.
        """
        card = model.card
        given = GivenHips() if given_hips is None else given_hips
        return cls(
            card.input,
            given,
            known,
            model.locator,
            card.age_range_years,
            patient_key,
            with_sha256 or given.by_sha256,
        )

    def __call__(self, path: Path) -> Prepared | Refusal | Known:
        """Return the outcome for one file. Expected faults are returned as `Refusal`s, not raised.

        Raises `InstallationError`, which would affect every film.
        """
        content_hash, sha256, film = None, None, None
        timings_ms = dict[str, float]()
        start_core = time.process_time()
        try:
            with timed("load", timings_ms):
                payload = load(path)
            with timed("hash", timings_ms):
                content_hash = payload.content_hash
                if self.with_sha256:
                    sha256 = payload.sha256
            if content_hash in self.known or sha256 in self.known:
                return Known(path, content_hash, sha256)
            with timed("read", timings_ms):
                radiograph = read(path, payload, self.patient_key)
            film = replace(radiograph.film, sha256=sha256)
            radiograph = replace(radiograph, film=film)
            with timed("locate", timings_ms):
                radiograph, find = self._upright(radiograph)
                film = radiograph.film
                located = locate(
                    radiograph,
                    self.geometry,
                    self.given_hips.of(film),
                    find=find,
                    age_range_years=self.age_range_years,
                )
            with timed("prepare", timings_ms):
                samples = prepare_hips(radiograph, located.hips, self.geometry.size_px)
            hips = tuple(zip(located.hips, samples, strict=True))
            core_s = time.process_time() - start_core
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

    def _upright(self, radiograph: Radiograph) -> tuple[Radiograph, FindHeads]:
        """Return the film rotated upright, and the function that finds its femoral heads.

        A film whose hips are given is not rotated, since their coordinates refer to it as it is.
        Its scale may need the locator, which is opened only then.
        """
        if self.locator is None:
            return radiograph, find_heads
        if self.given_hips.of(radiograph.film):
            locator = self.locator
            return radiograph, lambda pixels, spacing_mm: LearnedLocator(open_locator(locator))(
                pixels, spacing_mm
            )
        find = LearnedLocator(open_locator(self.locator))
        return turn_upright(radiograph, quarter_turns(radiograph, find.quarter_turns)), find


@lru_cache(maxsize=1)
def open_locator(path: Path) -> ScoreThumbnail:
    """Open a model's locator, once per process; without a locator ONNX Runtime is not imported.

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
