"""Lumbar spine above the pelvis: vertebrae as simple closed meshes, stacked on the sacrum."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hipedge.phantom.mesh import Mesh, Points

# From L5 upwards: width, depth and height of the vertebral body and height of the disc below it, in
# mm (Zhou et al. Eur Spine J 2000;9:242–248), and its backward tilt in degrees (lordosis).
LEVELS = (
    (52.0, 35.0, 27.0, 11.0, -14.0),
    (50.0, 35.0, 28.0, 11.5, -4.0),
    (48.0, 34.5, 28.5, 10.5, 5.0),
)


def lumbar_spine(sacrum: Mesh, scale: float, lean_deg: float) -> Mesh:
    """Return the bodies, processes and pedicles of L5 to L3, as separate closed surfaces.

    The vertebrae are placed on the promontory of the sacrum; `lean_deg` bends the spine sideways.
    """
    mean = _mean_spine()
    top = sacrum.vertices[np.argmax(sacrum.vertices[:, 2] - sacrum.vertices[:, 1])]
    vertices = mean.vertices * scale
    vertices[:, 0] += vertices[:, 2] ** 2 / 120.0 * np.tan(np.radians(lean_deg))
    return mean.moved(vertices + np.array([0.0, top[1] + 16.0 * scale, top[2] + 2.0]))


@lru_cache(maxsize=1)
def _mean_spine() -> Mesh:
    at = np.zeros(3)
    parts: list[Mesh] = []
    for width, depth, height, disc, back_deg in LEVELS:
        up = np.array([0.0, 0.5 * np.sin(np.radians(back_deg)), 1.0])
        up /= np.linalg.norm(up)
        at = at + up * disc
        parts += _vertebra(at, up, width, depth, height)
        at = at + up * height
    return merged(parts)


def _vertebra(base: Points, up: Points, width: float, depth: float, height: float) -> list[Mesh]:
    across = np.cross([0.0, 1.0, 0.0], up)
    across /= np.linalg.norm(across)
    back = np.cross(up, across)
    frame = np.stack([across, back, up])

    def at(x: float, y: float, z: float) -> Points:
        return np.asarray(base + np.array([x, y, z]) @ frame)

    parts = [_body(base, frame, width / 2, depth / 2, height)]
    middle = 0.55 * height
    for side in (-1.0, 1.0):
        parts.append(
            ellipsoid(at(side * 0.32 * width, 0.62 * depth, middle + 3.0), frame, (5.5, 10.0, 8.0))
        )
        parts.append(
            ellipsoid(at(side * 0.62 * width, 0.75 * depth, middle), frame, (18.0, 4.5, 5.0))
        )
        for z in (height + 5.0, -6.0):  # facet joints
            parts.append(
                ellipsoid(at(side * 0.33 * width, 0.95 * depth, z), frame, (6.5, 6.0, 12.0))
            )
    parts.append(ellipsoid(at(0.0, 1.35 * depth, 0.25 * height), frame, (4.0, 16.0, 11.0)))
    return parts


def _body(base: Points, frame: Points, half_width: float, half_depth: float, height: float) -> Mesh:
    """Return a vertebral body: a waisted cylinder of kidney-shaped section with rounded ends."""
    heights = np.array([0.0, 0.04, 0.12, 0.3, 0.5, 0.7, 0.88, 0.96, 1.0]) * height
    sizes = np.array([0.93, 1.0, 0.99, 0.92, 0.9, 0.92, 0.99, 1.0, 0.93])
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    x = half_width * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.8
    y = half_depth * np.sin(turn) - 0.12 * half_depth * np.cos(turn) ** 2
    rings = np.stack(
        [
            np.column_stack([s * x, s * y, np.full(len(turn), z)])
            for z, s in zip(heights, sizes, strict=True)
        ]
    )
    return skin(rings @ frame + base)


def ellipsoid(centre: Points, frame: Points, radii: tuple[float, float, float]) -> Mesh:
    """Return the mesh of an ellipsoid; the rows of `frame` (3, 3) are its axes."""
    latitude = np.linspace(-0.5 * np.pi + 0.12, 0.5 * np.pi - 0.12, 9)
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rings = np.stack([
        np.column_stack([
            np.cos(a) * np.cos(turn), np.cos(a) * np.sin(turn), np.full(len(turn), np.sin(a))
        ])
        for a in latitude
    ])  # fmt: skip
    return skin(rings * np.array(radii) @ frame + centre)


def skin(rings: Points) -> Mesh:
    """Join rings of points (N, M, 3) to a closed mesh.

    The rings are ordered upwards, and their points anticlockwise as seen from above.
    """
    n, m = rings.shape[:2]
    i = np.arange(m)
    j = (i + 1) % m
    faces = []
    for k in range(n - 1):
        low, high = k * m, (k + 1) * m
        faces += [np.column_stack([low + i, low + j, high + j]),
                  np.column_stack([low + i, high + j, high + i])]  # fmt: skip
    bottom, top = n * m, n * m + 1
    faces += [np.column_stack([np.full(m, bottom), j, i]),
              np.column_stack([np.full(m, top), (n - 1) * m + i, (n - 1) * m + j])]  # fmt: skip
    ends = np.stack([rings[0].mean(axis=0), rings[-1].mean(axis=0)])
    vertices = np.concatenate([rings.reshape(-1, 3), ends])
    return Mesh(vertices, np.concatenate(faces).astype(np.int32))


def merged(meshes: list[Mesh]) -> Mesh:
    """Return several meshes as one; path lengths add up where the meshes overlap."""
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + k for mesh, k in zip(meshes, first, strict=True)]).astype(
            np.int32
        ),
    )
