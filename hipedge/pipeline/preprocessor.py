"""What a worker process is told to do with each path, and what it returns of a film.

The main process imports this module and not `preprocess`, which does the work: the readers of
films take longer to import than a film to read, and only worker processes need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hipedge.locate.given import GivenHips
from hipedge.pipeline.fork_server import SCREENING
from hipedge.types import CropGeometry, Film, Hip, Known, Mark, Refusal, Sample

if TYPE_CHECKING:
    # Worker processes import this module too, and need no more of a model than its values.
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

    imports: ClassVar[tuple[str, ...]] = SCREENING

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
        from hipedge.pipeline.preprocess import preprocess

        return preprocess(self, path)
