"""Closed triangle meshes in mm: normals, an inner surface, and cutting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.compiled import compiled

Points = NDArray[np.float64]
Faces = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices (V, 3) in mm and faces (F, 3), anticlockwise as seen from outside."""

    vertices: Points
    faces: Faces

    def moved(self, vertices: Points) -> Mesh:
        """Return a mesh with the same faces and other vertices."""
        return Mesh(vertices, self.faces)


def normals(mesh: Mesh) -> Points:
    """Return the outward unit normals at the vertices (V, 3), with faces weighted by area."""
    return _normals(np.ascontiguousarray(mesh.vertices), mesh.faces)


@compiled
def _normals(vertices: Points, faces: Faces) -> Points:
    total = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        ux, uy, uz = vertices[j, 0] - x, vertices[j, 1] - y, vertices[j, 2] - z
        vx, vy, vz = vertices[k, 0] - x, vertices[k, 1] - y, vertices[k, 2] - z
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (i, j, k):
            total[v, 0] += nx
            total[v, 1] += ny
            total[v, 2] += nz
    for v in range(total.shape[0]):
        length = np.sqrt(total[v, 0] ** 2 + total[v, 1] ** 2 + total[v, 2] ** 2)
        if length > 0:
            for c in range(3):
                total[v, c] /= length
    return total


def volume_mm3(mesh: Mesh) -> float:
    """Return the volume enclosed by a closed mesh, by the divergence theorem."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def cut(mesh: Mesh, level: NDArray[np.float64]) -> tuple[Mesh, Mesh]:
    """Cut a closed mesh where `level` (V,), given at its vertices, changes sign.

    Returns the part where `level` is positive and the part where it is negative. Both are closed
    with the same triangle fan around the mean point of the cut, so that no trace of the cut is
    visible if the two parts are put together again.
    """
    level = np.where(level == 0.0, 1e-9, level)
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    crossing = edges[(level[edges[:, 0]] > 0) != (level[edges[:, 1]] > 0)]
    if not len(crossing):
        whole = bool(level[mesh.faces[0, 0]] > 0) if len(mesh.faces) else True
        empty = Mesh(mesh.vertices, np.empty((0, 3), np.int32))
        return (mesh, empty) if whole else (empty, mesh)
    unique = np.unique(crossing, axis=0)
    a, b = level[unique[:, 0]], level[unique[:, 1]]
    t = (a / (a - b))[:, None]
    on_cut = mesh.vertices[unique[:, 0]] * (1 - t) + mesh.vertices[unique[:, 1]] * t
    vertices = np.concatenate([mesh.vertices, on_cut, on_cut.mean(axis=0)[None]])
    first = len(mesh.vertices)
    number = {(int(p), int(q)): first + i for i, (p, q) in enumerate(unique)}
    centre = len(vertices) - 1
    above, below = _split(mesh.faces, level, number, centre)
    return Mesh(vertices, above), Mesh(vertices, below)


def _split(
    faces: Faces, level: NDArray[np.float64], number: dict[tuple[int, int], int], centre: int
) -> tuple[Faces, Faces]:
    """Sort faces by side; split each crossing face into one triangle on one side and two opposite.

    The triangles of the fan that closes each part are added.
    """
    positive = level[faces] > 0
    count = positive.sum(axis=1)
    sides: tuple[list[list[int]], list[list[int]]] = ([], [])
    for face in np.flatnonzero((count == 1) | (count == 2)):
        lone_side = count[face] == 1
        k = int(np.flatnonzero(positive[face] == lone_side)[0])
        i, j, m = (int(faces[face, (k + s) % 3]) for s in range(3))
        ij = number[min(i, j), max(i, j)]
        mi = number[min(i, m), max(i, m)]
        lone, pair = (sides[0], sides[1]) if lone_side else (sides[1], sides[0])
        lone += [[i, ij, mi], [mi, ij, centre]]
        pair += [[ij, j, m], [ij, m, mi], [ij, mi, centre]]
    return (
        np.concatenate([faces[count == 3], np.array(sides[0], np.int32).reshape(-1, 3)]),
        np.concatenate([faces[count == 0], np.array(sides[1], np.int32).reshape(-1, 3)]),
    )
