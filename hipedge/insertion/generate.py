"""Training samples: crops of real hips, with or without an inserted lesion, as network input.

A sample depends on its seed only, so it is reproducible at any time and in any process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InputError
from hipedge.imaging.prepare import to_bytes
from hipedge.insertion.backgrounds import Background, Backgrounds
from hipedge.insertion.canvas import HEAD_PX, STEP_MM
from hipedge.insertion.contour import Floats
from hipedge.insertion.harmless import redrawn
from hipedge.insertion.hip import Hip, distance_from
from hipedge.insertion.lesions import insert_lesion
from hipedge.insertion.manifest import AgeClass
from hipedge.insertion.sampling import Image, averaged, blurred, sampled, smooth_noise
from hipedge.phantom.patient import CATEGORY_SHARES, GRADE_SHARES
from hipedge.types import CATEGORIES, Category, CropGeometry

# A pixel belongs to the mask of the lesion if the lesion changed it by more than this (of 255)...
CHANGED = 5.0
# ...and if it lies within this distance of the lesion's site. A fragment that is moved as a whole
# also changes pixels at its far end, which no reader would mark.
SITE_REACH_MM: Mapping[Category, float] = {
    Category.OSTEOARTHRITIS: 42.0,
    Category.FEMORAL_HEAD_OSTEONECROSIS: 34.0,
    Category.FEMORAL_NECK_FRACTURE: 48.0,
    Category.INTERTROCHANTERIC_FRACTURE: 48.0,
    Category.DEVELOPMENTAL_DYSPLASIA: 50.0,
    Category.TOTAL_HIP_ARTHROPLASTY: np.inf,
    Category.INTERNAL_FIXATION: np.inf,
}
UNCHANGED = "kl0"  # the grade of a normal hip without any sign
PLACE_ERROR_MM = 3.0
SCALE_ERROR = 0.035
TURN_DEG = 2.5
SHARE_COLLIMATED = 0.12
SHARE_SHADED = 0.3


@dataclass(frozen=True, eq=False)
class InsertedSample:
    """A sample: pixels uint8 (1, S, S), oriented as a right hip, with its ground truth.

    `mask` is bool (1, S, S): the pixels changed by the lesion, empty for a normal hip. `background`
    is the origin of the hip.
    """

    pixels: NDArray[np.uint8]
    category: Category
    grade: str
    mask: NDArray[np.bool_]
    background: Background


@dataclass(frozen=True)
class DrawInserted:
    """Generator of samples on the backgrounds of one split, with crops of `geometry`.

    When called with a `SeedSequence`, it returns what `hipedge.train.samples.SimulatedSamples`
    expects: a crop, its category and the lesion's mask. `shares` is the
    relative frequency of each category. The hip of a child is always normal. Raises `InputError` if
    the split has no adult hip.
    """

    backgrounds: Backgrounds
    geometry: CropGeometry
    split: str = "train"
    shares: Mapping[Category, float] = field(default_factory=lambda: CATEGORY_SHARES)

    def __post_init__(self) -> None:
        if not len(self._adults()):
            raise InputError(f"no background of an adult in the split {self.split}")

    def __call__(
        self, seed: np.random.SeedSequence
    ) -> tuple[NDArray[np.uint8], int, NDArray[np.bool_]]:
        """Return a crop uint8 (1, S, S), its category as an index, and its mask, bool (1, S, S)."""
        sample = self.sample(seed)
        return sample.pixels, CATEGORIES.index(sample.category), sample.mask

    def sample(
        self,
        seed: np.random.SeedSequence | int,
        *,
        category: Category | None = None,
        grade: str | None = None,
        background: int | None = None,
    ) -> InsertedSample:
        """Return one sample; category, grade and background are drawn unless given."""
        rng = np.random.default_rng(seed)
        category = category or _drawn(self.shares, rng)
        number = self._drawn_background(category, grade, rng) if background is None else background
        hip = self.backgrounds.hip(number)
        grade = grade or _drawn_grade(category, hip, rng)
        pixels, mask = draw(hip, self.geometry, category, grade, rng)
        return InsertedSample(pixels, category, grade, mask, self.backgrounds.hips[number])

    def samples(self, seed: int, count: int, first: int = 0) -> Iterator[InsertedSample]:
        """Yield the samples `first` to `first` + `count` − 1 of a seed."""
        for number in range(first, first + count):
            yield self.sample(np.random.SeedSequence((seed, number)))

    def untouched(self, seed: np.random.SeedSequence | int, background: int) -> NDArray[np.uint8]:
        """Return a crop uint8 (1, S, S) of an unchanged background, placed like a sample."""
        rng = np.random.default_rng(seed)
        hip = self.backgrounds.hip(background)
        matrix = _drawn_place(self.geometry, np.zeros(2), rng)
        return _cropped(hip, hip.canvas.pixels, matrix, self.geometry.size_px, rng)[None]

    def original(self, background: int) -> NDArray[np.uint8]:
        """Return the exact crop uint8 (1, S, S) of a background, without any change."""
        canvas = self.backgrounds.hip(background).canvas
        still = np.zeros(canvas.pixels.shape, np.float32)
        matrix = _placed(self.geometry, np.zeros(2), np.zeros(2), 1.0, 0.0)
        shown = np.where(canvas.on_film, canvas.pixels, np.nan).astype(np.float32)
        size = self.geometry.size_px
        return to_bytes(averaged(shown, matrix, still, still, (size, size), _taps(matrix)))[None]

    def _adults(self) -> NDArray[np.int64]:
        hips = self.backgrounds.hips
        numbers = self.backgrounds.of(self.split)
        adult = [hips[number].age_class is AgeClass.ADULT for number in numbers]
        return np.asarray(numbers[np.array(adult, bool)])

    def _drawn_background(
        self, category: Category, grade: str | None, rng: np.random.Generator
    ) -> int:
        any_age = category is Category.NORMAL and grade in (None, UNCHANGED)
        return int(rng.choice(self.backgrounds.of(self.split) if any_age else self._adults()))


def _drawn(shares: Mapping[Category, float], rng: np.random.Generator) -> Category:
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _drawn_grade(category: Category, hip: Hip, rng: np.random.Generator) -> str:
    if hip.landmarks is None:
        return UNCHANGED
    shares = GRADE_SHARES[category]
    return str(rng.choice(list(shares), p=list(shares.values())))


def draw(
    hip: Hip,
    geometry: CropGeometry,
    category: Category,
    grade: str,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a crop uint8 (1, S, S) of a hip with this lesion, and the lesion's mask (1, S, S)."""
    before = redrawn(hip, rng)
    inserted = insert_lesion(hip, before, category, grade, rng)
    after = inserted.pixels
    changed = _site(hip, category, np.abs(after - before) > CHANGED, inserted.head_shift)
    matrix = _drawn_place(geometry, inserted.head_shift, rng)
    pixels = _cropped(hip, after, matrix, geometry.size_px, rng)
    share = sampled(blurred(changed.astype(np.float32), 2.0), matrix, geometry.size_px)
    return pixels[None], (share > 0.4)[None]


def _site(
    hip: Hip, category: Category, changed: NDArray[np.bool_], head_shift: Floats
) -> NDArray[np.bool_]:
    """Restrict the changed pixels to the lesion's site; the result is empty for a normal hip."""
    if category is Category.NORMAL:
        return np.zeros_like(changed)
    found = hip.found
    middle = found.head
    if category is Category.INTERTROCHANTERIC_FRACTURE:
        middle = (found.greater_trochanter + found.lesser_trochanter) / 2
    elif category is Category.FEMORAL_NECK_FRACTURE:
        middle = found.head + 0.9 * found.radius_px * found.neck_axis
    reach = SITE_REACH_MM[category] / STEP_MM
    near = distance_from(changed.shape, *middle) < reach
    if head_shift.any():
        near |= distance_from(changed.shape, *(middle + head_shift)) < reach
    return changed & near


def _drawn_place(
    geometry: CropGeometry, head_shift: Floats, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the placement of a crop, with errors of some millimetres and a few percent.

    These errors are like those of the locator.
    """
    away = rng.normal(0.0, PLACE_ERROR_MM, 2) / STEP_MM
    scale = float(np.exp(rng.normal(0.0, SCALE_ERROR)))
    return _placed(geometry, head_shift, away, scale, float(np.radians(rng.normal(0.0, TURN_DEG))))


def _placed(
    geometry: CropGeometry, head_shift: Floats, away: Floats, scale: float, angle: float
) -> NDArray[np.float64]:
    """Return the matrix (2, 3) that maps positions in a crop to positions on the canvas."""
    step = geometry.crop_mm / geometry.size_px / STEP_MM * scale
    c, s = step * np.cos(angle), step * np.sin(angle)
    linear = np.array([[c, -s], [s, c]])
    lateral, distal = geometry.lateral_mm / STEP_MM, geometry.distal_mm / STEP_MM
    middle = np.array(HEAD_PX) + head_shift + [-lateral, distal] + away
    half = geometry.size_px / 2
    return np.column_stack([linear, middle - linear @ [half, half]])


def _taps(matrix: NDArray[np.float64]) -> int:
    """Return the samples per axis to average for each crop pixel: about one per canvas pixel."""
    return max(1, round(float(np.hypot(*matrix[:, 0]))))


def _cropped(
    hip: Hip, image: Image, matrix: NDArray[np.float64], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Resample to a crop (S, S), with random shading and collimation."""
    on_film = _collimated(hip.canvas.on_film, rng)
    flat = (image.shape[0], image.shape[1])
    bend = [
        np.float32(rng.uniform(0.0, 0.8)) * smooth_noise(rng, flat, rng.uniform(25, 60))
        for _ in range(2)
    ]
    shown = np.where(on_film, image, np.nan).astype(np.float32)
    square = averaged(shown, matrix, bend[0], bend[1], (size, size), _taps(matrix))
    if np.isnan(square).all():
        raise ValueError("the crop lies outside the film")
    if rng.random() < SHARE_SHADED:
        square = square + np.float32(rng.uniform(2, 14)) * smooth_noise(rng, (size, size), size / 2)
    return to_bytes(np.asarray(square, np.float32))


def _collimated(on_film: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a narrower collimation for some of the samples; the joint remains within the field.

    Pixels outside the field are marked as not on the film, so they become black.
    """
    if rng.random() >= SHARE_COLLIMATED:
        return on_film
    x, y = (round(v) for v in HEAD_PX)
    edges = rng.uniform(45.0, 110.0, 4) / STEP_MM
    out = np.zeros_like(on_film)
    top, bottom = max(0, y - round(edges[0])), y + round(max(edges[1], 70.0 / STEP_MM))
    left, right = max(0, x - round(max(edges[2], 60.0 / STEP_MM))), x + round(edges[3])
    out[top:bottom, left:right] = True
    return np.asarray(out & on_film)
