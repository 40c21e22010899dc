"""Derive the shipped anatomy, `data/anatomy.npz`, from the LLP26 shape model.

    python -m hipedge.phantom.derive llp26_pelvis_femur_10modes.npz

The source contains a triangulated mean pelvis and left femur, with ten shape modes. Its right
acetabulum is distorted, and its symphysis is not in the midline of the sacrum. Therefore only the
left hemipelvis is kept, rotated about the sacro-iliac joint so that it can be mirrored. The result
is in mm, with the origin in the midline at the height of the femoral heads: x points to the
patient's left, y to the back, z to the head.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hipedge.phantom.compiled import compiled
from hipedge.phantom.mesh import Mesh, Points, cut, normals

TARGET = Path(__file__).parent / "data" / "anatomy.npz"
SYMPHYSIS_MM = 4.0
FEMUR_KEPT_BELOW_HEAD_MM = 330.0


def derive(source: Path) -> dict[str, Any]:
    """Return the arrays of the shipped file, from the triangulated model in `source`."""
    model = np.load(source)
    pelvis = Mesh(model["pelvis_vertices"].astype(float), model["pelvis_faces"])
    pelvis_modes = model["pelvis_modes"].astype(float)
    femur = Mesh(model["femur_left_vertices"].astype(float), model["femur_left_faces"])
    femur_modes = model["femur_left_modes"].astype(float)

    parts = _components(pelvis)
    left = max(parts, key=lambda part: pelvis.vertices[part, 0].mean())
    sacrum = max(parts, key=lambda part: pelvis.vertices[part, 1].mean())
    midline = pelvis.vertices[sacrum, 0].mean()

    hemipelvis, hemipelvis_modes = _subset(pelvis, pelvis_modes, left)
    sacral, sacral_modes = _subset(pelvis, pelvis_modes, sacrum)
    femur, femur_modes = _truncate(femur, femur_modes)
    femur, femur_modes = _refine(femur, femur_modes)

    # Rotate the hemipelvis and the femur together about the sacro-iliac joint.
    pivot = np.array([midline, sacral.vertices[:, 1].mean(), 0.0])
    front = hemipelvis.vertices[hemipelvis.vertices[:, 0].argmin()]
    angle = np.arctan2(midline + SYMPHYSIS_MM / 2 - front[0], pivot[1] - front[1])
    turn = _about_z(angle)
    hemipelvis_at = (hemipelvis.vertices - pivot) @ turn.T + pivot
    femur_at = (femur.vertices - pivot) @ turn.T + pivot
    head, _ = fit_sphere(femur_at[_head_of(femur_at)])
    origin = np.array([midline, head[1], head[2]])

    hemipelvis = hemipelvis.moved(hemipelvis_at - origin)
    femur = femur.moved(femur_at - origin)
    sacral = sacral.moved(sacral.vertices - origin)
    return {
        "hemipelvis_vertices": hemipelvis.vertices.astype(np.float32),
        "hemipelvis_faces": hemipelvis.faces.astype(np.uint16),
        "hemipelvis_modes": (hemipelvis_modes @ turn.T).astype(np.float16),
        "hemipelvis_wall_mm": wall_mm(hemipelvis).astype(np.float16),
        "sacrum_vertices": sacral.vertices.astype(np.float32),
        "sacrum_faces": sacral.faces.astype(np.uint16),
        "sacrum_modes": sacral_modes.astype(np.float16),
        "sacrum_wall_mm": wall_mm(sacral).astype(np.float16),
        "femur_vertices": femur.vertices.astype(np.float32),
        "femur_faces": femur.faces.astype(np.uint16),
        "femur_modes": (femur_modes @ turn.T).astype(np.float16),
        "femur_wall_mm": wall_mm(femur).astype(np.float16),
    }


def fit_sphere(points: Points) -> tuple[Points, float]:
    """Return the centre (3,) and radius of the least-squares sphere through points (N, 3)."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))


def _head_of(vertices: Points) -> NDArray[np.intp]:
    """Return the indices of the femoral vertices that lie on the sphere of the head."""
    centre = vertices[vertices[:, 2].argmax()] - np.array([0.0, 0.0, 22.9])
    for _ in range(10):
        off_mm = np.abs(np.linalg.norm(vertices - centre, axis=1) - 22.9)
        centre, _ = fit_sphere(vertices[off_mm < 2.0])
    return np.flatnonzero(off_mm < 2.0)


def _components(mesh: Mesh) -> list[NDArray[np.intp]]:
    """Return the vertex indices of each connected component."""
    edges = mesh.faces[:, [[0, 1], [1, 2]]].reshape(-1, 2)
    ones = np.ones(len(edges))
    count = len(mesh.vertices)
    graph = coo_matrix((ones, (edges[:, 0], edges[:, 1])), (count, count))
    number, label = connected_components(graph, directed=False)
    return [np.flatnonzero(label == k) for k in range(number)]


def _subset(mesh: Mesh, modes: Points, kept: NDArray[np.integer]) -> tuple[Mesh, Points]:
    """Return the submesh of the vertices `kept`, and its modes."""
    renumber = np.full(len(mesh.vertices), -1)
    renumber[kept] = np.arange(len(kept))
    faces = renumber[mesh.faces]
    faces = faces[(faces >= 0).all(axis=1)].astype(np.int32)
    return Mesh(mesh.vertices[kept], faces), modes[:, kept]


def _truncate(femur: Mesh, modes: Points) -> tuple[Mesh, Points]:
    """Cut the shaft off below the imaged region, applying the same cut to the modes."""
    level = femur.vertices[:, 2] - (femur.vertices[:, 2].max() - 23.0 - FEMUR_KEPT_BELOW_HEAD_MM)
    upper, _ = cut(femur, level)
    carried = [cut(Mesh(mode, femur.faces), level)[0].vertices for mode in modes]
    used = np.unique(upper.faces)
    return _subset(upper, np.array(carried), used)


def _refine(mesh: Mesh, modes: Points) -> tuple[Mesh, Points]:
    """Subdivide each face into four (Loop 1987), so that no facets are visible on the film."""
    stacked = np.concatenate([mesh.vertices[None], modes])  # (1 + modes, V, 3)
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1, 3)
    opposite = np.zeros((len(stacked), len(unique), 3))
    for shape, total in zip(stacked, opposite, strict=True):
        for k in range(3):
            np.add.at(total, inverse[:, k], shape[mesh.faces[:, (k + 2) % 3]])
    middle = 0.375 * (stacked[:, unique[:, 0]] + stacked[:, unique[:, 1]]) + 0.125 * opposite

    count = len(mesh.vertices)
    valence = np.bincount(unique.ravel(), minlength=count)
    around = np.zeros_like(stacked)
    for shape, total in zip(stacked, around, strict=True):
        np.add.at(total, unique[:, 0], shape[unique[:, 1]])
        np.add.at(total, unique[:, 1], shape[unique[:, 0]])
    beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / valence)) ** 2) / valence
    kept = stacked * (1 - valence * beta)[None, :, None] + around * beta[None, :, None]

    a, b, c = (mesh.faces[:, k] for k in range(3))
    ab, bc, ca = (count + inverse[:, k] for k in range(3))
    corners = np.column_stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca])
    faces = corners.reshape(-1, 3).astype(np.int32)
    fine = np.concatenate([kept, middle], axis=1)
    return Mesh(fine[0], faces), fine[1:]


def wall_mm(mesh: Mesh) -> NDArray[np.float64]:
    """Return the bone thickness at each vertex (V,), in mm, inwards to the opposite surface."""
    inwards = -normals(mesh)
    a, b, c = (np.ascontiguousarray(mesh.vertices[mesh.faces[:, k]]) for k in range(3))
    return _first_hit(mesh.vertices, inwards, a, b, c)


@compiled
def _first_hit(
    origins: Points, directions: Points, a: Points, b: Points, c: Points
) -> NDArray[np.float64]:
    """Return the distance to the nearest face along each direction (Möller, Trumbore 1997).

    Faces closer than 0.3 mm are ignored, and distances are limited to 60 mm.
    """
    nearest = np.full(origins.shape[0], 60.0)
    for i in range(origins.shape[0]):
        o, d = origins[i], directions[i]
        for f in range(a.shape[0]):
            e1, e2 = b[f] - a[f], c[f] - a[f]
            p = np.cross(d, e2)
            determinant = (e1 * p).sum()
            if abs(determinant) < 1e-12:
                continue
            s = o - a[f]
            u = (s * p).sum() / determinant
            if u < 0 or u > 1:
                continue
            q = np.cross(s, e1)
            v = (d * q).sum() / determinant
            if v < 0 or u + v > 1:
                continue
            t = (e2 * q).sum() / determinant
            if 0.3 < t < nearest[i]:
                nearest[i] = t
    return nearest


def _about_z(angle: float) -> Points:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


if __name__ == "__main__":
    with TARGET.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **derive(Path(sys.argv[1])))
