"""Soft tissue: outline of the body, fat and muscle, skin folds, fat planes and bowel gas.

Trunk and thighs are cylinders of elliptical cross-section, projected on the plane of the hips.
Structures inside or on them are ellipsoids, straight streaks and curves; gas in the bowel is a map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hipedge.phantom.compiled import compiled_fast
from hipedge.phantom.projection import View

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

GAS_GRID_MM = 2.5
GAS_LEFT_MM, GAS_TOP_MM = -150.0, 210.0
GAS_SHAPE = (88, 120)


@dataclass(frozen=True)
class Physique:
    """Body dimensions at the height of the hips, in mm, with half-widths and half-depths.

    `waist` and `muscle` are ratios. `crotch_z` is the z coordinate of the crotch.
    """

    half_width: float
    half_depth: float
    fat: float  # subcutaneous fat at the sides
    fat_depth: float  # subcutaneous fat in front and behind
    waist: float  # half-width at the iliac crests relative to that at the hips
    thigh: float  # half-width of a thigh
    thigh_apart: float  # from the midline to the centre of a thigh
    crotch_z: float
    muscle: float = 1.0  # fraction of lean tissue inside the subcutaneous fat
    spread: tuple[float, float] = (0.0, 0.0)  # tangents of the right and left thigh's abduction


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid that adds `material` along the ray, or removes it if `depth` is negative, in mm.

    A `softness` of 0.5 gives the profile of an ellipsoid; larger values give a softer edge.
    """

    material: str
    x: float
    z: float
    half_width: float
    half_height: float
    depth: float
    angle_deg: float = 0.0
    softness: float = 0.5


@dataclass(frozen=True)
class Streak:
    """Streak from one point (x, z) to another; a negative `depth` removes material.

    Its profile is Gaussian with the standard deviation `width`, or, if `rod` is set, that of a
    round rod with the radius `width`. Lengths are in mm.
    """

    material: str
    start: tuple[float, float]
    stop: tuple[float, float]
    width: float
    depth: float
    rod: bool = False


@dataclass(frozen=True)
class Curve:
    """Polyline through `points` (x, z) with a Gaussian profile, fading out at both ends.

    `width` is its standard deviation; a negative `depth` removes material. Lengths are in mm.
    """

    material: str
    points: tuple[tuple[float, float], ...]
    width: float
    depth: float


@dataclass(frozen=True, eq=False)
class Body:
    """Soft tissue of a patient: physique, internal and external structures, `cloud` and `gas`.

    `cloud` (h, w) is the relative variation of lean tissue, on a grid of 6 mm. `gas` (h, w) is the
    path length through gas in the bowel in mm, on a grid of `GAS_GRID_MM`.
    """

    physique: Physique
    ellipsoids: tuple[Ellipsoid, ...]
    streaks: tuple[Streak, ...]
    curves: tuple[Curve, ...]
    cloud: Image
    gas: Image

    def add_to(self, paths_mm: dict[str, Image], view: View) -> None:
        """Add the path lengths through the body to the maps (H, W) of each material, in mm."""
        step = view.pixel_mm / view.magnification(0.0)
        corner = _on_hip_plane(view)
        p = self.physique
        numbers = np.array([
            p.half_width, p.half_depth, p.fat, p.fat_depth, p.waist, p.thigh, p.thigh_apart,
            p.crotch_z, p.muscle, *p.spread,
        ])  # fmt: skip
        _add_trunk(paths_mm["muscle"], paths_mm["fat"], corner, step, numbers, self.cloud)
        _remove_gas(paths_mm["muscle"], corner, step, self.gas)
        for material in dict.fromkeys(blob.material for blob in self.ellipsoids):
            rows = [
                (
                    blob.x,
                    blob.z,
                    blob.half_width,
                    blob.half_height,
                    blob.depth,
                    np.radians(blob.angle_deg),
                    blob.softness,
                )
                for blob in self.ellipsoids
                if blob.material == material
            ]
            _add_ellipsoids(_map_of(paths_mm, material, view), corner, step, np.array(rows))
        for streak in self.streaks:
            _add_streak(
                _map_of(paths_mm, streak.material, view), corner, step,
                np.array([*streak.start, *streak.stop, streak.width, streak.depth]), streak.rod,
            )  # fmt: skip
        for curve in self.curves:
            _add_curve(
                _map_of(paths_mm, curve.material, view), corner, step, np.array(curve.points),
                curve.width, curve.depth,
            )  # fmt: skip
        np.maximum(paths_mm["muscle"], 0.0, out=paths_mm["muscle"])
        np.maximum(paths_mm["fat"], 0.0, out=paths_mm["fat"])


def _map_of(paths_mm: dict[str, Image], material: str, view: View) -> Image:
    if material not in paths_mm:
        paths_mm[material] = np.zeros(view.shape, np.float32)
    return paths_mm[material]


def _on_hip_plane(view: View) -> NDArray[np.float64]:
    """Return the view's upper left corner projected to the plane y = 0: (x, z), in mm."""
    shrink = 1.0 / view.magnification(0.0)
    fx, _, fz = view.focus_mm
    return np.array(
        [fx + (view.origin_mm[0] - fx) * shrink, fz + (view.origin_mm[1] - fz) * shrink]
    )


@compiled_fast
def _dome(offset: float, half_width: float, depth: float, halves: int) -> float:
    """Return the path length through a cross-section at `offset` from its centre.

    The cross-section is a superellipse with the exponent `halves` / 2 across the beam: an ellipse
    if `halves` is 4 (exponent 2), squarer for larger values.
    """
    if half_width <= 0.0 or depth <= 0.0:
        return 0.0
    r = abs(offset / half_width)
    if r >= 1.0:
        return 0.0
    power = np.sqrt(r) if halves % 2 else 1.0
    for _ in range(halves // 2):
        power *= r
    return float(2.0 * depth * np.sqrt(1.0 - power))


@compiled_fast
def _add_trunk(
    muscle: Image, fat: Image, corner: Floats, step: float, p: Floats, cloud: Image
) -> None:
    half_width, half_depth, fat_side, fat_depth = p[0], p[1], p[2], p[3]
    waist, thigh, apart, crotch, lean_share = p[4], p[5], p[6], p[7], p[8]
    rows, columns = cloud.shape
    for i in range(muscle.shape[0]):
        z = corner[1] - (i + 0.5) * step
        up = min(max(z / 150.0, -1.0), 1.6)
        width = half_width * (1.0 + (waist - 1.0) * max(up, 0.0) ** 2)
        depth = half_depth * (1.0 - 0.06 * max(up, 0.0))
        taper = 1.0 - 0.0010 * min(max(-z - 40.0, 0.0), 300.0)
        part = 0.04 * max(crotch - z, 0.0)
        below = max(20.0 - z, 0.0)
        for j in range(muscle.shape[1]):
            x = corner[0] + (j + 0.5) * step
            # The trunk fades into the thighs, farthest down at the ischia.
            end = crotch - 15.0 * np.exp(-(((abs(x) - 0.8 * apart) / 45.0) ** 2))
            trunk = min(max((z - end + 50.0) / 120.0, 0.0), 1.0)
            trunk = trunk * trunk * (3.0 - 2.0 * trunk)
            whole = trunk * _dome(x, width, depth, 7)
            lean = trunk * _dome(x, width - fat_side, depth - fat_depth, 7)
            if trunk < 1.0:
                # Thighs are fuller medially, where they touch.
                aside = abs(x) - apart - part - below * (p[9] if x < 0.0 else p[10])
                limb_width = thigh * taper
                limb_depth = 0.90 * half_depth * taper
                power = 5 if aside > 0.0 else 7
                lean_width = limb_width - (0.8 if aside > 0.0 else 0.3) * fat_side
                whole += (1.0 - trunk) * _dome(aside, limb_width, limb_depth, power)
                lean += (1.0 - trunk) * _dome(aside, lean_width, limb_depth - fat_depth, power)
            if whole <= 0.0:
                continue
            u = min(max(x / 6.0 + columns * 0.5, 0.0), columns - 1.001)
            v = min(max((200.0 - z) / 6.0, 0.0), rows - 1.001)
            a, b = int(u), int(v)
            s, t = u - a, v - b
            mist = (1 - t) * ((1 - s) * cloud[b, a] + s * cloud[b, a + 1]) + t * (
                (1 - s) * cloud[b + 1, a] + s * cloud[b + 1, a + 1]
            )
            lean = min(lean * lean_share * (1.0 + mist), whole)
            muscle[i, j] += lean
            fat[i, j] += whole - lean


@compiled_fast
def _remove_gas(muscle: Image, corner: Floats, step: float, gas: Image) -> None:
    """Subtract the bowel gas, interpolated between the points of its grid."""
    rows, columns = gas.shape
    for i in range(muscle.shape[0]):
        v = (GAS_TOP_MM - corner[1] + (i + 0.5) * step) / GAS_GRID_MM - 0.5
        if v < 0.0 or v >= rows - 1.0:
            continue
        b = int(v)
        t = v - b
        for j in range(muscle.shape[1]):
            u = (corner[0] + (j + 0.5) * step - GAS_LEFT_MM) / GAS_GRID_MM - 0.5
            if u < 0.0 or u >= columns - 1.0:
                continue
            a = int(u)
            s = u - a
            muscle[i, j] -= (1 - t) * ((1 - s) * gas[b, a] + s * gas[b, a + 1]) + t * (
                (1 - s) * gas[b + 1, a] + s * gas[b + 1, a + 1]
            )


@compiled_fast
def _add_curve(
    target: Image, corner: Floats, step: float, points: Floats, width: float, depth: float
) -> None:
    reach = 2.5 * width
    last_part = points.shape[0] - 1
    for k in range(last_part):
        x0, z0, x1, z1 = points[k, 0], points[k, 1], points[k + 1, 0], points[k + 1, 1]
        dx, dz = x1 - x0, z1 - z0
        square = dx * dx + dz * dz + 1e-9
        first_row = max(0, int((corner[1] - max(z0, z1) - reach) / step))
        last_row = min(target.shape[0] - 1, int((corner[1] - min(z0, z1) + reach) / step) + 1)
        first = max(0, int((min(x0, x1) - reach - corner[0]) / step))
        last = min(target.shape[1] - 1, int((max(x0, x1) + reach - corner[0]) / step) + 1)
        for i in range(first_row, last_row + 1):
            z = corner[1] - (i + 0.5) * step
            for j in range(first, last + 1):
                x = corner[0] + (j + 0.5) * step
                t = ((x - x0) * dx + (z - z0) * dz) / square
                if t < 0.0 or t >= 1.0:
                    continue
                away = (x - x0 - t * dx) ** 2 + (z - z0 - t * dz) ** 2
                if away < reach * reach:
                    middle = 2.0 * (k + t) / last_part - 1.0
                    fade = 1.0 - middle * middle
                    target[i, j] += depth * fade * np.exp(-0.5 * away / (width * width))


@compiled_fast
def _add_ellipsoids(target: Image, corner: Floats, step: float, rows: Floats) -> None:
    for n in range(rows.shape[0]):
        x0, z0, half_width, half_height, depth, angle, softness = rows[n]
        reach = max(half_width, half_height)
        cosine, sine = np.cos(angle), np.sin(angle)
        first_row = max(0, int((corner[1] - z0 - reach) / step))
        last_row = min(target.shape[0] - 1, int((corner[1] - z0 + reach) / step) + 1)
        first = max(0, int((x0 - reach - corner[0]) / step))
        last = min(target.shape[1] - 1, int((x0 + reach - corner[0]) / step) + 1)
        for i in range(first_row, last_row + 1):
            z = corner[1] - (i + 0.5) * step - z0
            for j in range(first, last + 1):
                x = corner[0] + (j + 0.5) * step - x0
                u = (cosine * x + sine * z) / half_width
                v = (-sine * x + cosine * z) / half_height
                r = u * u + v * v
                if r < 1.0:
                    target[i, j] += depth * (1.0 - r) ** softness


@compiled_fast
def _add_streak(target: Image, corner: Floats, step: float, p: Floats, rod: bool) -> None:
    x0, z0, x1, z1, width, depth = p
    reach = width if rod else 2.5 * width
    top, bottom = max(z0, z1) + reach, min(z0, z1) - reach
    first_row = max(0, int((corner[1] - top) / step))
    last_row = min(target.shape[0] - 1, int((corner[1] - bottom) / step) + 1)
    first = max(0, int((min(x0, x1) - reach - corner[0]) / step))
    last = min(target.shape[1] - 1, int((max(x0, x1) + reach - corner[0]) / step) + 1)
    dx, dz = x1 - x0, z1 - z0
    square = dx * dx + dz * dz + 1e-9
    for i in range(first_row, last_row + 1):
        z = corner[1] - (i + 0.5) * step
        for j in range(first, last + 1):
            x = corner[0] + (j + 0.5) * step
            t = ((x - x0) * dx + (z - z0) * dz) / square
            t = min(max(t, 0.0), 1.0)
            away = (x - x0 - t * dx) ** 2 + (z - z0 - t * dz) ** 2
            if away >= reach * reach:
                continue
            if rod:
                target[i, j] = max(target[i, j], depth * np.sqrt(1.0 - away / (reach * reach)))
            else:
                target[i, j] += depth * np.exp(-0.5 * away / (width * width))


def draw_body(
    rng: np.random.Generator,
    *,
    pelvis_half_width: float,
    head_x: float,
    male: bool,
    abduction_deg: tuple[float, float],
) -> Body:
    """Draw the body around a pelvis: thin to obese, with skin folds, fat planes and bowel gas.

    `pelvis_half_width` and `head_x`, the distance of the femoral heads from the midline, are in mm.
    `abduction_deg` is that of the right and of the left leg, which the thighs follow.
    """
    corpulence = float(np.clip(rng.gamma(2.0, 0.22), 0.02, 1.6))  # 0 thin, 1 obese
    fat = 8.0 + 45.0 * corpulence
    half_width = pelvis_half_width + 18.0 + 0.9 * fat + rng.normal(0, 4)
    # The two thighs fill the width of the hips, so that they touch or nearly touch.
    thigh = 0.5 * half_width * rng.uniform(0.96, 1.04)
    physique = Physique(
        half_width=half_width,
        half_depth=82.0 + 48.0 * corpulence + rng.normal(0, 6),
        fat=fat,
        fat_depth=6.0 + 26.0 * corpulence,
        waist=float(np.clip(rng.normal(0.86 + 0.12 * corpulence, 0.06), 0.7, 1.1)),
        thigh=thigh,
        thigh_apart=half_width - thigh,
        crotch_z=rng.normal(-92.0, 8.0),
        muscle=float(np.clip(rng.normal(0.94, 0.04), 0.8, 1.0)),
        spread=(_spread(abduction_deg[0]), _spread(abduction_deg[1])),
    )
    ellipsoids = [*_pelvic_organs(rng), *_folds(rng, physique, corpulence)]
    if male:
        ellipsoids += _genitals(rng, physique)
    planes = [
        plane
        for side in (-1.0, 1.0)
        for plane in _planes(rng, side, head_x, 0.6 + 0.6 * min(corpulence, 1.0))
    ]
    curves = (*planes, *_creases(rng, physique))
    streaks = (_cleft(rng, physique),)
    return Body(physique, tuple(ellipsoids), streaks, curves, _cloud(rng), _gas(rng))


def _spread(abduction_deg: float) -> float:
    """Return the tangent by which a thigh is turned outwards; a few degrees are its usual form."""
    return float(np.tan(np.radians(np.clip(abduction_deg - 4.0, 0.0, 45.0))))


def _cloud(rng: np.random.Generator) -> Image:
    """Return relative variations of lean tissue (h, w), on a 6 mm grid from z = 200 mm down."""
    noise = rng.standard_normal((90, 90), dtype=np.float32)
    wide = gaussian_filter(noise, 4.0) * 4.0 * 3.5
    # Muscle bundles run along the limb: narrow across it, long along it.
    bundles = gaussian_filter(noise[::-1], (5.0, 0.8)) * 7.0
    return np.asarray(0.022 * wide + 0.016 * bundles, np.float32)


def _pelvic_organs(rng: np.random.Generator) -> list[Ellipsoid]:
    filling = rng.uniform(0.3, 1.0)
    return [
        Ellipsoid("muscle", rng.normal(0, 5), 0.0 + 25.0 * filling, 30.0 + 25.0 * filling,
                  20.0 + 26.0 * filling, 5.0 + 12.0 * filling, softness=1.0),
    ]  # fmt: skip


def _gas(rng: np.random.Generator) -> Image:
    """Return the bowel gas (h, w): loops with uneven walls, and stool mottled with small bubbles.

    The colon projects over the ilium and the rectum into the true pelvis.
    """
    gas = np.zeros(GAS_SHAPE, np.float32)
    corner = np.array([GAS_LEFT_MM, GAS_TOP_MM])
    _add_ellipsoids(gas, corner, GAS_GRID_MM, np.array(_loops(rng)).reshape(-1, 7))
    fine, coarse = (_noise(rng, GAS_SHAPE, sigma) for sigma in (0.8, 2.5))
    gas *= np.clip(1.0 + 0.25 * fine + 0.5 * coarse, 0.0, None)
    stool = np.zeros(GAS_SHAPE, np.float32)
    _add_ellipsoids(stool, corner, GAS_GRID_MM, np.array(_stool(rng)).reshape(-1, 7))
    bubbles = np.clip(fine - 0.2 + 0.5 * coarse, -0.4, 1.6)
    return np.asarray(gas + stool * bubbles, np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Image:
    """Return Gaussian noise (h, w), smoothed by `sigma` pixels, with unit variance."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return np.asarray(noise / noise.std(), np.float32)


def _loops(rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Return chains of ellipsoids of gas, as rows of `_add_ellipsoids`."""
    found: list[tuple[float, ...]] = []
    for _ in range(rng.poisson(4.0)):
        x, z = rng.normal(0, 50), rng.uniform(15, 170)
        size, run = rng.uniform(5, 15), rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(1, 7)):
            found.append((
                x, z, size * rng.uniform(0.7, 1.2), size * rng.uniform(0.5, 0.9),
                size * rng.uniform(0.4, 1.1), rng.uniform(0, np.pi), rng.uniform(0.5, 1.0),
            ))  # fmt: skip
            x, z = x + 0.9 * size * np.cos(run), z + 0.9 * size * np.sin(run)
            run += rng.normal(0, 0.6)
    return found


def _stool(rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Return the ellipsoids that contain stool, as rows of `_add_ellipsoids`."""
    found: list[tuple[float, ...]] = []
    for _ in range(rng.poisson(3.0)):
        high = rng.uniform() < 0.6
        x = rng.choice([-1, 1]) * (rng.uniform(30, 110) if high else rng.uniform(0, 28))
        z = rng.uniform(75, 160) if high else rng.uniform(15, 75)
        found.append((
            x, z, rng.uniform(15, 40), rng.uniform(12, 28), rng.uniform(3, 9),
            rng.uniform(0, np.pi), 1.0,
        ))  # fmt: skip
    return found


def _folds(rng: np.random.Generator, body: Physique, corpulence: float) -> list[Ellipsoid]:
    """Return the buttocks, whose lower edge crosses the thigh, and the fold of a large abdomen."""
    found = [
        Ellipsoid("fat", side * body.thigh_apart * rng.uniform(0.75, 0.95), rng.normal(-5, 10),
                  body.thigh * rng.uniform(0.85, 1.05), rng.uniform(70, 95),
                  rng.uniform(4, 14), side * rng.uniform(-15, 15), softness=rng.uniform(0.5, 1.2))
        for side in (-1.0, 1.0)
    ]  # fmt: skip
    if corpulence + rng.normal(0, 0.2) > 0.45:
        # The lower edge of the abdomen, which may project over the hips.
        found.append(
            Ellipsoid("fat", rng.normal(0, 10), rng.uniform(85, 130), body.half_width * 0.98,
                      rng.uniform(70, 125), 30.0 * corpulence + 5.0, rng.normal(0, 5),
                      softness=rng.uniform(0.3, 0.7))
        )  # fmt: skip
    return found


def _genitals(rng: np.random.Generator, body: Physique) -> list[Ellipsoid]:
    x, z = rng.normal(0, 6), body.crotch_z - rng.uniform(-5, 20)
    return [
        Ellipsoid("muscle", x - 13, z - 14, 19, 26, rng.uniform(20, 38), -8),
        Ellipsoid("muscle", x + 13, z - 14, 19, 26, rng.uniform(20, 38), 8),
        Ellipsoid("muscle", x + rng.normal(0, 6), z - 5, 14, rng.uniform(32, 48), 24,
                  rng.normal(0, 20)),
    ]  # fmt: skip


def _planes(rng: np.random.Generator, side: float, head_x: float, fat: float) -> list[Curve]:
    """Return the fat planes that readers assess: gluteal, iliopsoas, obturator internus, thigh.

    See Guerra, Armbuster, Resnick et al. The adult hip: an anatomic study. Part II: the soft-tissue
    landmarks. Radiology 1978;128:11–20.
    """
    planes = [
        ((22.0, 70.0), (48.0, 8.0), 1.2),  # gluteal
        ((34.0, 85.0), (64.0, 20.0), 1.6),
        ((-14.0, 40.0), (4.0, -55.0), 1.3),  # iliopsoas
        ((-33.0, 45.0), (-30.0, -15.0), 1.0),  # obturator internus
        ((62.0, 40.0), (66.0, -170.0), 1.5),  # deep to the fascia lata
        ((50.0, -60.0), (40.0, -240.0), 1.6),
        ((-18.0, -60.0), (8.0, -240.0), 1.8),
        ((-34.0, -50.0), (-14.0, -210.0), 1.5),
    ]
    found = []
    for start, stop, width in planes:
        if rng.uniform() < 0.2:
            continue
        shift = rng.normal(0, 5, size=4)
        found.append(
            Curve(
                "muscle",
                _bowed(
                    rng,
                    (side * (head_x + start[0] + shift[0]), start[1] + shift[1]),
                    (side * (head_x + stop[0] + shift[2]), stop[1] + shift[3]),
                ),
                width * rng.uniform(0.7, 1.8),
                -fat * rng.uniform(0.4, 3.0),
            )
        )
    return found


def _bowed(
    rng: np.random.Generator, start: tuple[float, float], stop: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    """Return points of a curve between two points, bent to one side by a random amount."""
    t = np.linspace(0.0, 1.0, 9)
    dx, dz = stop[0] - start[0], stop[1] - start[1]
    bow = rng.normal(0, 0.10) * np.sin(np.pi * t) + rng.normal(0, 0.03) * np.sin(2 * np.pi * t)
    x, z = start[0] + t * dx - bow * dz, start[1] + t * dz + bow * dx
    return tuple((float(a), float(b)) for a, b in zip(x, z, strict=True))


def _cleft(rng: np.random.Generator, body: Physique) -> Streak:
    """Return the intergluteal cleft."""
    top = body.crotch_z + rng.uniform(10, 40)
    return Streak(
        "muscle", (rng.normal(0, 3), top), (rng.normal(0, 3), body.crotch_z - 30),
        rng.uniform(1.2, 3.0), -rng.uniform(10, 30),
    )  # fmt: skip


def _creases(rng: np.random.Generator, body: Physique) -> list[Curve]:
    """Return the creases of the groins and below the buttocks."""
    found = []
    for side in (-1.0, 1.0):
        inner = (side * 22.0, body.crotch_z + rng.uniform(-5, 15))
        groin = (side * rng.uniform(90, 130), rng.uniform(-30, 30))
        found.append(
            Curve("fat", _bowed(rng, inner, groin), rng.uniform(1.0, 3.0), -rng.uniform(0.5, 5))
        )
        below = (side * rng.uniform(70, 130), body.crotch_z - rng.uniform(0, 30))
        found.append(
            Curve("fat", _bowed(rng, inner, below), rng.uniform(0.8, 2.0), -rng.uniform(0.5, 6))
        )
    return found
