"""Point distribution model of the outline of a proximal femur on a frontal radiograph.

Cootes et al. Comput Vis Image Underst 1995;61:38–59. The training shapes are silhouettes of the
LLP26 femur (`hipedge.phantom.anatomy`) in many builds, neck–shaft angles and poses. Each is stored
with the femur that was projected, from which implants are measured.

A shape is an array (N, 2) in femoral head radii about the head's centre, in the orientation of a
right hip: x towards the patient's midline, y down. It runs from the lateral side of the shaft over
the greater trochanter, the upper edge of the neck, the head and the lower edge of the neck to the
medial side of the shaft.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import (
    Build,
    Femur,
    HipShape,
    Pose,
    pelvis_and_femur,
    pose,
    shape_femur,
)
from hipedge.phantom.projection import View, thickness_mm

Floats = NDArray[np.float64]

LATERAL_SHAFT = slice(0, 34)
UPPER_NECK = slice(34, 50)
HEAD = slice(50, 80)
MEDIAL = slice(80, 124)
POINTS = 124
TROCHANTER_TIP = 34

SHAFT_END_RADII = 4.6
HEAD_EDGE = 1.10  # distance from the head's centre, in radii, at which the neck begins
EXAMPLES = 96
MODES = 9
RASTER_MM = 0.5
FOCUS_MM = 1000.0  # from the hips; the detector is 150 mm behind them
SEED = 19


@dataclass(frozen=True, eq=False)
class Example:
    """A femur of the training set, posed as a left hip about its head's centre."""

    femur: Femur
    shape: Floats


@dataclass(frozen=True, eq=False)
class OutlineModel:
    """Mean (N, 2), modes (K, 2N), their standard deviations (K,), and the training examples."""

    mean: Floats
    modes: Floats
    deviations: Floats
    examples: tuple[Example, ...]


def projection_view(height_mm: float = 340.0) -> View:
    """Return the view for projecting examples: a raster centred on the head of a left hip."""
    half = height_mm / 2
    return View(
        shape=(round(height_mm / RASTER_MM), round(height_mm / RASTER_MM)),
        pixel_mm=RASTER_MM,
        origin_mm=(-half, half),
        focus_mm=(-90.0, -FOCUS_MM, 0.0),
        detector_y_mm=0.0,
    )


@lru_cache(maxsize=1)
def outline_model() -> OutlineModel:
    """Build the model; this takes about a second, once per process."""
    rng = np.random.default_rng(SEED)
    examples: list[Example] = []
    while len(examples) < EXAMPLES:
        femur = _draw_femur(rng)
        shape = silhouette(femur)
        if shape is not None:
            examples.append(Example(femur, shape))
    shapes = np.stack([example.shape.ravel() for example in examples])
    mean = shapes.mean(axis=0)
    _, singular, modes = np.linalg.svd(shapes - mean, full_matrices=False)
    deviations = singular / np.sqrt(len(shapes) - 1)
    return OutlineModel(mean.reshape(-1, 2), modes[:MODES], deviations[:MODES], tuple(examples))


def _draw_femur(rng: np.random.Generator) -> Femur:
    build = Build(tuple(np.clip(rng.normal(0, 1.0, 10), -2.2, 2.2)), 1.0)
    _, femur = pelvis_and_femur(build)
    shape = HipShape(
        neck_shaft_deg=rng.uniform(120, 142),
        version_deg=rng.normal(0, 8),
        head_scale=rng.uniform(0.93, 1.08),
    )
    leg = Pose(internal_deg=rng.uniform(-14, 22), abduction_deg=0.0, flexion_deg=rng.normal(0, 5))
    return pose(shape_femur(femur, shape), leg, np.zeros(3))


def silhouette(femur: Femur) -> Floats | None:
    """Trace the outline (N, 2) of a left femur in head radii, mirrored to a right hip.

    Returns None if the outline has no visible neck: a neck hidden by the trochanter leaves no
    corner to mark.
    """
    view = projection_view()
    shadow = np.ascontiguousarray((thickness_mm(view, femur.mesh) > 0.5)[:, ::-1])
    radius = femur.radius_mm / RASTER_MM
    centre = np.array([shadow.shape[1] / 2, shadow.shape[0] / 2])
    shadow[int(centre[1] + SHAFT_END_RADII * radius) + 1 :] = False
    path = (_trace(shadow) + 0.5 - centre) / radius
    bottom = path[:, 1] > SHAFT_END_RADII - 0.06
    path = np.roll(path, -int(np.flatnonzero(bottom & ~np.roll(bottom, -1))[0]) - 1, axis=0)
    path = path[path[:, 1] <= SHAFT_END_RADII - 0.06]
    if path[0, 0] > path[-1, 0]:
        path = path[::-1]
    away = np.hypot(path[:, 0], path[:, 1])
    on_head = np.flatnonzero((away < HEAD_EDGE) & (path[:, 1] < 0.95))
    lateral = np.flatnonzero((path[:, 0] < -1.15) & (np.arange(len(path)) < on_head[0]))
    if not len(lateral):
        return None
    tip = int(lateral[np.argmin(path[lateral, 1])])
    parts = (
        (0, tip, LATERAL_SHAFT),
        (tip, int(on_head[0]), UPPER_NECK),
        (int(on_head[0]), int(on_head[-1]), HEAD),
        (int(on_head[-1]), len(path) - 1, MEDIAL),
    )
    return np.concatenate(
        [_resampled(path[a : b + 1], part.stop - part.start, b == len(path) - 1)
         for a, b, part in parts]
    )  # fmt: skip


def _resampled(path: Floats, count: int, with_end: bool) -> Floats:
    """Return `count` equidistant points of a smoothed path, with its end only if `with_end`."""
    if len(path) > 12:
        kernel = np.hanning(9)[1:-1]
        padded = np.concatenate([path[:1].repeat(3, 0), path, path[-1:].repeat(3, 0)])
        path = np.column_stack(
            [np.convolve(padded[:, k], kernel / kernel.sum(), "valid") for k in range(2)]
        )
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.linspace(0.0, length[-1], count if with_end else count + 1)[:count]
    return np.column_stack([np.interp(at, length, path[:, k]) for k in range(2)])


def _trace(shadow: NDArray[np.bool_]) -> Floats:
    """Trace the outer boundary of the first component by Moore-neighbour tracing: (N, 2) x, y."""
    steps = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
    padded = np.pad(shadow, 1)
    row = int(np.argmax(padded.any(axis=1)))
    start = (int(np.argmax(padded[row])), row)
    here, direction, path = start, 0, [start]
    while True:
        for turn in range(8):
            k = (direction + 6 + turn) % 8
            following = here[0] + steps[k][0], here[1] + steps[k][1]
            if padded[following[1], following[0]]:
                break
        else:
            return np.array(path, np.float64) - 1
        here, direction = following, k
        if here == start:
            return np.array(path, np.float64) - 1
        path.append(here)
