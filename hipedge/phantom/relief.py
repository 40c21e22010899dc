"""Relief of the proximal femur where muscles insert, which the shape model has smoothed away.

The lesser trochanter is made to stand out from the shaft, the intertrochanteric crest is raised
between the trochanters, the trochanteric fossa is deepened, and the surface of the trochanters is
made uneven.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import LANDMARKS_MM, Femur, atlas, smoothstep
from hipedge.phantom.mesh import Points, normals

BUMPS = 40
BUMP_MM = 4.0
# Standard deviation of the uneven surface, and ranges of the heights of the other features, in mm.
UNEVEN_MM = 0.45
LESSER_MM = (3.0, 7.0)
CREST_MM = (1.5, 4.0)
FOSSA_MM = (1.0, 4.0)
FOSSA_AT_MM = (113.0, 26.0, -7.0)


def with_relief(femur: Femur, rng: np.random.Generator) -> Femur:
    """Return a femur in the position of the shape model with a relief drawn at random."""
    lesser, crest, fossa, bumps = _features()
    push = rng.uniform(*LESSER_MM) * lesser + rng.uniform(*CREST_MM) * crest
    push -= rng.uniform(*FOSSA_MM) * fossa
    push += (rng.normal(0, UNEVEN_MM, BUMPS) @ bumps)[:, None] * normals(femur.mesh)
    return Femur(femur.mesh.moved(femur.mesh.vertices + push), femur.radius_mm)


@lru_cache(maxsize=1)
def _features() -> tuple[Points, Points, Points, NDArray[np.float64]]:
    """Return displacements (V, 3) of lesser trochanter, crest and fossa, and bumps (BUMPS, V)."""
    mesh = atlas().femur
    vertices, outward = mesh.vertices, normals(mesh)
    on_head = np.linalg.norm(vertices - np.array(LANDMARKS_MM["head"]), axis=1)
    free = smoothstep(on_head, 28.0, 34.0)[:, None]
    lesser, greater = np.array(LANDMARKS_MM["lesser"]), np.array(LANDMARKS_MM["greater"])
    near = np.linalg.norm(vertices - lesser, axis=1)
    knob = np.exp(-0.5 * (near / 6.5) ** 2) - 0.3 * np.exp(-0.5 * ((near - 15.0) / 4.0) ** 2)
    medial = np.array([-0.8, 0.55, 0.1])
    along = greater - lesser
    t = np.clip((vertices - lesser) @ along / (along @ along), 0.15, 0.9)
    away = np.linalg.norm(vertices - lesser - t[:, None] * along, axis=1)
    posterior = np.clip(outward[:, 1:2], 0.0, 1.0)
    crest = (np.exp(-0.5 * (away / 4.0) ** 2))[:, None] * posterior * outward
    pit = np.linalg.norm(vertices - np.array(FOSSA_AT_MM), axis=1)
    fossa = np.exp(-0.5 * (pit / 5.0) ** 2)[:, None] * outward
    # The landmarks at the end are not on the surface and must not move.
    surface = (np.arange(len(vertices)) < len(vertices) - len(LANDMARKS_MM))[:, None]
    free = free * surface
    return knob[:, None] * medial * free, crest * free, fossa * free, _bumps(vertices, free[:, 0])


def _bumps(vertices: Points, free: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return bumps (BUMPS, V) around the trochanters and along the crest."""
    rng = np.random.default_rng(2)
    rough = np.flatnonzero((free > 0.9) & (vertices[:, 2] > -75.0))
    centres = vertices[rng.choice(rough, BUMPS, replace=False)]
    distance = np.linalg.norm(vertices[None] - centres[:, None], axis=2)
    return np.asarray(np.exp(-0.5 * (distance / BUMP_MM) ** 2) * free)
