"""A real hip taken apart: its canvas, its landmarks, and the femur on the soft tissue behind it.

X-rays add up: on a film that is linear in the logarithm of exposure, a bone is what it adds to the
tissue before and behind it. So the femur's layer is the film less the tissue filled in from around
it; a fragment is moved by moving its share of that layer, and overlapping fragments add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hipedge.insertion.canvas import HEAD_PX, STEP_MM, Canvas
from hipedge.insertion.contour import Floats, outline_model
from hipedge.insertion.landmarks import Landmarks
from hipedge.insertion.sampling import Image, blurred, filled

# The head's radius in the phantoms, whose lesions are measured in mm at the hip, not on the film.
ANATOMICAL_RADIUS_MM = 23.5
EDGE_PX = 1.0  # over which the femur's layer fades
MARGIN_PX = 3.0  # by which the layer is wider than the outline, where that lies in soft tissue


@dataclass(frozen=True, eq=False)
class Hip:
    """A background, taken apart.

    `soft` is the canvas without the femur, `femur` (0 to 1) where that is. `landmarks` is None,
    and `soft` and `femur` mean nothing, for a hip that is only ever shown without a lesion. `grain`
    is the standard deviation of the film's finest detail.
    """

    canvas: Canvas
    landmarks: Landmarks | None
    soft: Image
    femur: Image
    grain: float

    @property
    def found(self) -> Landmarks:
        """The landmarks. Raises `ValueError` where this hip has none."""
        if self.landmarks is None:
            raise ValueError("this hip has no landmarks: nothing can be inserted")
        return self.landmarks

    @property
    def px_per_mm(self) -> float:
        """Pixels of the canvas per mm at the hip joint, by the size of the femoral head."""
        return self.found.radius_px / ANATOMICAL_RADIUS_MM

    @property
    def blur_px(self) -> float:
        """By how much the film is blurred (one standard deviation), guessed from its finest detail.

        What is inserted is blurred alike: an edge sharper than the film's would give it away.
        """
        return float(np.clip(1.65 - 0.35 * self.grain, 0.7, 1.5))

    @cached_property
    def polar(self) -> tuple[Image, Image]:
        """Distance in pixels and bearing in radians from the head's centre, of each pixel."""
        x, y = self.found.head_px if self.landmarks else HEAD_PX
        return polar_about(self.canvas.pixels.shape, x, y)


def take_apart(canvas: Canvas, landmarks: Landmarks | None) -> Hip:
    """Separate the femur's layer from the tissue behind it."""
    shape = canvas.pixels.shape
    if landmarks is None:
        return Hip(canvas, None, canvas.pixels, np.zeros(shape, np.float32), grain_of(canvas))
    femur = landmarks.femur_mask((shape[0], shape[1]))
    femur *= canvas.on_film
    # Beside the head lies the socket, beside the rest of the femur only tissue, which adds nothing.
    away = polar_about(shape, *landmarks.head_px)[0] / landmarks.radius_px
    beside_tissue = np.clip((away - 1.15) / 0.25, 0.0, 1.0)
    wide = np.maximum(femur, np.clip(4.0 * blurred(femur, MARGIN_PX), 0.0, 1.0) * beside_tissue)
    wide = blurred(wide, EDGE_PX)
    known = np.where(wide > 0.02, 0.0, 1.0).astype(np.float32) * canvas.on_film
    soft = filled(canvas.pixels, known)
    soft = np.where(known > 0, canvas.pixels, soft).astype(np.float32)
    return Hip(canvas, landmarks, soft, wide, grain_of(canvas))


def grain_of(canvas: Canvas) -> float:
    """Return the standard deviation of the film's finest detail, robustly: noise and sharpness."""
    detail = canvas.pixels - blurred(canvas.pixels, 1.0)
    return float(1.48 * np.median(np.abs(detail[canvas.on_film])))


def distance_from(shape: tuple[int, ...], x: float, y: float) -> Image:
    """Return the distance of each pixel from (x, y)."""
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(x)
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(y)
    return np.asarray(np.sqrt(dx * dx + dy * dy))


def polar_about(shape: tuple[int, ...], x: float, y: float) -> tuple[Image, Image]:
    """Return distance and bearing (0 to the right, -π/2 upwards) of each pixel from (x, y)."""
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(x)
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(y)
    return np.sqrt(dx * dx + dy * dy), np.arctan2(dy, dx)


def rigid(angle_rad: float, about: Floats, shift: Floats) -> Floats:
    """Return the matrix (2, 3) from a moved layer's positions back to where they came from.

    The layer is turned by `angle_rad` (clockwise on the image) about a point (2,), then shifted.
    """
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    back = np.array([[c, s], [-s, c]])
    return np.column_stack([back, about - back @ (about + shift)])


def nearest_example(found: Landmarks) -> tuple[int, float, float]:
    """Return which femur of the outline model is most like this one, its turn and its scale.

    The example's outline, turned and scaled by head radii, lies nearest to the hip's.
    """
    away = (found.outline - found.head) / found.radius_px
    best = (np.inf, 0, 0.0, 1.0)
    for number, example in enumerate(outline_model().examples):
        a = float((example.shape * away).sum())
        b = float((example.shape[:, 0] * away[:, 1] - example.shape[:, 1] * away[:, 0]).sum())
        turn = float(np.arctan2(b, a))
        scale = float(np.hypot(a, b) / (example.shape**2).sum())
        c, s = np.cos(turn) * scale, np.sin(turn) * scale
        error = float(((example.shape @ np.array([[c, s], [-s, c]]) - away) ** 2).sum())
        if error < best[0]:
            best = (error, number, turn, scale)
    return best[1:]


def mm(value_mm: float) -> float:
    """Return mm on the film in pixels of the canvas."""
    return value_mm / STEP_MM
