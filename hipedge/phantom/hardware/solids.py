"""Closed triangle meshes of simple solids: revolved, threaded, lofted, bent and slotted.

Nearly every solid is a stack of rings with the same number of points. All lengths are in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed mesh while it is being built: vertices (V, 3) in mm and faces (F, 3)."""

    vertices: Floats
    faces: NDArray[np.int32]

    def along(self, start: ArrayLike, direction: ArrayLike) -> Solid:
        """Return the solid with its origin moved to `start` and its z axis along `direction`."""
        z = np.asarray(direction, float) / np.linalg.norm(direction)
        helper = np.array([0.0, 1.0, 0.0]) if abs(z[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
        x = np.cross(helper, z)
        x /= np.linalg.norm(x)
        basis = np.stack([x, np.cross(z, x), z])
        return Solid(self.vertices @ basis + np.asarray(start, float), self.faces)


def volume_mm3(vertices: NDArray[np.floating], faces: NDArray[np.int32]) -> float:
    """Return the volume enclosed by a closed mesh; it is negative if the faces point inwards."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def stack(rings: Floats, *, joined: bool = False) -> Solid:
    """Build the surface through rings of points (N, M, 3).

    The ends are closed by triangle fans or, if `joined`, the last ring is connected to the first.
    """
    n, m = rings.shape[:2]
    ring, point = np.meshgrid(np.arange(n if joined else n - 1), np.arange(m), indexing="ij")
    beside, above = (point + 1) % m, (ring + 1) % n
    a, b = ring * m + point, ring * m + beside
    c, d = above * m + beside, above * m + point
    faces = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    vertices = rings.reshape(-1, 3)
    if not joined:
        i = np.arange(m)
        following = (i + 1) % m
        last = (n - 1) * m
        faces.append(np.stack([np.full(m, n * m), following, i], -1))
        faces.append(np.stack([np.full(m, n * m + 1), last + i, last + following], -1))
        vertices = np.concatenate([vertices, rings[[0, -1]].mean(axis=1)])
    return _outward(vertices, np.concatenate(faces).astype(np.int32))


def turned(outline: ArrayLike, sides: int = 32, *, joined: bool = False) -> Solid:
    """Build a solid of revolution about z from (height, radius) rows; if `joined`, a ring.

    An outline that is not joined should begin and end near the axis; otherwise the solid ends in
    flat faces.
    """
    height, radius = np.asarray(outline, float).T
    return _around(height, np.repeat(radius[:, None], sides, axis=1), joined=joined)


def arc(radius: float, start_deg: float, stop_deg: float, points: int = 12) -> Floats:
    """Return (height, radius) rows of an arc on a sphere about the origin.

    Angles are measured from the lower pole.
    """
    angle = np.radians(np.linspace(start_deg, stop_deg, points))
    return np.column_stack([-radius * np.cos(angle), radius * np.sin(angle)])


@dataclass(frozen=True)
class Screw:
    """Dimensions of a bone screw in mm. A `bore` of 0 means not cannulated.

    `head` is (diameter, height). The dimensions in use come from the technique guides named in
    `fixation`.
    """

    head: tuple[float, float]
    shank: float
    thread: float
    core: float
    pitch: float
    bore: float = 0.0
    sides: int = 12


def screw(kind: Screw, length: float, thread_length: float) -> Solid:
    """Build a screw along z, with its head below 0, its shank from 0 and its tip at `length`.

    The thread is right-handed. On a left hip, which is a mirrored right hip, it is left-handed;
    this cannot be seen on a radiograph.
    """
    head_radius, head_height = kind.head[0] / 2, kind.head[1]
    thread_length = min(thread_length, length - 1.0)
    tip_length = 0.4 * kind.thread
    first = length - thread_length
    turns = np.arange(first, length - 1e-6, kind.pitch / 3)
    phase = (turns[:, None] / kind.pitch - np.arange(kind.sides) / kind.sides) % 1.0
    ridge = np.clip(1.0 - np.abs(2.0 * phase - 1.0) / 0.7, 0.0, 1.0)
    narrowing = np.clip((length - turns) / tip_length, 0.25, 1.0)[:, None]
    threads = (kind.core + (kind.thread - kind.core) * ridge) / 2 * narrowing
    smooth_heights = [-head_height, -head_height, 0.0, 0.0, first - 1e-3]
    smooth_radii = [0.6 * head_radius, head_radius, head_radius, kind.shank / 2, kind.shank / 2]
    heights = np.concatenate([smooth_heights, turns, [length]])
    radii = np.concatenate(
        [np.repeat(np.array(smooth_radii)[:, None], kind.sides, 1), threads, 0.4 * threads[-1:]]
    )
    if kind.bore == 0.0:
        return _around(heights, radii)
    inside = np.full((2, kind.sides), kind.bore / 2)
    radii = np.maximum(radii, kind.bore / 2 + 0.2)
    return _around(
        np.concatenate([heights, [length, -head_height]]),
        np.concatenate([radii, inside]),
        joined=True,
    )


def helical_blade(diameter: float, length: float, blade_length: float, sides: int = 24) -> Solid:
    """Build a helical blade along z from 0 to `length`: a round shaft, then four twisted wings."""
    first = length - blade_length
    heights = np.concatenate([[0.0, first - 2.0], np.linspace(first, length, 24)])
    angle = 2 * np.pi * np.arange(sides) / sides
    twist = (heights[2:, None] - first) / blade_length * (np.pi / 2)
    wings = 0.45 + 0.55 * np.abs(np.cos(2.0 * (angle - twist))) ** 2
    taper = np.clip((length - heights[2:, None]) / 4.0, 0.35, 1.0)
    radii = np.concatenate([np.ones((2, sides)), wings * taper]) * diameter / 2
    return _around(heights, radii)


def rod(path: Floats, radii: ArrayLike, sides: int = 20, *, joined: bool = False) -> Solid:
    """Build a round rod along a nearly planar path (N, 3), with a radius at each point."""
    ahead = (
        np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
        if joined
        else np.gradient(path, axis=0)
    )
    tangent = ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    plane_normal = np.linalg.svd(path - path.mean(axis=0))[2][2]
    across = np.cross(tangent, plane_normal)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    other = np.cross(tangent, across)
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = across[:, None] * np.cos(angle)[:, None] + other[:, None] * np.sin(angle)[:, None]
    radius = np.broadcast_to(np.asarray(radii, float), len(path))
    return stack(path[:, None] + circle * radius[:, None, None], joined=joined)


def loft(medial: Floats, lateral: Floats, depth: Floats, aside: Floats, sides: int = 24) -> Solid:
    """Loft the sections of a stem, each spanned by a medial and a lateral frontal-plane point.

    `medial` and `lateral` are (N, 2), as (medial, up); `depth` (N,) is the extent of the section in
    the third direction and `aside` (N,) the position of its centre in that direction. Sections are
    rounded rectangles (superellipses of degree 4). Neighbouring sections may be tilted relative to
    each other, so a curved calcar does not require a curved axis.
    """
    angle = 2 * np.pi * np.arange(sides) / sides
    round_cos = np.sign(np.cos(angle)) * np.sqrt(np.abs(np.cos(angle)))
    round_sin = np.sign(np.sin(angle)) * np.sqrt(np.abs(np.sin(angle)))
    middle, half = (medial + lateral) / 2, (medial - lateral) / 2
    plane = middle[:, None] + half[:, None] * round_cos[None, :, None]
    across = aside[:, None] + depth[:, None] / 2 * round_sin[None]
    return stack(np.stack([plane[..., 0], across, plane[..., 1]], axis=-1))


def slotted_plate(
    path: Floats, outward: Floats, width: float, thickness: float, slots: ArrayLike, slot_mm: float
) -> Solid:
    """Build a plate along a path (N, 2) of (medial, up) points, with a slot for each screw.

    `path` is the inner face of the plate and `outward` (N, 2) its unit normals. `slots` are arc
    lengths from the start of the path; each slot is `slot_mm` long and a third of the plate's
    width.
    """
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    centres = np.asarray(slots, float)
    edges = np.concatenate([centres - slot_mm / 2, centres + slot_mm / 2])
    cuts = np.unique(np.concatenate([np.linspace(0.0, length[-1], 24), edges]))
    cuts = cuts[(cuts >= 0.0) & (cuts <= length[-1])]
    middle = (cuts[1:] + cuts[:-1]) / 2
    filled = np.ones((len(middle), 3), bool)
    filled[:, 1] = ~(np.abs(middle[:, None] - centres) < slot_mm / 2).any(axis=1)
    inner, normal = (
        np.column_stack([np.interp(cuts, length, values[:, k]) for k in range(2)])
        for values in (path, outward)
    )
    across = width * np.array([-1 / 2, -1 / 6, 1 / 6, 1 / 2])
    grid = np.empty((2, len(cuts), 4, 3))
    for side, sheet in enumerate((inner, inner + thickness * normal)):
        grid[side, :, :, 0] = sheet[:, None, 0]
        grid[side, :, :, 1] = across
        grid[side, :, :, 2] = sheet[:, None, 1]
    return _sheet(grid, filled)


def _sheet(grid: Floats, filled: NDArray[np.bool_]) -> Solid:
    """Build the surface of the filled cells (N, M) between two layers (2, N + 1, M + 1, 3)."""
    n, m = filled.shape
    number = np.arange(2 * (n + 1) * (m + 1)).reshape(2, n + 1, m + 1)
    below, above = number
    quads = []
    for layer, turn in ((below, -1), (above, 1)):
        corners = np.stack([layer[:-1, :-1], layer[1:, :-1], layer[1:, 1:], layer[:-1, 1:]], -1)
        quads.append(corners[filled][:, ::turn])
    padded = np.pad(filled, 1)
    inside = padded[1:-1, 1:-1]
    # A wall is added along each edge of a filled cell that borders an empty cell.
    for neighbour, start, stop in (
        (padded[1:-1, :-2], (slice(0, n), slice(0, m)), (slice(1, n + 1), slice(0, m))),
        (padded[2:, 1:-1], (slice(1, n + 1), slice(0, m)), (slice(1, n + 1), slice(1, m + 1))),
        (padded[1:-1, 2:], (slice(1, n + 1), slice(1, m + 1)), (slice(0, n), slice(1, m + 1))),
        (padded[:-2, 1:-1], (slice(0, n), slice(1, m + 1)), (slice(0, n), slice(0, m))),
    ):
        wall = inside & ~neighbour
        quads.append(np.stack([below[start], below[stop], above[stop], above[start]], -1)[wall])
    corners = np.concatenate(quads)
    faces = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    used, faces = np.unique(faces, return_inverse=True)
    return _outward(grid.reshape(-1, 3)[used], faces.reshape(-1, 3).astype(np.int32))


def _around(heights: Floats, radii: Floats, *, joined: bool = False) -> Solid:
    """Stack rings about z: `radii` (N, M) at `heights` (N,), in M directions from x towards y."""
    angle = 2 * np.pi * np.arange(radii.shape[1]) / radii.shape[1]
    rings = np.empty((*radii.shape, 3))
    rings[..., 0] = radii * np.cos(angle)
    rings[..., 1] = radii * np.sin(angle)
    rings[..., 2] = np.asarray(heights)[:, None]
    return stack(rings, joined=joined)


def _outward(vertices: Floats, faces: NDArray[np.int32]) -> Solid:
    turn = 1 if volume_mm3(vertices, faces) > 0 else -1
    return Solid(vertices, np.ascontiguousarray(faces[:, ::turn]))
