"""Radiographic model of bone: a cortex between two surfaces, and trabecular bone inside.

The cortex lies between the outer and an inner surface of the bone; its thickness depends on the
site and decreases with age. Trabecular bone is a two-dimensional density map in a plane through the
bone, since a radiograph shows only its projection. The map combines a base that follows the
trabecular groups of the femur (Singh, Nagrath, Maini. J Bone Joint Surg Am 1970;52:457–467) and a
texture of trabeculae along them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import LANDMARKS_MM, Femur, atlas, landmark_of
from hipedge.phantom.compiled import compiled_fast
from hipedge.phantom.mesh import Mesh, Points, normals
from hipedge.phantom.projection import View, add_thickness
from hipedge.phantom.texture import GRID_MM, axes, trabeculae, undirected, uneven

Image = NDArray[np.float32]

THREAD_FIELDS = 12
# Relative standard deviation of density between trabeculae.
GRAIN = 0.30
# Thickness that the sourcil adds to the subchondral bone of the acetabular roof.
SOURCIL_MM = (0.4, 1.8)
# Planes of the density maps: (left, top, width, height) in mm; x points laterally and y downwards
# from the centre of the femoral head.
FEMUR_PLANE_MM = (-40.0, -40.0, 130.0, 190.0)
PELVIS_PLANE_MM = (-100.0, -150.0, 180.0, 230.0)
FEMUR_ANCHORS = ("head", "greater", "shaft")
FEMUR_ANCHORS_MM = np.array([[0.0, 0.0], [48.0, -3.0], [24.0, 118.0]])
PELVIS_ANCHORS_MM = np.array([[0.0, 0.0], [-83.0, 0.0], [0.0, 100.0]])


@dataclass(frozen=True)
class Quality:
    """Bone quality of a skeleton.

    `cortex` scales the cortical thickness and `spongiosa` the density of trabecular bone. `groups`
    is the prominence of the trabecular groups, of which the loaded ones are resorbed last (Singh
    1970). `texture` is the relative amplitude of the trabecular texture.
    """

    cortex: float
    spongiosa: float
    groups: float
    texture: float


def quality_at(age_years: float, robustness: float, porosis: float = 0.0) -> Quality:
    """Return bone quality from age, a person's `robustness` (in sd) and `porosis` (0 to 1).

    Cortical thickness and trabecular density decrease from the age of 40 years, trabecular density
    faster (Riggs et al. J Bone Miner Res 2004;19:1945–1954).
    """
    years = max(age_years - 40.0, 0.0)
    return Quality(
        cortex=float(np.clip(1.0 - 0.006 * years + 0.10 * robustness - 0.20 * porosis, 0.45, 1.3)),
        spongiosa=float(
            np.clip(1.0 - 0.009 * years + 0.14 * robustness - 0.30 * porosis, 0.30, 1.4)
        ),
        groups=float(np.clip(0.8 + 0.008 * years + 0.3 * porosis, 0.6, 1.6)),
        texture=float(np.clip(0.9 + 0.006 * years, 0.8, 1.4)),
    )


@dataclass(frozen=True, eq=False)
class Spongiosa:
    """Density map (h, w) of trabecular bone, relative to cortical bone, with its plane.

    `corner_mm` is the upper left corner of the map. `anchors_mm` (3, 2) are the points of the plane
    that correspond to the three anchors of the bone piece.
    """

    density: Image
    corner_mm: tuple[float, float]
    anchors_mm: Points

    def grid(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the coordinates x (1, w) and y (h, 1) of the map's pixels, in mm in its plane."""
        return axes(self.density.shape, self.corner_mm)

    def times(self, factor: NDArray[np.float32]) -> Spongiosa:
        """Return the map with its density multiplied by `factor` (h, w)."""
        return replace(self, density=(self.density * factor).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Piece:
    """A rigid piece of bone: outer and inner surface, trabecular bone and three anchors.

    `anchors` (3, 3) are the positions in the patient, in mm, of the anchors of the map's plane.
    """

    outer: Mesh
    inner: Mesh
    spongiosa: Spongiosa
    anchors: Points

    def moved(self, rotation: Points, about: Points, shift: Points) -> Piece:
        """Return the piece rotated by a 3×3 matrix `about` a point, then translated, in mm."""

        def move(points: Points) -> Points:
            return np.asarray((points - about) @ rotation.T + about + shift)

        return replace(
            self,
            outer=self.outer.moved(move(self.outer.vertices)),
            inner=self.inner.moved(move(self.inner.vertices)),
            anchors=move(self.anchors),
        )

    def mirrored(self) -> Piece:
        """Return the piece mirrored in the midline."""
        flip = np.array([-1.0, 1.0, 1.0])
        return replace(
            self,
            outer=Mesh(self.outer.vertices * flip, self.outer.faces[:, ::-1].copy()),
            inner=Mesh(self.inner.vertices * flip, self.inner.faces[:, ::-1].copy()),
            anchors=self.anchors * flip,
        )


def add_piece(bone_mm: Image, view: View, piece: Piece) -> None:
    """Add the projection of a piece to `bone_mm` (H, W), as an equivalent path in cortical bone."""
    image = view.project(piece.outer.vertices)
    x0, y0 = np.floor(image.min(axis=0)).astype(int) - 1
    x1, y1 = np.ceil(image.max(axis=0)).astype(int) + 1
    height, width = view.shape
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if x1 <= x0 or y1 <= y0:
        return
    part = view.window(x0, y0, (y1 - y0, x1 - x0), 1.0)
    outer = np.zeros(part.shape, np.float32)
    inner = np.zeros(part.shape, np.float32)
    add_thickness(outer, part, piece.outer)
    add_thickness(inner, part, piece.inner)
    to_plane = _affine(part.project(piece.anchors), piece.spongiosa.anchors_mm)
    corner = np.asarray(piece.spongiosa.corner_mm)
    to_map = to_plane / GRID_MM
    to_map[:, 2] -= corner / GRID_MM
    _compose(bone_mm[y0:y1, x0:x1], outer, inner, piece.spongiosa.density, to_map)


@compiled_fast
def _compose(bone: Image, outer: Image, inner: Image, density: Image, to_map: Points) -> None:
    """Add cortical and trabecular paths; the density map is bilinear and clamped at its edges."""
    rows, columns = density.shape
    for i in range(outer.shape[0]):
        for j in range(outer.shape[1]):
            if outer[i, j] <= 0.0:
                continue
            spongy = min(max(inner[i, j], 0.0), outer[i, j])
            x, y = j + 0.5, i + 0.5
            u = to_map[0, 0] * x + to_map[0, 1] * y + to_map[0, 2] - 0.5
            v = to_map[1, 0] * x + to_map[1, 1] * y + to_map[1, 2] - 0.5
            u = min(max(u, 0.0), columns - 1.001)
            v = min(max(v, 0.0), rows - 1.001)
            p, q = int(u), int(v)
            a, b = u - p, v - q
            value = (1 - b) * ((1 - a) * density[q, p] + a * density[q, p + 1]) + b * (
                (1 - a) * density[q + 1, p] + a * density[q + 1, p + 1]
            )
            bone[i, j] += outer[i, j] - spongy + spongy * value


def _affine(source: Points, target: Points) -> Points:
    """Return the 2×3 affine matrix that maps three points (3, 2) to three others."""
    return np.asarray(np.linalg.solve(np.column_stack([source, np.ones(3)]), target).T)


def femur_piece(femur: Femur, bone: Quality, rng: np.random.Generator) -> Piece:
    """Return a femur with cortex and trabecular bone."""
    mesh, wall_mm = femur.mesh, atlas().femur_wall_mm
    thickness = np.minimum(_femoral_cortex_mm() * bone.cortex, 0.46 * wall_mm)
    return Piece(
        outer=mesh,
        inner=_inner(mesh, thickness),
        spongiosa=femoral_spongiosa(bone, rng),
        anchors=np.array([landmark_of(mesh, name) for name in FEMUR_ANCHORS]),
    )


def pelvis_piece(mesh: Mesh, centre: Points, bone: Quality, rng: np.random.Generator) -> Piece:
    """Return a left hemipelvis with trabecular bone and a cortex thickest at the acetabular roof.

    `centre` is the centre of the acetabulum, (3,) in mm.
    """
    mean = atlas()
    thickness = _pelvic_cortex_mm() + rng.uniform(*SOURCIL_MM) * _sourcil()
    thickness = np.minimum(thickness * bone.cortex, 0.42 * mean.hemipelvis_wall_mm)
    return Piece(
        outer=mesh,
        inner=_inner(mesh, thickness),
        spongiosa=pelvic_spongiosa(bone, rng),
        anchors=centre + np.array([[0.0, 0.0, 0.0], [-83.0, 0.0, 0.0], [0.0, 0.0, -100.0]]),
    )


@lru_cache(maxsize=1)
def _pelvic_cortex_mm() -> NDArray[np.float64]:
    """Return the cortical thickness of the hemipelvis without its sourcil at each vertex, in mm.

    It is thin under the cartilage and in the fossa, and thick along the pelvic brim and the inner
    wall of the ischium, which appear as the iliopectineal and the ilioischial line (Armbuster,
    Guerra, Resnick et al. The adult hip: an anatomic study. Part I. Radiology 1978;128:1–10).
    """
    mean = atlas()
    vertices = mean.hemipelvis.vertices
    inward = np.clip(-normals(mean.hemipelvis)[:, 0], 0.0, 1.0)
    x, z = vertices[:, 0], vertices[:, 2]
    wall = np.exp(-0.5 * ((x - 56.0) / 12.0) ** 2) * np.clip((60.0 - z) / 40.0, 0.0, 1.0)
    thickness = 1.2 + 1.6 * inward**2 * wall
    thickness[mean.socket] = 0.75
    return np.asarray(thickness)


@lru_cache(maxsize=1)
def _sourcil() -> NDArray[np.float64]:
    """Return the shape (V,), from 0 to 1, of the dense subchondral bone of the acetabular roof.

    It lies over the head, from the edge of the roof to the apex of the fossa.
    """
    mean = atlas()
    away = mean.hemipelvis.vertices[mean.socket] - np.array(LANDMARKS_MM["head"])
    unit = away / np.linalg.norm(away, axis=1, keepdims=True)
    shape = np.zeros(len(mean.hemipelvis.vertices))
    shape[mean.socket] = np.clip((unit[:, 2] - 0.72) / 0.2, 0.0, 1.0) * np.clip(
        (unit[:, 0] + 0.55) / 0.3, 0.0, 1.0
    )
    return shape


def plain_piece(
    mesh: Mesh,
    wall_mm: NDArray[np.float64],
    cortex_mm: float,
    bone: Quality,
    rng: np.random.Generator,
) -> Piece:
    """Return any other bone, with a uniform cortex and a texture without preferred direction."""
    thickness = np.minimum(cortex_mm * bone.cortex, 0.42 * wall_mm)
    middle = mesh.vertices.mean(axis=0)
    return Piece(
        outer=mesh,
        inner=_inner(mesh, thickness),
        spongiosa=pelvic_spongiosa(bone, rng),
        anchors=middle + np.array([[0.0, 0.0, 0.0], [-83.0, 0.0, 0.0], [0.0, 0.0, -100.0]]),
    )


def _inner(mesh: Mesh, thickness_mm: NDArray[np.float64]) -> Mesh:
    return mesh.moved(mesh.vertices - normals(mesh) * thickness_mm[:, None])


@lru_cache(maxsize=1)
def _femoral_cortex_mm() -> NDArray[np.float64]:
    """Return the cortical thickness of a young adult femur at each vertex (V,), in mm.

    It is below 1 mm at the head, higher at the trochanters and 6 to 7 mm in the shaft, with a thick
    calcar at the inferior side of the neck (Treece et al. Bone 2010;46:1456–1467; Noble et al. Clin
    Orthop Relat Res 1988;235:148–165).
    """
    vertices = atlas().femur.vertices
    x, z = vertices[:, 0], vertices[:, 2]
    shaft = np.clip((-z - 42.0) / 60.0, 0.0, 1.0)
    thickness = 1.35 + 5.8 * shaft**0.8
    calcar = np.exp(-0.5 * (((x - 90.0) / 9.0) ** 2 + ((z + 42.0) / 16.0) ** 2))
    lateral = np.exp(-0.5 * (((x - 134.0) / 9.0) ** 2 + ((z + 55.0) / 16.0) ** 2))
    from_head = np.linalg.norm(vertices - np.array([83.7, 0.0, 0.0]), axis=1)
    head = np.exp(-0.5 * (from_head / 20.0) ** 4)
    return np.asarray(thickness + 3.2 * calcar + 0.8 * lateral - 0.6 * head)


def femoral_spongiosa(bone: Quality, rng: np.random.Generator) -> Spongiosa:
    """Draw the density map of a proximal femur.

    It contains the compressive and tensile trabecular groups, Ward's triangle and a random texture.
    """
    even, groups, canal = _femoral_base()
    base = np.clip(even + bone.groups * groups, 0.04, None) * canal * bone.spongiosa + 0.012
    first, second = rng.choice(THREAD_FIELDS, size=2, replace=False)
    share = rng.uniform(0.3, 0.7)
    fields = _femoral_threads()
    threads = share * fields[first] + (1 - share) * fields[second]
    threads *= 1.0 / np.hypot(share, 1 - share)
    _, patches = undirected(rng, base.shape)
    texture = 1.0 + bone.texture * (GRAIN * threads + 0.08 * patches) + uneven(rng, base.shape)
    density = base * np.clip(texture, 0.3, 2.2)
    return Spongiosa(density.astype(np.float32), FEMUR_PLANE_MM[:2], FEMUR_ANCHORS_MM)


@lru_cache(maxsize=1)
def _femoral_base() -> tuple[Image, Image, Image]:
    """Return maps (h, w) of the uniform density, the trabecular groups' share and the canal."""
    left, top, width, height = FEMUR_PLANE_MM
    shape = (round(height / GRID_MM), round(width / GRID_MM))
    x, y = axes(shape, (left, top))
    head = _bell(x, y, 0.0, 0.0, 22.0, 22.0)
    compressive = _band(x, y, (-3.0, -20.0), (7.0, 42.0), 8.0)
    radius = np.hypot(x - 14.0, y - 46.0)
    tensile = np.exp(-0.5 * ((radius - 47.0) / 7.0) ** 2) * (y < 60.0)
    wards = _bell(x, y, 20.0, 27.0, 8.0, 10.0)
    greater = _bell(x, y, 44.0, 14.0, 14.0, 18.0)
    even = 0.18 + 0.06 * head - 0.05 * greater
    groups = 0.10 * compressive + 0.06 * tensile - 0.09 * wards
    canal = 1.0 - np.clip((y - 42.0) / 48.0, 0.0, 1.0) ** 0.8
    return even, groups, canal + 0.0 * x


def pelvic_spongiosa(bone: Quality, rng: np.random.Generator) -> Spongiosa:
    """Draw a density map of a hemipelvis: dense above the acetabulum, thin in wing and rami."""
    base = _pelvic_base()
    threads, patches = undirected(rng, base.shape)
    texture = (
        1.0 + bone.texture * (0.8 * GRAIN * threads + 0.06 * patches) + uneven(rng, base.shape)
    )
    density = base * (bone.spongiosa * np.clip(texture, 0.3, 2.2))
    return Spongiosa(density.astype(np.float32), PELVIS_PLANE_MM[:2], PELVIS_ANCHORS_MM)


@lru_cache(maxsize=1)
def _pelvic_base() -> Image:
    left, top, width, height = PELVIS_PLANE_MM
    shape = (round(height / GRID_MM), round(width / GRID_MM))
    x, y = axes(shape, (left, top))
    roof = 0.13 * _bell(x, y, 0.0, -38.0, 22.0, 20.0)
    pillar = 0.05 * _band(x, y, (-5.0, -30.0), (-45.0, -85.0), 16.0)
    return np.asarray(0.19 + roof + pillar, np.float32)


@lru_cache(maxsize=1)
def _femoral_threads() -> Image:
    """Return texture fields (N, h, w) along the trabecular groups, computed once per process.

    Trabeculae run downwards in the compressive group, and along an arc in the tensile group.
    """
    left, top, width, height = FEMUR_PLANE_MM
    shape = (round(height / GRID_MM), round(width / GRID_MM))
    x, y = axes(shape, (left, top))
    rng = np.random.default_rng(0)
    fan = np.arctan2(y + 70.0, 0.35 * x + 8.0)
    around = np.arctan2(y - 46.0, x - 14.0) + np.pi / 2
    compressive = _band(x, y, (-3.0, -20.0), (7.0, 42.0), 8.0)
    tensile = np.exp(-0.5 * ((np.hypot(x - 14.0, y - 46.0) - 47.0) / 7.0) ** 2)
    share = np.clip(0.5 + 0.5 * (compressive - tensile), 0.25, 0.75)
    fields = []
    for _ in range(THREAD_FIELDS):
        along, across = trabeculae(rng, fan), trabeculae(rng, around)
        fields.append(share * along + (1 - share) * across)
    return np.asarray(fields, np.float32)


def _bell(x: Image, y: Image, x0: float, y0: float, sx: float, sy: float) -> Image:
    return np.exp(-0.5 * (((x - x0) / sx) ** 2 + ((y - y0) / sy) ** 2))


def _band(
    x: Image, y: Image, start: tuple[float, float], stop: tuple[float, float], width: float
) -> Image:
    """Return a band with a Gaussian profile along the segment from `start` to `stop`."""
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    away = (x - start[0] - t * dx) ** 2 + (y - start[1] - t * dy) ** 2
    return np.exp(-0.5 * away / width**2)
