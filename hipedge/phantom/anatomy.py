"""Bone surfaces of the pelvis and the femora of one person, from the LLP26 shape model.

All geometry is built as a left hip; a right hip is mirrored at the end. Coordinates are in mm, with
the origin in the midline at the height of the femoral heads: x points to the patient's left, y to
the back, z to the head. `data/NOTICE` names the model's source and licence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hipedge.phantom.mesh import Mesh, Points, normals

# Landmarks on the mean left femur, in the coordinates above. They are stored as mesh vertices that
# no face uses, so that every deformation, fracture and rotation of the bone also moves them.
LANDMARKS_MM: dict[str, tuple[float, float, float]] = {
    "head": (83.7, 0.0, 0.0),
    "neck": (97.0, 6.6, -17.0),
    "greater": (124.0, 30.0, 0.0),
    "lesser": (82.0, 38.0, -54.0),
    "crest": (112.0, 20.0, -40.0),
    "shaft": (97.1, 21.8, -119.5),
    "distal": (75.9, 22.5, -240.0),
}
MEAN_NECK_SHAFT_DEG = 129.0
SYMPHYSIS_MM = 4.5
SOCKET_REACH_MM = 34.0
# Depth of the acetabular fossa beyond the articular surface: at its middle, and at most.
FOSSA_MM = 1.5
DEEPEST_FOSSA_MM = 5.0


@dataclass(frozen=True)
class Build:
    """Skeletal shape of a person: mode scores (10,) in standard deviations, and a scale factor."""

    modes: tuple[float, ...]
    scale: float


@dataclass(frozen=True)
class HipShape:
    """Shape parameters of one hip joint.

    `space_mm` is the uniform joint space before the femoral head is displaced. `head_shift_mm` is
    the displacement of the head in the acetabulum (x lateral, y posterior, z superior), which
    narrows the joint space on one side. `centre_edge_deg` is the lateral centre-edge angle.
    """

    neck_shaft_deg: float = MEAN_NECK_SHAFT_DEG
    version_deg: float = 0.0
    head_scale: float = 1.0
    space_mm: float = 4.2
    head_shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    centre_edge_deg: float = 32.0

    def shifted(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Return the head's displacement, further displaced by (x, y, z)."""
        return self.head_shift_mm[0] + x, self.head_shift_mm[1] + y, self.head_shift_mm[2] + z


@dataclass(frozen=True)
class Pose:
    """Position of the leg: internal rotation, abduction and flexion at the hip, in degrees."""

    internal_deg: float = 12.0
    abduction_deg: float = 3.0
    flexion_deg: float = 0.0


@dataclass(frozen=True, eq=False)
class Femur:
    """A femur whose vertices include its landmarks; `radius_mm` is the radius of the head."""

    mesh: Mesh
    radius_mm: float

    def at(self, landmark: str) -> Points:
        """Return the position (3,) of a landmark."""
        return landmark_of(self.mesh, landmark)


@dataclass(frozen=True, eq=False)
class Atlas:
    """The shipped mean shapes and modes, in float64, with quantities derived from them once."""

    hemipelvis: Mesh
    hemipelvis_modes: Points  # (10, V, 3)
    hemipelvis_wall_mm: NDArray[np.float64]
    sacrum: Mesh
    sacrum_modes: Points
    sacrum_wall_mm: NDArray[np.float64]
    femur: Mesh
    femur_modes: Points
    femur_wall_mm: NDArray[np.float64]
    head: NDArray[np.intp]  # femoral vertices on the sphere of the head
    socket: NDArray[np.intp]  # hemipelvic vertices on the acetabular surface
    socket_pull: NDArray[np.float64]  # (V, socket): weights by which vertices follow the acetabulum


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """Load the shipped anatomy, once per process."""
    with (files("hipedge.phantom") / "data" / "anatomy.npz").open("rb") as file:
        stored = np.load(file)
        arrays = {name: stored[name] for name in stored.files}
    hemipelvis = Mesh(
        arrays["hemipelvis_vertices"].astype(np.float64),
        arrays["hemipelvis_faces"].astype(np.int32),
    )
    femur, femur_modes, femur_wall_mm = _with_landmarks(
        Mesh(arrays["femur_vertices"].astype(np.float64), arrays["femur_faces"].astype(np.int32)),
        arrays["femur_modes"].astype(np.float64),
        arrays["femur_wall_mm"].astype(np.float64),
    )
    centre = np.array(LANDMARKS_MM["head"])
    off_sphere_mm = np.abs(np.linalg.norm(femur.vertices - centre, axis=1) - 22.8)
    socket = _socket(hemipelvis, centre)
    return Atlas(
        hemipelvis=hemipelvis,
        hemipelvis_modes=arrays["hemipelvis_modes"].astype(np.float64),
        hemipelvis_wall_mm=arrays["hemipelvis_wall_mm"].astype(np.float64),
        sacrum=Mesh(
            arrays["sacrum_vertices"].astype(np.float64), arrays["sacrum_faces"].astype(np.int32)
        ),
        sacrum_modes=arrays["sacrum_modes"].astype(np.float64),
        sacrum_wall_mm=arrays["sacrum_wall_mm"].astype(np.float64),
        femur=femur,
        femur_modes=femur_modes,
        femur_wall_mm=femur_wall_mm,
        head=np.flatnonzero(off_sphere_mm < 1.5),
        socket=socket,
        socket_pull=_pull(hemipelvis.vertices, socket),
    )


def landmark_of(mesh: Mesh, landmark: str) -> Points:
    """Return the position (3,) of a femoral landmark; cutting a mesh preserves its landmarks."""
    return np.asarray(mesh.vertices[_landmark_index(landmark)])


@lru_cache(maxsize=16)
def _landmark_index(landmark: str) -> int:
    first = len(atlas().femur.vertices) - len(LANDMARKS_MM)
    return first + list(LANDMARKS_MM).index(landmark)


def _with_landmarks(
    femur: Mesh, modes: Points, wall_mm: NDArray[np.float64]
) -> tuple[Mesh, Points, NDArray[np.float64]]:
    """Append the landmarks as vertices; each takes the mean modes of the nearest surface."""
    places = np.array(list(LANDMARKS_MM.values()))
    _, near = cKDTree(femur.vertices).query(places, k=24)
    return (
        Mesh(np.concatenate([femur.vertices, places]), femur.faces),
        np.concatenate([modes, modes[:, near].mean(axis=2)], axis=1),
        np.concatenate([wall_mm, np.full(len(places), 60.0)]),
    )


def _socket(hemipelvis: Mesh, centre: Points) -> NDArray[np.intp]:
    """Return the vertices of the acetabular surface: those near the head that face it."""
    towards = centre - hemipelvis.vertices
    distance = np.linalg.norm(towards, axis=1)
    facing = (normals(hemipelvis) * towards).sum(axis=1) / distance
    return np.flatnonzero((distance < SOCKET_REACH_MM) & (facing > 0.6))


def _pull(vertices: Points, socket: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return weights (V, socket) by which bone follows its acetabulum, decaying with distance."""
    distance = np.linalg.norm(vertices[:, None] - vertices[None, socket], axis=2)
    weights = np.exp(-0.5 * (distance / 5.0) ** 2) + 1e-12
    weights /= weights.sum(axis=1, keepdims=True)
    weights *= np.exp(-0.5 * (distance.min(axis=1, keepdims=True) / 11.0) ** 2)
    weights[socket] = np.eye(len(socket))
    return np.asarray(weights)


def pelvis_and_femur(build: Build) -> tuple[Mesh, Femur]:
    """Return the left hemipelvis and femur of a build, before the joint space is opened."""
    mean = atlas()
    scores = np.asarray(build.modes)
    hemipelvis = mean.hemipelvis.vertices + np.tensordot(scores, mean.hemipelvis_modes, axes=1)
    femur = mean.femur.vertices + np.tensordot(scores, mean.femur_modes, axes=1)
    # The model's femora are in the position of the original scans: move the head to its acetabulum.
    socket = (hemipelvis - mean.hemipelvis.vertices)[mean.socket].mean(axis=0)
    femur += np.array(LANDMARKS_MM["head"]) + socket - femur[_landmark_index("head")]
    hemipelvis *= build.scale
    femur *= build.scale
    aside = SYMPHYSIS_MM / 2 - hemipelvis[:, 0].min()
    hemipelvis[:, 0] += aside
    femur[:, 0] += aside
    mesh = mean.femur.moved(femur)
    centre = landmark_of(mesh, "head")
    radius = float(np.median(np.linalg.norm(femur[mean.head] - centre, axis=1)))
    return mean.hemipelvis.moved(hemipelvis), Femur(mesh, radius)


def sacrum(build: Build) -> Mesh:
    """Return the sacrum of a build."""
    mean = atlas()
    moved = mean.sacrum.vertices + np.tensordot(np.asarray(build.modes), mean.sacrum_modes, axes=1)
    return mean.sacrum.moved(moved * build.scale)


def shape_femur(femur: Femur, shape: HipShape) -> Femur:
    """Set the neck-shaft angle, the version and the head size; the head's centre stays fixed."""
    vertices = femur.mesh.vertices.copy()
    head, neck, crest = (femur.at(name) for name in ("head", "neck", "crest"))
    axis = (neck - head) / np.linalg.norm(neck - head)
    along = (vertices - neck) @ axis  # from the mid-neck towards the trochanters
    proximal = 1.0 - smoothstep(along, -6.0, 24.0)
    bend = np.radians(shape.neck_shaft_deg - MEAN_NECK_SHAFT_DEG)
    turn = np.radians(shape.version_deg)
    rotation = rotation_about_y(-bend) @ rotation_about_z(-turn)
    turned = (vertices - crest) @ rotation.T + crest
    vertices += proximal[:, None] * (turned - vertices)
    centre = vertices[_landmark_index("head")].copy()
    on_head = 1.0 - smoothstep((vertices - centre) @ axis, 8.0, 20.0)
    vertices += (shape.head_scale - 1.0) * on_head[:, None] * (vertices - centre)
    return Femur(femur.mesh.moved(vertices + (head - centre)), femur.radius_mm * shape.head_scale)


def open_joint(hemipelvis: Mesh, centre: Points, socket_mm: float) -> Mesh:
    """Make the acetabulum a sphere of radius `socket_mm` about `centre`; adjacent bone follows.

    In the shape model, the femoral head penetrates the acetabulum by up to 5 mm.
    """
    mean = atlas()
    away = hemipelvis.vertices[mean.socket] - centre
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    unit = away / distance
    # The floor of the acetabular fossa, medially between the horns of the lunate surface, is nearly
    # flat. On a frontal film it is therefore a straight line, not a part of the roof's arc.
    medial = -unit[:, 0]
    fossa = smoothstep(medial, 0.35, 0.7) * (1.0 - smoothstep(np.abs(unit[:, 1]), 0.45, 0.8))
    fossa *= 1.0 - smoothstep(unit[:, 2], 0.5, 0.8)
    floor_mm = (socket_mm + FOSSA_MM) / np.maximum(medial, 0.75)
    reach_mm = socket_mm + fossa * np.clip(floor_mm - socket_mm, 0.0, DEEPEST_FOSSA_MM)
    push = unit * (reach_mm[:, None] - distance)
    # The acetabular notch, inferiorly, bears no weight and is left unchanged.
    push *= smoothstep(unit[:, 2:], -0.8, -0.2)
    return hemipelvis.moved(hemipelvis.vertices + mean.socket_pull @ push)


def turn_roof(hemipelvis: Mesh, centre: Points, socket_mm: float, angle_deg: float) -> Mesh:
    """Rotate the acetabular roof about `centre`, lateral edge upwards; adjacent bone follows."""
    away = hemipelvis.vertices - centre
    reach = np.linalg.norm(away, axis=1)
    weight = np.exp(-0.5 * (np.maximum(reach - socket_mm, 0.0) / 12.0) ** 2)
    weight *= smoothstep(away[:, 2], -6.0, 12.0)
    turned = away @ rotation_about_y(np.radians(-angle_deg)).T
    return hemipelvis.moved(hemipelvis.vertices + weight[:, None] * (turned - away))


def pose(femur: Femur, leg: Pose, head_at: Points) -> Femur:
    """Rotate the leg about the centre of the head, and move that centre to `head_at`."""
    rotation = (
        rotation_about_y(np.radians(-leg.abduction_deg))
        @ rotation_about_x(np.radians(leg.flexion_deg))
        @ rotation_about_z(np.radians(-leg.internal_deg))
    )
    vertices = (femur.mesh.vertices - femur.at("head")) @ rotation.T + head_at
    return Femur(femur.mesh.moved(vertices), femur.radius_mm)


def mirrored(mesh: Mesh) -> Mesh:
    """Return a mesh mirrored in the midline, with faces reordered to point outwards."""
    return Mesh(mesh.vertices * np.array([-1.0, 1.0, 1.0]), mesh.faces[:, ::-1].copy())


def rotation_about_x(angle: float) -> Points:
    """Return the 3×3 matrix of a rotation in radians from y towards z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_about_y(angle: float) -> Points:
    """Return the 3×3 matrix of a rotation in radians from z towards x."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_about_z(angle: float) -> Points:
    """Return the 3×3 matrix of a rotation in radians from x towards y."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def smoothstep(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return 0 below `low`, 1 above `high`, and a smooth transition in between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
