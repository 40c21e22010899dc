"""Landmarks of a real hip: the femoral head's circle, the femur's outline and axes, and the roof.

The head's circle is found by a radial search around a given centre, for a bright head surrounded by
a dark joint space. The outline is found by an active shape model (Cootes et al. 1995; `contour`),
in which each point is moved along its normal by dynamic programming (Amini et al. IEEE Trans
Pattern Anal Mach Intell 1990;12:855–867). The acetabular roof is the brightest arc above the joint
space, also found by dynamic programming.

Positions are in canvas pixels, with the first pixel's centre at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import HipedgeError
from hipedge.insertion.canvas import HEAD_PX, STEP_MM, Canvas
from hipedge.insertion.contour import (
    HEAD,
    LATERAL_SHAFT,
    MEDIAL,
    TROCHANTER_TIP,
    UPPER_NECK,
    Floats,
    outline_model,
)
from hipedge.insertion.sampling import Image, blurred, polygon, read_at

RADII_MM = (19.0, 33.0)
USUAL_RADIUS_MM = 26.0
CENTRE_SHIFT_MM = 10.0
ROOF_AT_PX = 9.0  # from the head's edge, which leaves a joint space of 3 to 6 mm on the radiograph
# Bearings are measured at the head's centre: 0° is medial and -90° is upwards.
HEAD_ARC_DEG = np.arange(-200.0, 21.0, 5.0)
ROOF_ARC_DEG = np.arange(-165.0, -19.0, 2.5)
ROOF_REACH_MM = (0.8, 9.0)
MOST_DEVIATIONS = 2.3
# Outline search: the starting positions (rotations and scores of the first mode), the number of
# them that are followed to the end, and for each step the search range of each point (pixels) and
# the number of modes.
START_TURNS_DEG = (-15.0, -7.0, 0.0, 7.0, 14.0, 22.0, 30.0)
START_SCORES = (-1.0, 0.0, 1.0)
STARTS_KEPT = 4
SEARCH = ((16, 2), (12, 3), (9, 5), (6, 7), (5, 9))
LEAST_CONFIDENCE = 0.6
LEAST_ON_FILM = 0.80
LEAST_OUTLINE_ON_FILM = 0.9


class NotFound(HipedgeError):
    """The landmarks of a hip could not be found reliably enough for lesion insertion."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of a hip on its canvas.

    `head_px` and `radius_px` are the circle of the femoral head. `outline` (N, 2) is the outline of
    the femur, in the order of `hipedge.insertion.contour`. `roof_px` (M,) is the distance of the
    lower edge of the acetabular roof from the head's centre at `ROOF_ARC_DEG`, and `roof_strength`
    (M,) the edge strength there. `turn_rad` is the rotation of the femur relative to the outline
    model, and `confidence` is between 0 and 1.
    """

    head_px: tuple[float, float]
    radius_px: float
    outline: Floats
    roof_px: Floats
    roof_strength: Floats
    turn_rad: float
    confidence: float

    @property
    def head(self) -> Floats:
        """The femoral head's centre (2,)."""
        return np.array(self.head_px)

    @cached_property
    def neck_waist(self) -> tuple[Floats, Floats]:
        """The two ends (2,), upper and lower, of the neck's narrowest section."""
        upper = self.outline[UPPER_NECK.start + 4 : UPPER_NECK.stop]
        lower = self.outline[MEDIAL][:16]
        distance = np.linalg.norm(upper[:, None] - lower[None], axis=2)
        i, j = np.unravel_index(int(distance.argmin()), distance.shape)
        return upper[i], lower[j]

    @cached_property
    def neck_axis(self) -> Floats:
        """The unit vector (2,) from the head's centre down the neck."""
        away = (self.neck_waist[0] + self.neck_waist[1]) / 2 - self.head
        return np.asarray(away / np.linalg.norm(away))

    @cached_property
    def shaft(self) -> tuple[Floats, Floats]:
        """A point (2,) on the shaft's axis and the unit direction (2,) of the axis, downwards."""
        lateral, medial = self.outline[LATERAL_SHAFT][:12][::-1], self.outline[MEDIAL][-12:]
        middle = (lateral + medial) / 2
        centre = middle.mean(axis=0)
        along = np.linalg.svd(middle - centre)[2][0]
        return centre, along * np.sign(along[1])

    @property
    def neck_shaft_deg(self) -> float:
        """The projected neck–shaft angle, in degrees."""
        return float(180.0 - np.degrees(np.arccos(np.clip(self.neck_axis @ self.shaft[1], -1, 1))))

    @property
    def greater_trochanter(self) -> Floats:
        """The greater trochanter's tip (2,)."""
        return np.asarray(self.outline[TROCHANTER_TIP])

    @cached_property
    def lesser_trochanter(self) -> Floats:
        """The lesser trochanter (2,): the most medial point of the outline along the shaft."""
        point, along = self.shaft
        medial = self.outline[MEDIAL]
        across = (medial - point) @ np.array([along[1], -along[0]])
        height = (medial - self.head) @ along / self.radius_px
        reach = np.where((height > 1.3) & (height < 3.2), across, -np.inf)
        return np.asarray(medial[int(reach.argmax())])

    @cached_property
    def space_px(self) -> float:
        """The joint space width in pixels: the median distance from head circle to roof."""
        clear = self.roof_strength >= np.median(self.roof_strength)
        return float(np.median(self.roof_px[clear]) - self.radius_px)

    @cached_property
    def roof_edge_deg(self) -> float:
        """The bearing of the roof's lateral edge, in degrees: where the roof stops being clear."""
        strength = self.roof_strength / (np.percentile(self.roof_strength, 80) + 1e-6)
        lateral = ROOF_ARC_DEG < -80.0
        clear = np.flatnonzero(lateral & (strength > 0.35))
        return float(ROOF_ARC_DEG[clear[0]]) if len(clear) else -115.0

    def femur_mask(self, shape: tuple[int, int]) -> Image:
        """Return the coverage (0 to 1) of each canvas pixel by the femur.

        The outline is closed below the lower edge of the canvas.
        """
        _, along = self.shaft
        far = 2.0 * shape[0] * along
        ring = np.concatenate([self.outline[:1] + far, self.outline, self.outline[-1:] + far])
        return polygon(np.ascontiguousarray(ring), shape[0], shape[1])


def find_landmarks(
    canvas: Canvas, radius_mm: float = USUAL_RADIUS_MM, head_px: tuple[float, float] = HEAD_PX
) -> Landmarks:
    """Find the landmarks of a hip, starting from the approximate centre and radius of its head.

    Raises `NotFound`, with the reason, if part of the hip lies outside the film, if its edges are
    too faint to be reliable, or if its neck–shaft angle is implausible.
    """
    _check_on_film(canvas, head_px)
    smooth = blurred(canvas.pixels, 1.0)
    x, y, radius = _head_circle(smooth, head_px, radius_mm / STEP_MM)
    outline, turn, evidence = _outline(smooth, np.array([x, y]), radius)
    roof, strength = _roof(smooth, np.array([x, y]), radius)
    confidence = float(np.clip(evidence, 0.0, 1.0))
    found = Landmarks((x, y), radius, outline, roof, strength, turn, confidence)
    if confidence < LEAST_CONFIDENCE:
        raise NotFound(f"the femur's outline is not clear: confidence {confidence:.2f}")
    if _share_on_film(canvas, outline) < LEAST_OUTLINE_ON_FILM:
        raise NotFound("the femur reaches beyond the edge of the film")
    if not 100.0 <= found.neck_shaft_deg <= 165.0:
        raise NotFound(f"no femur has a neck-shaft angle of {found.neck_shaft_deg:.0f} degrees")
    return found


def _check_on_film(canvas: Canvas, head_px: tuple[float, float]) -> None:
    x, y = (round(v) for v in head_px)
    reach = round(60.0 / STEP_MM)
    around = canvas.on_film[max(y - reach // 2, 0) : y + reach, max(x - reach, 0) : x + reach // 2]
    if around.mean() < LEAST_ON_FILM:
        raise NotFound("the hip is cut off by the edge of the film")


def _share_on_film(canvas: Canvas, outline: Floats) -> float:
    """Return the fraction of an outline that lies on the film, of its points on the canvas."""
    height, width = canvas.on_film.shape
    x, y = np.rint(outline).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return float(canvas.on_film[y[inside], x[inside]].mean())


def _head_circle(
    image: Image, start: tuple[float, float], radius: float
) -> tuple[float, float, float]:
    """Return the circle (x, y, radius) that is bright inside and dark just outside.

    Above the circle, brightness must rise again towards the roof, which distinguishes the head from
    the outer edge of the roof itself.
    """
    best = (-np.inf, start[0], start[1], radius)
    spread = CENTRE_SHIFT_MM / STEP_MM
    for step, reach in ((3.0, spread), (1.0, 3.0), (0.5, 1.0)):
        x0, y0, r0 = best[1:]
        offsets = np.arange(-reach, reach + 0.01, step)
        radii = np.arange(-2.0 * reach / 3, 2.0 * reach / 3 + 0.01, step) + r0
        best = (-np.inf, x0, y0, r0)
        bearing = np.radians(HEAD_ARC_DEG)
        cos, sin = np.cos(bearing), np.sin(bearing)
        upper = (HEAD_ARC_DEG > -160.0) & (HEAD_ARC_DEG < -20.0)
        for r in radii:
            if not RADII_MM[0] <= r * STEP_MM <= RADII_MM[1]:
                continue
            rings = r + np.array([-3.5, -2.0, 2.0, 3.5, ROOF_AT_PX])[:, None]
            dx = (rings * cos).ravel()
            dy = (rings * sin).ravel()
            for oy in offsets:
                for ox in offsets:
                    value = read_at(image, x0 + ox + dx, y0 + oy + dy).reshape(5, -1)
                    gap = value[2:4].mean(axis=0)
                    drop = value[:2].mean(axis=0) - gap
                    rise = np.clip(value[4] - gap, -8, 16)[upper].mean()
                    away = np.hypot(x0 + ox - start[0], y0 + oy - start[1]) / spread
                    off = (r - radius) / (4.0 / STEP_MM)
                    score = np.clip(drop, -8, 22).mean() + 0.5 * rise
                    score -= 2.5 * away**2 + 1.5 * off**2
                    if score > best[0]:
                        best = (float(score), float(x0 + ox), float(y0 + oy), float(r))
    return best[1:]


@dataclass(frozen=True, eq=False)
class _Fit:
    """A fit of the outline model: its shape in head radii, its rotation and its scale."""

    shape: Floats
    turn: float
    scale: float

    def points(self, head: Floats, radius: float) -> Floats:
        return np.asarray(self.shape @ _rotation(self.turn).T * (radius * self.scale) + head)


def _outline(image: Image, head: Floats, radius: float) -> tuple[Floats, float, float]:
    """Fit the outline model: return the outline (N, 2), its rotation, and its edge evidence.

    A short search is run from many starting positions; the best of them are followed to the end.
    """
    model = outline_model()
    rough = []
    for degrees in START_TURNS_DEG:
        for score in START_SCORES:
            shape = model.mean.ravel() + score * model.deviations[0] * model.modes[0]
            start = _Fit(shape.reshape(-1, 2), float(np.radians(degrees)), 1.0)
            fit = _refined(image, head, radius, start, SEARCH[:2])
            rough.append((_evidence(image, fit.points(head, radius)), fit))
    rough.sort(key=lambda one: -one[0])
    best = (-np.inf, rough[0][1])
    for _, start in rough[:STARTS_KEPT]:
        fit = _refined(image, head, radius, start, SEARCH[1:])
        best = max(best, (_evidence(image, fit.points(head, radius)), fit), key=lambda one: one[0])
    snapped = _snapped(image, best[1].points(head, radius), reach_px=7, stiffness=6.0)
    return snapped, best[1].turn, _evidence(image, snapped)


def _refined(
    image: Image, head: Floats, radius: float, fit: _Fit, search: Sequence[tuple[int, int]]
) -> _Fit:
    """Fit the model to the edges: points along normals, then pose and modes by least squares.

    `search` holds, for each step, the search range of each point along its normal, in pixels, and
    the number of modes.
    """
    model = outline_model()
    shape, turn, scale = fit.shape, fit.turn, fit.scale
    trust = np.ones(len(model.mean))
    trust[HEAD] = 0.3  # the circle is known already, and the edges of the socket are close to it
    for reach_px, modes in search:
        points = _Fit(shape, turn, scale).points(head, radius)
        away = (_snapped(image, points, reach_px, stiffness=1.5) - head) / radius
        for _ in range(2):
            turned = away @ _rotation(-turn).T / scale
            # The head is fixed: only the rotation and the scale of the rest are free.
            weights = (trust * (np.linalg.norm(shape, axis=1) > 1.3))[:, None]
            a = float((weights * turned * shape).sum() / (weights * shape * shape).sum())
            cross = shape[:, 0] * turned[:, 1] - shape[:, 1] * turned[:, 0]
            b = float((weights[:, 0] * cross).sum() / (weights * shape * shape).sum())
            turn = float(np.clip(turn + np.arctan2(b, a), -0.5, 0.75))
            scale = float(np.clip(scale * np.hypot(a, b), 0.86, 1.16))
            turned = away @ _rotation(-turn).T / scale
            basis = model.modes[:modes].T * np.repeat(trust, 2)[:, None]
            residual = (turned - model.mean).ravel() * np.repeat(trust, 2)
            ridge = 0.04 * len(trust) / 100 / model.deviations[:modes] ** 2
            scores = np.linalg.solve(basis.T @ basis + np.diag(ridge), basis.T @ residual)
            limit = MOST_DEVIATIONS * model.deviations[:modes]
            scores = np.clip(scores, -limit, limit)
            shape = model.mean + (scores @ model.modes[:modes]).reshape(-1, 2)
    return _Fit(shape, turn, scale)


def _rotation(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _normals(points: Floats) -> Floats:
    """Return unit normals (N, 2) out of the bone, which lies to the right along the outline."""
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    return np.column_stack([tangent[:, 1], -tangent[:, 0]])


def _edges(image: Image, points: Floats, reach_px: int) -> tuple[Floats, Floats, Floats]:
    """Return the outward brightness drop (N, 2 R + 1) along each normal, offsets and normals."""
    normal = _normals(points)
    offset = np.arange(-reach_px - 2.0, reach_px + 2.5)
    x = points[:, :1] + normal[:, :1] * offset
    y = points[:, 1:] + normal[:, 1:] * offset
    value = read_at(image, x.ravel(), y.ravel()).reshape(x.shape).astype(np.float64)
    drop = value[:, :-4] + value[:, 1:-3] - value[:, 3:-1] - value[:, 4:]
    contrast = 0.5 * (value.std(axis=1, keepdims=True) + 8.0)
    return np.tanh(drop / (4.0 * contrast)), offset[2:-2], normal


def _cheapest_path(cost: Floats, jump: Floats) -> NDArray[np.intp]:
    """Return the column (N,) in each row of the path of least cost, by dynamic programming.

    `cost` (N, M) is that of each cell, `jump` (M, M) that of a step between columns.
    """
    total, back = cost[0].copy(), np.zeros(cost.shape, np.intp)
    for k in range(1, len(cost)):
        step = total[:, None] + jump
        back[k] = step.argmin(axis=0)
        total = step.min(axis=0) + cost[k]
    path = np.empty(len(cost), np.intp)
    path[-1] = total.argmin()
    for k in range(len(cost) - 1, 0, -1):
        path[k - 1] = back[k, path[k]]
    return path


def _snapped(image: Image, points: Floats, reach_px: int, stiffness: float) -> Floats:
    """Move each point along its normal to an edge by a smooth minimum-cost path."""
    drop, offset, normal = _edges(image, points, reach_px)
    jump = stiffness * ((offset[:, None] - offset[None]) / (2.0 * reach_px)) ** 2 * 4.0
    stay = 0.25 * (offset / reach_px) ** 2
    cost = -drop + stay
    path = _cheapest_path(cost, jump)
    moves = offset[path]
    moves = np.convolve(np.pad(moves, 2, mode="edge"), [0.1, 0.2, 0.4, 0.2, 0.1], "valid")
    return np.asarray(points + normal * moves[:, None])


def _evidence(image: Image, points: Floats) -> float:
    """Return the mean edge strength along the outline, without the head; 1 at most."""
    drop, offset, _ = _edges(image, points, 3)
    at = drop[:, np.abs(offset) <= 1.0].max(axis=1)
    inside = (points[:, 1] < image.shape[0] - 2) & (points[:, 0] > 1)
    parts = [at[part][inside[part]] for part in (LATERAL_SHAFT, UPPER_NECK, MEDIAL)]
    return float(np.mean([np.clip(part, -0.3, 1).mean() if len(part) else 0.0 for part in parts]))


def _roof(image: Image, head: Floats, radius: float) -> tuple[Floats, Floats]:
    """Return the roof's distance (M,) from the head's centre by bearing, and its strength (M,).

    The roof is located where brightness rises outwards, beyond the joint space.
    """
    low, high = (reach / STEP_MM for reach in ROOF_REACH_MM)
    distance = radius + np.arange(low, high, 0.5)
    bearing = np.radians(ROOF_ARC_DEG)[:, None]
    x = head[0] + np.cos(bearing) * (distance + np.array([[-1.5], [1.5]])[:, :, None])
    y = head[1] + np.sin(bearing) * (distance + np.array([[-1.5], [1.5]])[:, :, None])
    value = read_at(image, x.ravel(), y.ravel()).reshape(x.shape).astype(np.float64)
    rise = np.clip(value[1] - value[0], -20, 40)
    expected = radius + 4.5 / STEP_MM
    cost = -rise + 1.2 * ((distance - expected) * STEP_MM / 2.0) ** 2
    path = _cheapest_path(cost, 2.0 * (distance[:, None] - distance[None]) ** 2)
    rows = np.arange(len(cost))
    return distance[path], np.clip(rise[rows, path], 0, None)


def as_arrays(found: Landmarks) -> dict[str, NDArray[np.float64]]:
    """Convert landmarks to arrays for storage on disk, the inverse of `from_arrays`."""
    return {
        "circle": np.array([*found.head_px, found.radius_px, found.turn_rad, found.confidence]),
        "outline": found.outline,
        "roof": np.stack([found.roof_px, found.roof_strength]),
    }


def from_arrays(stored: dict[str, NDArray[np.float64]]) -> Landmarks:
    """Restore landmarks from the arrays returned by `as_arrays`."""
    x, y, radius, turn, confidence = (float(value) for value in stored["circle"])
    roof, strength = stored["roof"]
    return Landmarks((x, y), radius, stored["outline"], roof, strength, turn, confidence)
