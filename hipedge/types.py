"""The values that pass through the pipeline, from `Film` to `Outcome`.

All are frozen dataclasses. Each stage takes the value of the stage before it and returns the next.

Image coordinates, wherever they appear: x to the right, y down, in pixels, measured from the
outer corner of the first pixel, whose centre is therefore (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import CODES, Code, Stage, State


class Priority(str, Enum):
    """How soon a doctor should see a hip, the most urgent first."""

    URGENT = "urgent"
    ROUTINE = "routine"
    RECORDED = "recorded"
    NONE = "none"


class Category(str, Enum):
    """The categories of a hip; `docs/categories.md` defines each of them.

    Their order is that of the classifier's outputs. `priority` says how soon a doctor should
    see a hip that is flagged for the category; `is_acute_fracture` counts it among the acute
    fractures, which operating points are fitted to and evaluations ask for.
    """

    _value_: str
    priority: Priority
    is_acute_fracture: bool

    def __new__(  # noqa: D102
        cls, value: str, priority: Priority = Priority.NONE, is_acute_fracture: bool = False
    ) -> Category:
        category = str.__new__(cls, value)
        category._value_ = value
        category.priority = priority
        category.is_acute_fracture = is_acute_fracture
        return category

    NORMAL = "normal", Priority.NONE
    OSTEOARTHRITIS = "osteoarthritis", Priority.ROUTINE
    FEMORAL_HEAD_OSTEONECROSIS = "femoral_head_osteonecrosis", Priority.ROUTINE
    FEMORAL_NECK_FRACTURE = "femoral_neck_fracture", Priority.URGENT, True
    INTERTROCHANTERIC_FRACTURE = "intertrochanteric_fracture", Priority.URGENT, True
    DEVELOPMENTAL_DYSPLASIA = "developmental_dysplasia", Priority.ROUTINE
    TOTAL_HIP_ARTHROPLASTY = "total_hip_arthroplasty", Priority.RECORDED
    INTERNAL_FIXATION = "internal_fixation", Priority.RECORDED


CATEGORIES: tuple[Category, ...] = tuple(Category)
ABNORMAL = tuple(category for category in CATEGORIES if category is not Category.NORMAL)
ACUTE_FRACTURES = tuple(category for category in CATEGORIES if category.is_acute_fracture)
# Implants: recorded, and flagged only where a site asks for it.
HARDWARE = tuple(c for c in CATEGORIES if c.priority is Priority.RECORDED)


# The resolution at which hips are searched for; no locator uses a higher one.
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
    """The projection, where the header gives it."""

    FRONTAL = "frontal"
    LATERAL = "lateral"
    UNKNOWN = "unknown"


class FlagCriterion(str, Enum):
    """What a category's threshold is compared with.

    `PROBABILITY` is the category's probability among all categories. `AGAINST_NORMAL` compares it
    mainly with normal: p / (p + p_normal + w p_others), where w is `OTHER_WEIGHT`. It hardly falls
    where the model hesitates between two abnormal categories, yet a category that is improbable
    itself does not flag only because normal is improbable too.
    """

    PROBABILITY = "probability"
    AGAINST_NORMAL = "against_normal"


# How much the probability of another abnormal category counts beside that of normal. At 0, hips
# that surely have an implant are flagged as fractured whenever normal is as improbable as a
# fracture; at 1, hesitation between two fractures flags neither. Chosen on the calibration hips of
# the reference model, where it costs no sensitivity: of hips with implants 100 % got an urgent flag
# at 0, and none does at 0.1.
OTHER_WEIGHT = 0.1


class Mark(str, Enum):
    """Something that a person must know about a film. A mark never prevents screening."""

    CONFLICT = "conflict"
    DAMAGED_PIXELS = "damaged_pixels"
    HEADER_DISAGREES = "header_disagrees"
    # Several exposures in one picture, or a long film: there may be hips that were not found.
    HIPS_MAY_BE_MISSING = "hips_may_be_missing"
    MORE_PICTURES = "more_pictures"
    ONE_HIP_FOUND = "one_hip_found"
    OUTSIDE_POPULATION = "outside_population"
    POLARITY_DOUBTFUL = "polarity_doubtful"
    POLYGLOT = "polyglot"
    SIDE_UNCLEAR = "side_unclear"
    # The scale is not the header's: that contradicts the anatomy, or nothing on the film gave one.
    SPACING_DOUBTFUL = "spacing_doubtful"
    # The film was rotated counterclockwise; all its coordinates are those of the rotated image.
    TURNED_90 = "turned_90"
    TURNED_180 = "turned_180"
    TURNED_270 = "turned_270"
    # The header's window or VOI LUT shows nothing of the film, so it was not used.
    WINDOW_UNUSABLE = "window_unusable"


# Prefix of the hash of a codestream, which cannot be compared with a hash of pixel values.
CODESTREAM_HASH = "codestream:"


@dataclass(frozen=True)
class Film:
    """The metadata of a film, without its pixels: small enough to pass between processes.

    `spacing_mm` is the pixel spacing (between rows, between columns) in the plane of the hip
    joints, as far as the header allows, or None if it has no plausible value. `orientation` is
    Patient Orientation (0020,0020): the direction of the rows (to the right), then of the columns
    (down). `inverted` means that low stored values are displayed bright (MONOCHROME1).
    `pixel_hash` is the BLAKE3 hash of the stored values, which is the same in every lossless
    encoding. For a film that is decoded only in part (JPEG 2000, HTJ2K) it is `CODESTREAM_HASH`
    followed by the hash of the codestream. Whether such a film equals one of another encoding,
    `overview_hash` tells: the BLAKE3 hash of the stored values at a low resolution, which is the
    same in every lossless encoding; None where there is no such resolution. `content_hash` names
    the file's content (`hipedge.content`), and `sha256` is its SHA-256 where that was asked for.
    `patient` is a pseudonym that all films of a patient share, and `studied_on` the date of the
    study: both only where a site has asked for it, and None else.
    """

    source: Path
    content_hash: str
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
    overview_hash: str | None = None
    patient: str | None = None
    studied_on: date | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Box:
    """A rectangle in image coordinates; it may extend beyond the image."""

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
    """Part of a film at a resolution: uint16 (h, w), and the position of its pixels on the film.

    Each pixel of the area covers a square of `step_px` × `step_px` pixels of the film, where
    `step_px` is a power of two: a point (x, y) of the area lies at `origin_px` + `step_px` × (x, y)
    on the film.
    """

    pixels: NDArray[np.uint16]
    origin_px: tuple[float, float] = (0.0, 0.0)
    step_px: int = 1

    def on_film(self, point: tuple[float, float]) -> tuple[float, float]:
        """Convert a point (x, y) of the area to film coordinates."""
        x, y = self.origin_px
        return x + self.step_px * point[0], y + self.step_px * point[1]

    def spacing_mm(self, film_mm: tuple[float, float] | None) -> tuple[float, float] | None:
        """Return the pixel spacing (rows, columns) of the area, given that of the film."""
        return film_mm and (film_mm[0] * self.step_px, film_mm[1] * self.step_px)


class Pixels(Protocol):
    """The pixels of a film, decoded on demand and only as needed: bone bright, 0 to 65535."""

    @property
    def damaged(self) -> bool:
        """Whether the decoder noticed damage to what has been asked for so far."""

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), scaled to the output range of the VOI transformation."""

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, at half of `step_px` or finer.

        `box` must overlap the film. The area may extend beyond the box, but not beyond the film.
        Its brightness and contrast may differ from those of `whole`, but are the same in every
        lossless encoding of a film.
        """


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A film and its pixels. Accessing pixels can raise `Refused` (`decode_failed`)."""

    film: Film
    source: Pixels

    @property
    def pixels(self) -> NDArray[np.uint16]:
        """All pixels: uint16 (H, W), bone bright, 0 to 65535 over the output range of the VOI."""
        return self.source.whole()

    @property
    def marks(self) -> frozenset[Mark]:
        """The film's marks, and that its pixels are damaged, as far as they have been decoded."""
        damaged = frozenset({Mark.DAMAGED_PIXELS}) if self.source.damaged else frozenset()
        return self.film.marks | damaged

    @cached_property
    def overview(self) -> Area:
        """The whole film, reduced to `OVERVIEW_PX` or more pixels along its longer side."""
        height, width = self.film.shape
        step_px = max(height, width) / OVERVIEW_PX
        return self.source.area(Box(0.0, 0.0, width, height), step_px)


@dataclass(frozen=True)
class CropGeometry:
    """The crop that the network sees: a square of `crop_mm`, resampled to `size_px` pixels.

    The centre of the square lies `lateral_mm` lateral and `distal_mm` distal of the centre of the
    femoral head, so that the crop includes the trochanters.
    """

    size_px: int
    crop_mm: float
    lateral_mm: float
    distal_mm: float


@dataclass(frozen=True)
class Hip:
    """One hip on a film: the patient's side, the centre (x, y) of the femoral head, the crop's box.

    `mirrored` means that the crop is flipped horizontally for the network, as that of every left
    hip is. A hip of unknown side is scored both ways; its `mirrored` is False.
    """

    side: Side
    centre_px: tuple[float, float]
    box: Box
    confidence: float
    mirrored: bool


@dataclass(frozen=True, eq=False)
class Sample:
    """A crop as network input: uint8 (1, S, S), and the 3×3 affine matrix from crop to film."""

    pixels: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """The network's output for one sample: logits (K,) and activation maps (K, h, w).

    The sum over a map is its logit less the bias: the map shows where the logit comes from.
    """

    logits: NDArray[np.float32]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """What was decided about one hip.

    `category` is the most probable one. `probabilities` are calibrated and in the order of
    `CATEGORIES`. A hip of unknown side is scored both ways, and each probability is the higher of
    the two (for normal the lower), so they need not sum to one. `uncertain` means that the highest
    probability is below the model's `min_confidence`.
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
    """A hip with its scores: one, or two (plain and mirrored) if its side is unknown."""

    hip: Hip
    scores: tuple[Scores, ...]


@dataclass(frozen=True, eq=False)
class Screened:
    """A film that was screened: its hips with their scores and findings, and its marks."""

    film: Film
    hips: tuple[ScoredHip, ...]
    findings: tuple[Finding, ...]
    marks: frozenset[Mark]
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """The file that was screened."""
        return self.film.source

    @property
    def content_hash(self) -> str:
        """The name of the file's content."""
        return self.film.content_hash

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file's content, where it was asked for."""
        return self.film.sha256


@dataclass(frozen=True, eq=False)
class Refusal:
    """A file that was not screened, and why. Never a negative result: a person must look at it.

    `film` is None if the header could not be read. `detail` holds no patient data. `content_hash`
    is None if the file could not be read, and `sha256` also where it was not asked for.
    """

    source: Path
    code: Code
    detail: str = ""
    content_hash: str | None = None
    film: Film | None = None
    marks: frozenset[Mark] = frozenset()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    sha256: str | None = None

    @classmethod
    def of_duplicate(cls, film: Film, timings_ms: Mapping[str, float]) -> Refusal:
        """Return the refusal of a film whose UID and pixels are those of a recorded one."""
        return cls(
            film.source,
            Code.SAME_PIXELS,
            content_hash=film.content_hash,
            film=film,
            marks=film.marks,
            timings_ms=timings_ms,
            sha256=film.sha256,
        )

    @property
    def stage(self) -> Stage:
        """The stage of the pipeline that refused the file."""
        return CODES[self.code].stage

    @property
    def state(self) -> State:
        """The terminal state of the file."""
        return CODES[self.code].state


@dataclass(frozen=True)
class Known:
    """A file whose content is recorded already: only its path is to be added."""

    source: Path
    content_hash: str
    sha256: str | None = None


Outcome = Screened | Refusal
