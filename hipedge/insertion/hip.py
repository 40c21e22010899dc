"""Decomposition of a real hip into its canvas, landmarks, femur layer and the tissue behind it.

Attenuation is additive: on an image that is linear in the logarithm of exposure, a bone adds its
contribution to that of the tissue in front of and behind it. The femur's layer is therefore the
image minus the tissue, which is filled in from the surroundings. A fragment is moved by moving its
part of that layer, and overlapping fragments are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hipedge.insertion.canvas import HEAD_PX, STEP_MM, Canvas
from hipedge.insertion.contour import Floats, outline_model
from hipedge.insertion.landmarks import Landmarks
from hipedge.insertion.sampling import Image, blurred, filled

# Head radius of the phantoms, whose lesions are given in mm at the hip and not on the detector.
ANATOMICAL_RADIUS_MM = 23.5
EDGE_PX = 1.0  # width over which the femur's layer fades out
MARGIN_PX = 3.0  # margin of the layer around the outline where this borders on soft tissue


@dataclass(frozen=True, eq=False)
class Hip:
    """A background separated into the femur and the other tissue.

    `soft` is the canvas without the femur, and `femur` (0 to 1) is the mask of the femur. For a hip
    that is only ever shown without a lesion, `landmarks` is None, and `soft` and `femur` are
    meaningless. `grain` is the standard deviation of the finest detail of the image.
    """

    canvas: Canvas
    landmarks: Landmarks | None
    soft: Image
    femur: Image
    grain: float

    @property
    def found(self) -> Landmarks:
        """The landmarks. Raises `ValueError` if this hip has no landmarks."""
        if self.landmarks is None:
            raise ValueError("this hip has no landmarks: nothing can be inserted")
        return self.landmarks

    @property
    def px_per_mm(self) -> float:
        """Canvas pixels per mm at the hip joint, estimated from the size of the femoral head."""
        return self.found.radius_px / ANATOMICAL_RADIUS_MM

    @property
    def blur_px(self) -> float:
        """The blur of the image (standard deviation), estimated from its finest detail.

        Inserted structures are blurred by the same amount, since sharper edges than those of the
        image would reveal them.
        """
        return float(np.clip(1.65 - 0.35 * self.grain, 0.7, 1.5))

    @cached_property
    def polar(self) -> tuple[Image, Image]:
        """Distance in pixels and bearing in radians from the head's centre, of each pixel."""
        x, y = self.found.head_px if self.landmarks else HEAD_PX
        return polar_about(self.canvas.pixels.shape, x, y)


def take_apart(canvas: Canvas, landmarks: Landmarks | None) -> Hip:
    """Separate the femur's layer from the other tissue."""
    shape = canvas.pixels.shape
    if landmarks is None:
        return Hip(canvas, None, canvas.pixels, np.zeros(shape, np.float32), grain_of(canvas))
    femur = landmarks.femur_mask((shape[0], shape[1]))
    femur *= canvas.on_film
    # The head is surrounded by the socket, the rest of the femur only by soft tissue, which
    # contributes nothing to the layer.
    away = polar_about(shape, *landmarks.head_px)[0] / landmarks.radius_px
    beside_tissue = np.clip((away - 1.15) / 0.25, 0.0, 1.0)
    wide = np.maximum(femur, np.clip(4.0 * blurred(femur, MARGIN_PX), 0.0, 1.0) * beside_tissue)
    wide = blurred(wide, EDGE_PX)
    known = np.where(wide > 0.02, 0.0, 1.0).astype(np.float32) * canvas.on_film
    soft = filled(canvas.pixels, known)
    soft = np.where(known > 0, canvas.pixels, soft).astype(np.float32)
    return Hip(canvas, landmarks, soft, wide, grain_of(canvas))


def grain_of(canvas: Canvas) -> float:
    """Return a robust standard deviation of the image's finest detail, from noise and sharpness."""
    detail = canvas.pixels - blurred(canvas.pixels, 1.0)
    return float(1.48 * np.median(np.abs(detail[canvas.on_film])))


def distance_from(shape: tuple[int, ...], x: float, y: float) -> Image:
    """Return the distance of each pixel from (x, y)."""
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(x)
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(y)
    return np.asarray(np.sqrt(dx * dx + dy * dy))


def polar_about(shape: tuple[int, ...], x: float, y: float) -> tuple[Image, Image]:
    """Return the distance and bearing (0 to the right, -π/2 upwards) of each pixel from (x, y)."""
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(x)
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(y)
    return np.sqrt(dx * dx + dy * dy), np.arctan2(dy, dx)


def rigid(angle_rad: float, about: Floats, shift: Floats) -> Floats:
    """Return the matrix (2, 3) that maps positions in a moved layer to the original positions.

    The layer is rotated by `angle_rad` (clockwise on the image) about a point (2,), then shifted.
    """
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    back = np.array([[c, s], [-s, c]])
    return np.column_stack([back, about - back @ (about + shift)])


def nearest_example(found: Landmarks) -> tuple[int, float, float]:
    """Return the index of the most similar femur of the outline model, its rotation and its scale.

    The outlines are compared in head radii, after rotating and scaling that of the example to fit
    the hip's outline.
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
    """Convert mm on the canvas to canvas pixels."""
    return value_mm / STEP_MM
