"""The values that travel down the line, from `Film` to `Outcome`.

All are frozen. A stage takes the value of the stage before it and returns the next one.

Image coordinates, wherever they appear: x to the right, y down, in pixels, measured from the
outer corner of the first pixel, whose centre is therefore (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import CODES, Code, Stage, State


class Category(str, Enum):
    """The eight categories of the study; `docs/categories.md` says what each means here.

    The order is the order of the classifier's outputs.
    """

    NORMAL = "normal"
    OSTEOARTHRITIS = "osteoarthritis"
    FEMORAL_HEAD_OSTEONECROSIS = "femoral_head_osteonecrosis"
    FEMORAL_NECK_FRACTURE = "femoral_neck_fracture"
    INTERTROCHANTERIC_FRACTURE = "intertrochanteric_fracture"
    DEVELOPMENTAL_DYSPLASIA = "developmental_dysplasia"
    TOTAL_HIP_ARTHROPLASTY = "total_hip_arthroplasty"
    INTERNAL_FIXATION = "internal_fixation"


CATEGORIES: tuple[Category, ...] = tuple(Category)
ABNORMAL = tuple(category for category in CATEGORIES if category is not Category.NORMAL)


# What a film is searched for hips at: no locator looks at more.
OVERVIEW_PX = 256


class Side(str, Enum):
    """The patient's side, never the image's."""

    RIGHT = "right"
    LEFT = "left"
    UNKNOWN = "unknown"


class Laterality(str, Enum):
    """Image Laterality (0020,0062), PS3.3 C.7.6.1.1.1: R, L, U (unpaired) or B (both)."""

    RIGHT = "R"
    LEFT = "L"
    UNPAIRED = "U"
    BOTH = "B"


class View(str, Enum):
    """How the ray went through the patient, where the header says so."""

    FRONTAL = "frontal"
    LATERAL = "lateral"
    UNKNOWN = "unknown"


class Priority(str, Enum):
    """How soon a doctor should see a hip, soonest first."""

    URGENT = "urgent"
    ROUTINE = "routine"
    RECORDED = "recorded"
    NONE = "none"


class Mark(str, Enum):
    """What a person must know about a film. A mark never keeps a film from being read."""

    CONFLICT = "conflict"
    HEADER_DISAGREES = "header_disagrees"
    # Several exposures in one picture, or a long film: there may be hips that were not found.
    HIPS_MAY_BE_MISSING = "hips_may_be_missing"
    ONE_HIP_FOUND = "one_hip_found"
    OUTSIDE_POPULATION = "outside_population"
    POLYGLOT = "polyglot"
    SIDE_UNCLEAR = "side_unclear"
    # The scale is not the header's: that contradicts the anatomy, or nothing on the film gave one.
    SPACING_DOUBTFUL = "spacing_doubtful"
    # Counterclockwise, for the network; the film's coordinates are those of the turned image.
    TURNED_90 = "turned_90"
    TURNED_180 = "turned_180"
    TURNED_270 = "turned_270"


# What the hash of a codestream begins with: it and that of values cannot be compared.
CODESTREAM_HASH = "codestream:"


@dataclass(frozen=True)
class Film:
    """What a file says of itself, without its pixels: small, so it crosses processes and is stored.

    `spacing_mm` is (between rows, between columns) in the plane of the hip joints as far as the
    header allows, or None where it gives nothing believable. `orientation` is Patient
    Orientation (0020,0020): the direction of the rows (to the right), then of the columns (down).
    `inverted` says that stored values are shown upside down (MONOCHROME1).
    `pixel_hash` is BLAKE3's of the stored values, the same in every lossless encoding; of a film
    that is decoded only in part (JPEG 2000, HTJ2K), `CODESTREAM_HASH` and that of its codestream,
    which says nothing about equality with a film of another encoding.
    """

    source: Path
    sha256: str
    pixel_hash: str
    shape: tuple[int, int]
    transfer_syntax_uid: str | None = None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    modality: str | None = None
    view: View = View.UNKNOWN
    laterality: Laterality | None = None
    orientation: tuple[str, str] | None = None
    inverted: bool = False
    spacing_mm: tuple[float, float] | None = None
    age_years: float | None = None
    sex: str | None = None
    manufacturer: str | None = None
    marks: frozenset[Mark] = frozenset()


@dataclass(frozen=True)
class Box:
    """A rectangle in image coordinates; it may reach beyond the image."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Extent along x, in pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Extent along y, in pixels."""
        return self.y1 - self.y0


@dataclass(frozen=True, eq=False)
class Area:
    """Part of a film at some resolution: uint16 (h, w), and where its pixels lie on the film.

    Its pixels are squares of `step_px`, a power of two, of the film's: a point (x, y) of the area
    is at `origin_px` + `step_px` × (x, y) of the film.
    """

    pixels: NDArray[np.uint16]
    origin_px: tuple[float, float] = (0.0, 0.0)
    step_px: int = 1

    def on_film(self, point: tuple[float, float]) -> tuple[float, float]:
        """Return where a point (x, y) of the area lies on the film."""
        x, y = self.origin_px
        return x + self.step_px * point[0], y + self.step_px * point[1]

    def spacing_mm(self, film_mm: tuple[float, float] | None) -> tuple[float, float] | None:
        """Return how far the area's pixels are apart (rows, columns) by how far the film's are."""
        return film_mm and (film_mm[0] * self.step_px, film_mm[1] * self.step_px)


class Pixels(Protocol):
    """A film's pixels, decoded when they are asked for and as far: bone bright, 0 to 65535."""

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), over the VOI's output range."""

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, which meets it, no coarser than `step_px`.

        The area reaches beyond the box, as far as the film does. Its brightness and contrast may be
        others than those of the whole.
        """


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A film and its pixels. To ask for pixels can raise `Refused`: `decode_failed`."""

    film: Film
    source: Pixels

    @property
    def pixels(self) -> NDArray[np.uint16]:
        """All pixels: uint16 (H, W), bone bright, 0 to 65535 over the VOI's output range."""
        return self.source.whole()

    @cached_property
    def overview(self) -> Area:
        """Return the whole film, at least `OVERVIEW_PX` along its longer side if it has as many."""
        height, width = self.film.shape
        step_px = max(height, width) / OVERVIEW_PX
        return self.source.area(Box(0.0, 0.0, width, height), step_px)


@dataclass(frozen=True)
class CropGeometry:
    """What the network sees of a hip: a square of `crop_mm`, resampled to `size_px` pixels.

    The square's centre lies `lateral_mm` and `distal_mm` from the femoral head's centre, so that
    the trochanters are in it too.
    """

    size_px: int
    crop_mm: float
    lateral_mm: float
    distal_mm: float


@dataclass(frozen=True)
class Hip:
    """One hip on a film: the patient's side, the femoral head's centre (x, y) and the crop's box.

    `mirrored` says that the network sees it flipped left to right, as every left hip is. A hip of
    unknown side is seen both ways; its own `mirrored` is False.
    """

    side: Side
    centre_px: tuple[float, float]
    box: Box
    confidence: float
    mirrored: bool


@dataclass(frozen=True, eq=False)
class Sample:
    """What the network sees: uint8 (1, S, S), and the 3×3 affine from there back to the film."""

    pixels: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """What the network says of one sample: logits (K,) and their activation maps (K, h, w).

    The sum of a map is its logit less the bias: a map shows where the logit came from.
    """

    logits: NDArray[np.float32]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """What was decided about one hip.

    `probabilities` are calibrated and in the order of `CATEGORIES`. For a hip of unknown side
    each is the higher of both ways it was seen (for normal the lower), so they need not sum to one.
    """

    category: Category
    probabilities: tuple[float, ...]
    flagged_for: tuple[Category, ...]
    uncertain: bool
    priority: Priority
    operating_point: str

    @property
    def flagged(self) -> bool:
        """Whether a doctor should see this hip."""
        return bool(self.flagged_for) or self.uncertain


@dataclass(frozen=True, eq=False)
class ScoredHip:
    """A hip with the scores of each way it was seen: one, or for an unknown side two."""

    hip: Hip
    scores: tuple[Scores, ...]


@dataclass(frozen=True, eq=False)
class Screened:
    """A film that was read: its hips with their scores and findings, and its marks."""

    film: Film
    hips: tuple[ScoredHip, ...]
    findings: tuple[Finding, ...]
    marks: frozenset[Mark]
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Refusal:
    """A file that was not read, and why. Never a negative result: work for a human.

    `film` is known where the header could be read. `detail` holds no patient data.
    """

    source: Path
    code: Code
    detail: str = ""
    sha256: str | None = None
    film: Film | None = None
    marks: frozenset[Mark] = frozenset()
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_duplicate(cls, film: Film, timings_ms: Mapping[str, float]) -> Refusal:
        """Refuse a film that was read, because one with its UID and pixels has been recorded."""
        return cls(
            film.source,
            Code.SAME_PIXELS,
            sha256=film.sha256,
            film=film,
            marks=film.marks,
            timings_ms=timings_ms,
        )

    @property
    def stage(self) -> Stage:
        """The stage of the line that refused."""
        return CODES[self.code].stage

    @property
    def state(self) -> State:
        """The terminal state of the file."""
        return CODES[self.code].state


Outcome = Screened | Refusal
