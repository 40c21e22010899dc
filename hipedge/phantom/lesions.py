"""What can be wrong with a native hip, in the grades of `docs/categories.md`.

A lesion acts on a hip in up to four places: on the plan of its shape, on its surfaces, on its
spongy bone, and last by breaking the femur. Each is drawn with its own measures, in mm and degrees
at the hip, in the frame of a left hip (x lateral, y to the back, z up).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import (
    Femur,
    HipShape,
    atlas,
    rotation_about_y,
    rotation_about_z,
    smoothstep,
)
from hipedge.phantom.bone import Piece, Spongiosa
from hipedge.phantom.mesh import Mesh, Points, cut

Rng = np.random.Generator
LevelOf = Callable[[Points], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Joint:
    """A hip's surfaces: the hemipelvis, the femur in its socket, and the socket's centre (3,)."""

    hemipelvis: Mesh
    femur: Femur
    centre: Points


@dataclass(frozen=True, eq=False)
class Bones:
    """A hip's pieces: the hemipelvis, and the femur, whole or in fragments."""

    hemipelvis: Piece
    femur: tuple[Piece, ...]


class Lesion:
    """Nothing wrong: each kind of lesion overrides what it changes."""

    def shape(self, shape: HipShape) -> HipShape:
        """Return the plan of a hip with this lesion."""
        return shape

    def surfaces(self, joint: Joint) -> Joint:
        """Return the joint's surfaces with this lesion."""
        return joint

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Return the bones with this lesion in their spongy part."""
        return bones

    def fragments(self, bones: Bones, joint: Joint) -> Bones:
        """Return the bones broken."""
        return bones


@dataclass(frozen=True)
class Cyst:
    """A round hole with a dense rim: its place by angle from the vertical and depth under the
    joint's surface, on the socket's or the head's side.
    """

    angle_deg: float
    depth_mm: float
    diameter_mm: float
    in_socket: bool


@dataclass(frozen=True)
class Arthritis(Lesion):
    """Osteoarthritis (Kellgren, Lawrence. Ann Rheum Dis 1957;16:494–502).

    `narrowest_mm` is the joint space at `direction_deg` from the vertical (lateral positive);
    osteophytes are heights; sclerosis is a depth on either side of the narrowest place.
    """

    narrowest_mm: float
    direction_deg: float
    head_osteophyte_mm: float
    rim_osteophyte_mm: float
    sclerosis_mm: float
    flattening_mm: float
    wear_mm: float
    cysts: tuple[Cyst, ...]

    def shape(self, shape: HipShape) -> HipShape:
        """Move the head towards the narrow place, into the bone where that is worn away."""
        way = max(shape.space_mm - self.narrowest_mm, 0.0) + self.wear_mm
        x, z = _direction(self.direction_deg) * way
        return replace(shape, head_shift_mm=_plus(shape.head_shift_mm, (x, 0.0, z)))

    def surfaces(self, joint: Joint) -> Joint:
        """Add osteophytes to head and rim, and flatten the head where it bears."""
        femur = _flatten_head(joint.femur, self.direction_deg, 38.0, self.flattening_mm)
        femur = _head_osteophytes(femur, self.head_osteophyte_mm)
        hemipelvis = clear_head(joint.hemipelvis, femur, max(self.narrowest_mm, 0.2))
        hemipelvis = _rim_osteophyte(hemipelvis, joint.centre, femur, self.rim_osteophyte_mm)
        return Joint(hemipelvis, femur, joint.centre)

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Thicken bone beside the narrow place, and hollow out the cysts."""
        radius = joint.femur.radius_mm
        socket = radius + max(self.narrowest_mm, 0.3)
        strength = 0.35 + 0.16 * self.sclerosis_mm
        pelvis = _sclerosis(
            bones.hemipelvis.spongiosa, socket, self.direction_deg, self.sclerosis_mm, strength
        )
        head = _sclerosis(
            bones.femur[0].spongiosa, radius, self.direction_deg, -self.sclerosis_mm, strength
        )
        for cyst in self.cysts:
            if cyst.in_socket:
                pelvis = _hollow(pelvis, cyst, socket + cyst.depth_mm)
            else:
                head = _hollow(head, cyst, radius - cyst.depth_mm)
        return _with_tissue(bones, pelvis, head)


def draw_arthritis(grade: str, rng: Rng) -> Arthritis:
    """Draw osteoarthritis of Kellgren–Lawrence grade 2, 3 or 4."""
    space, head, rim, sclerosis, cysts, cyst_mm, flat, wear = {
        "kl2": ((2.0, 3.0), (2.0, 4.0), (1.5, 3.5), (1.0, 2.0), 0.15, (2, 4), (0, 0), (0, 0)),
        "kl3": ((0.8, 2.0), (3.0, 6.5), (2.5, 5.5), (2.0, 5.0), 1.0, (3, 6), (0, 1), (0, 1)),
        "kl4": ((0.0, 0.8), (5.0, 10.0), (4.0, 8.0), (4.0, 8.0), 2.5, (4, 12), (0.5, 4), (0, 6)),
    }[grade]
    direction = float(rng.choice([rng.normal(25, 12), rng.normal(-5, 8), rng.normal(-55, 10)],
                                 p=[0.65, 0.2, 0.15]))  # fmt: skip
    return Arthritis(
        narrowest_mm=rng.uniform(*space),
        direction_deg=direction,
        head_osteophyte_mm=rng.uniform(*head),
        rim_osteophyte_mm=rng.uniform(*rim),
        sclerosis_mm=rng.uniform(*sclerosis),
        flattening_mm=rng.uniform(*flat),
        wear_mm=rng.uniform(*wear),
        cysts=tuple(
            Cyst(
                angle_deg=direction + rng.normal(0, 18),
                depth_mm=rng.uniform(0.6, 1.3) * diameter,
                diameter_mm=diameter,
                in_socket=bool(rng.uniform() < 0.6),
            )
            for diameter in rng.uniform(*cyst_mm, size=rng.poisson(cysts))
        ),
    )


@dataclass(frozen=True)
class Osteonecrosis(Lesion):
    """Osteonecrosis of the femoral head (ARCO 2019: Yoon et al. J Arthroplasty 2020;35:933–940).

    The segment is what a circle of `segment_mm` about a point of the head's surface, at
    `direction_deg`, takes of the head. `lucency` and `patchiness` describe its inside, `rim` its
    sclerotic edge, as factors on spongy bone.
    """

    direction_deg: float
    segment_mm: float
    rim_mm: float
    rim: float
    lucency: float
    patchiness: float
    crescent_mm: float
    depression_mm: float
    waviness: tuple[float, ...]
    secondary: Arthritis | None = None

    def shape(self, shape: HipShape) -> HipShape:
        """Narrow the joint, once the head's collapse has worn it."""
        return self.secondary.shape(shape) if self.secondary else shape

    def surfaces(self, joint: Joint) -> Joint:
        """Sink the segment into the head, with a step at its edge."""
        half_angle = np.degrees(2 * np.arcsin(min(self.segment_mm / 2 / joint.femur.radius_mm, 1)))
        femur = _flatten_head(
            joint.femur, self.direction_deg, 0.8 * half_angle, self.depression_mm, step=True
        )
        sunk = replace_femur(joint, femur)
        return self.secondary.surfaces(sunk) if self.secondary else sunk

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Paint the segment: its patchy inside, its rim, and a crescent under the surface."""
        head = bones.femur[0].spongiosa
        radius = joint.femur.radius_mm
        x, y = head.grid()
        dx, dz = _direction(self.direction_deg) * radius
        bearing = np.arctan2(y + dz, x - dx)
        edge = self.segment_mm * (1.0 + sum(
            a * np.cos((k + 2) * bearing + 3.0 * k) for k, a in enumerate(self.waviness)
        ))  # fmt: skip
        from_edge = np.hypot(x - dx, y + dz) - edge
        inside = _inside(-from_edge, 1.0) * _inside(radius + 1.0 - np.hypot(x, y), 0.8)
        waves = np.sin(x * 0.55 + 2.0 * np.cos(y * 0.31)) * np.sin(y * 0.63 - 1.5 * np.sin(x * 0.27))
        content = self.lucency * (1.0 + self.patchiness * waves)
        rim = np.exp(-0.5 * ((from_edge - 0.5 * self.rim_mm) / (0.6 * self.rim_mm)) ** 2)
        rim = rim * _inside(radius - np.hypot(x, y), 0.8)
        factor = (1.0 + inside * (content - 1.0)) * (1.0 + rim * (self.rim - 1.0))
        if self.crescent_mm:
            depth = radius - self.depression_mm - np.hypot(x, y)
            line = np.exp(-0.5 * ((depth - 2.6) / (0.5 * self.crescent_mm)) ** 2)
            factor = factor * (1.0 - 0.85 * line * _inside(-from_edge - 2.0, 1.0))
        painted = _with_tissue(bones, bones.hemipelvis.spongiosa, head.times(factor))
        return self.secondary.tissue(painted, joint) if self.secondary else painted


def draw_osteonecrosis(grade: str, rng: Rng) -> Osteonecrosis:
    """Draw osteonecrosis of ARCO stage 2, 3A, 3B or 4."""
    crescent, depression = {
        "arco2": ((0.0, 0.0), (0.0, 0.0)),
        "arco3a": ((0.5, 1.5), (0.3, 2.0)),
        "arco3b": ((0.0, 1.0), (2.0, 6.0)),
        "arco4": ((0.0, 0.0), (2.0, 8.0)),
    }[grade]
    return Osteonecrosis(
        direction_deg=rng.normal(12, 14),
        segment_mm=rng.uniform(11, 27) if grade == "arco2" else rng.uniform(15, 28),
        rim_mm=rng.uniform(1.0, 3.0),
        rim=rng.uniform(1.35, 2.3),
        lucency=rng.uniform(0.55, 1.15),
        patchiness=rng.uniform(0.15, 0.5),
        crescent_mm=rng.uniform(*crescent),
        depression_mm=rng.uniform(*depression),
        waviness=tuple(rng.normal(0, 0.07, size=4)),
        secondary=draw_arthritis("kl3", rng) if grade == "arco4" else None,
    )


@dataclass(frozen=True)
class Crack:
    """A rough surface of fracture: waves of `roughness_mm` on whatever it follows."""

    roughness_mm: float
    waves: tuple[tuple[float, float, float, float], ...]  # wave vector per mm (3), phase

    def roughness(self, points: Points) -> NDArray[np.float64]:
        """Return by how much the crack strays at points (N, 3), in mm."""
        total = np.zeros(len(points))
        for kx, ky, kz, phase in self.waves:
            total += np.sin(points @ np.array([kx, ky, kz]) + phase)
        return self.roughness_mm * total / np.sqrt(len(self.waves))


def draw_crack(rng: Rng, roughness_mm: float) -> Crack:
    """Draw a crack's roughness: waves of 8 to 40 mm."""
    waves = []
    for wavelength_mm in rng.uniform(8, 40, size=5):
        direction = rng.normal(size=3)
        k = 2 * np.pi / wavelength_mm * direction / np.linalg.norm(direction)
        waves.append((*(float(v) for v in k), rng.uniform(0, 2 * np.pi)))
    return Crack(roughness_mm, tuple(waves))


@dataclass(frozen=True)
class NeckFracture(Lesion):
    """Fracture of the femoral neck (Garden. J Bone Joint Surg Br 1961;43:647–663).

    The break crosses the neck `level_mm` from the head's centre, its plane turned by
    `obliquity_deg` (Pauwels). The head tilts by `tilt_deg` (valgus positive); the shaft moves by
    `shift_mm` (x lateral, y back, z up) and turns out by `external_deg`; `impaction_mm` drives it
    into the head, below zero it leaves a gap.
    """

    level_mm: float
    obliquity_deg: float
    tilt_deg: float
    shift_mm: tuple[float, float, float]
    external_deg: float
    impaction_mm: float
    crack: Crack

    def fragments(self, bones: Bones, joint: Joint) -> Bones:
        """Break the neck in two and displace the parts; the head stays in its socket."""
        whole = bones.femur[0]
        head = joint.femur.at("head")
        axis = joint.femur.at("neck") - head
        axis = axis / np.linalg.norm(axis)
        plane = rotation_about_y(np.radians(self.obliquity_deg)) @ axis

        def level(points: Points) -> NDArray[np.float64]:
            return self.crack.roughness(points) - (points - head - self.level_mm * axis) @ plane

        proximal, distal = cut_piece(whole, level)
        still = np.zeros(3)
        proximal = proximal.moved(rotation_about_y(np.radians(self.tilt_deg)), head, still)
        about = head + self.level_mm * axis
        distal = distal.moved(
            rotation_about_z(np.radians(self.external_deg)),
            about,
            np.array(self.shift_mm) - self.impaction_mm * axis,
        )
        return replace(bones, femur=(proximal, distal))


def draw_neck_fracture(grade: str, rng: Rng) -> NeckFracture:
    """Draw a fracture of Garden type I to IV, subcapital to basicervical."""
    level = float(
        rng.choice([rng.uniform(15, 20), rng.uniform(21, 29), rng.uniform(31, 37)],
                   p=[0.5, 0.35, 0.15])
    )  # fmt: skip
    neck_mm = 30.0
    tilt, external = 0.0, 0.0
    shift = np.zeros(3)
    impaction = 0.0
    if grade == "garden1":
        tilt, impaction, external = rng.uniform(5, 20), rng.uniform(1, 4), rng.uniform(0, 8)
    elif grade == "garden2":
        tilt, impaction = rng.uniform(-5, 5), -rng.uniform(0.3, 1.5)
        shift = rng.normal(0, 0.6, size=3)
    elif grade == "garden3":
        tilt, external = -rng.uniform(10, 35), rng.uniform(10, 35)
        way = rng.uniform(2, 0.5 * neck_mm)
        shift = np.array([0.25 * way, 0.0, 0.95 * way])
        impaction = -rng.uniform(0, 2)
    else:
        tilt, external = rng.normal(0, 5), rng.uniform(15, 50)
        way = rng.uniform(0.5 * neck_mm, 30)
        shift = np.array([rng.uniform(0.1, 0.4) * way, 0.0, 0.9 * way])
        impaction = -rng.uniform(0, 4)
    return NeckFracture(
        level_mm=level,
        obliquity_deg=float(np.clip(rng.normal(0, 10), -15, 15)) * (0.5 if level > 30 else 1.0),
        tilt_deg=float(tilt),
        shift_mm=(float(shift[0]), float(shift[1]), float(shift[2])),
        external_deg=float(external),
        impaction_mm=float(impaction),
        crack=draw_crack(rng, rng.uniform(0.5, 1.8)),
    )


@dataclass(frozen=True)
class Avulsion:
    """A trochanter broken off: how much of it, and where it went (mm, degrees)."""

    landmark: str
    radius_mm: float
    shift_mm: tuple[float, float, float]
    turn_deg: float


@dataclass(frozen=True)
class TrochantericFracture(Lesion):
    """Intertrochanteric fracture (Jensen. Acta Orthop Scand 1980;51:803–810; AO/OTA 31A).

    The break runs from the greater trochanter to the lesser, turned by `obliquity_deg`; the head
    goes into varus by `varus_deg`, the shaft moves by `shift_mm` and turns out by `external_deg`.
    """

    obliquity_deg: float
    offset_mm: float
    varus_deg: float
    shift_mm: tuple[float, float, float]
    external_deg: float
    gap_mm: float
    crack: Crack
    avulsions: tuple[Avulsion, ...] = ()

    def fragments(self, bones: Bones, joint: Joint) -> Bones:
        """Break the femur between its trochanters, and these off it; the head stays in place."""
        femur = joint.femur
        head, greater, lesser = (femur.at(name) for name in ("head", "greater", "lesser"))
        along = lesser - greater
        along[1] = 0.0
        along /= np.linalg.norm(along)
        normal = np.array([along[2], 0.0, -along[0]])  # towards the head
        normal *= np.sign((head - greater) @ normal)
        normal = rotation_about_y(np.radians(self.obliquity_deg)) @ normal
        middle = 0.5 * (greater + lesser) + self.offset_mm * normal
        middle[1] = femur.at("crest")[1]

        def level(points: Points) -> NDArray[np.float64]:
            return (points - middle) @ normal + self.crack.roughness(points)

        rest = bones.femur[0]
        broken_off = []
        for avulsion in self.avulsions:
            at = femur.at(avulsion.landmark)

            def within(points: Points, at: Points = at, avulsion: Avulsion = avulsion) -> NDArray[np.float64]:
                away = np.linalg.norm(points - at, axis=1)
                return avulsion.radius_mm - away + 0.7 * self.crack.roughness(points)

            fragment, rest = cut_piece(rest, within)
            turn = rotation_about_y(np.radians(avulsion.turn_deg))
            broken_off.append(fragment.moved(turn, at, np.array(avulsion.shift_mm)))
        proximal, distal = cut_piece(rest, level)
        varus = rotation_about_y(np.radians(-self.varus_deg))
        # Varus about the break lowers the head; since that stays in its socket, the shaft rises.
        rise = head - ((head - middle) @ varus.T + middle)
        still = np.zeros(3)
        proximal = proximal.moved(varus, middle, rise)
        displaced = rise + np.array(self.shift_mm) - self.gap_mm * normal
        distal = distal.moved(rotation_about_z(np.radians(self.external_deg)), middle, displaced)
        moved = tuple(piece.moved(np.eye(3), still, displaced) for piece in broken_off)
        return replace(bones, femur=(proximal, distal, *moved))


def draw_trochanteric_fracture(grade: str, rng: Rng) -> TrochantericFracture:
    """Draw a fracture of Jensen type 1 to 5."""
    varus, way, shortening = {
        "jensen1": ((0, 3), (0, 2), (0, 0)),
        "jensen2": ((5, 20), (2, 10), (0, 4)),
        "jensen3": ((5, 25), (2, 10), (0, 8)),
        "jensen4": ((10, 35), (3, 12), (0, 12)),
        "jensen5": ((15, 45), (4, 14), (5, 20)),
    }[grade]
    step = rng.uniform(*way)
    aside = rng.choice([-0.6, 0.6])
    avulsions = []
    if grade in ("jensen3", "jensen5"):
        off = rng.uniform(3, 15)
        avulsions.append(
            Avulsion("greater", rng.uniform(18, 26), (-0.3 * off, 0.3 * off, 0.8 * off),
                     rng.normal(-10, 12))
        )  # fmt: skip
    if grade in ("jensen4", "jensen5"):
        off = rng.uniform(5, 25)
        avulsions.append(
            Avulsion("lesser", rng.uniform(15, 23), (-0.7 * off, -0.2 * off, 0.65 * off),
                     rng.normal(0, 25))
        )  # fmt: skip
    displaced = grade != "jensen1"
    return TrochantericFracture(
        obliquity_deg=rng.normal(0, 8) if rng.uniform() < 0.9 else rng.uniform(60, 85),
        offset_mm=rng.uniform(-8, 7),
        varus_deg=rng.uniform(*varus),
        shift_mm=(aside * step, 0.3 * step, 0.5 * step + rng.uniform(*shortening)),
        external_deg=rng.uniform(5, 45) if displaced else rng.uniform(0, 5),
        gap_mm=rng.uniform(0.3, 1.6) if not displaced else rng.uniform(0.0, 4.0),
        crack=draw_crack(rng, rng.uniform(0.8, 2.5)),
        avulsions=tuple(avulsions),
    )


@dataclass(frozen=True)
class Dysplasia(Lesion):
    """Developmental dysplasia (Crowe et al. J Bone Joint Surg Am 1979;61:15–23; Wiberg 1939).

    `centre_edge_deg` is what the roof covers of the head; the head lies `raised_mm` too high and
    `lateral_mm` too far out; the socket is `filled_mm` shallower.
    """

    centre_edge_deg: float
    raised_mm: float
    lateral_mm: float
    filled_mm: float
    head_scale: float
    neck_shaft_deg: float
    version_deg: float
    secondary: Arthritis | None = None

    def shape(self, shape: HipShape) -> HipShape:
        """Uncover the head, raise it, and turn the neck up and forwards."""
        shape = replace(
            shape,
            centre_edge_deg=self.centre_edge_deg,
            head_scale=shape.head_scale * self.head_scale,
            neck_shaft_deg=self.neck_shaft_deg,
            version_deg=self.version_deg,
            head_shift_mm=_plus(shape.head_shift_mm, (self.lateral_mm, 2.0, self.raised_mm)),
        )
        return self.secondary.shape(shape) if self.secondary else shape

    def surfaces(self, joint: Joint) -> Joint:
        """Fill the socket's floor, and hollow the ilium where the head has come to lie."""
        mean = atlas()
        vertices = joint.hemipelvis.vertices
        floor = vertices[mean.socket] - joint.centre
        depth = np.clip(-floor[:, 0] / (joint.femur.radius_mm * 1.2), 0.0, 1.0)
        push = np.zeros((len(mean.socket), 3))
        push[:, 0] = self.filled_mm * depth
        filled = joint.hemipelvis.moved(vertices + mean.socket_pull @ push)
        joint = replace_pelvis(joint, clear_head(filled, joint.femur, 2.5))
        return self.secondary.surfaces(joint) if self.secondary else joint

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Add what secondary arthritis does."""
        return self.secondary.tissue(bones, joint) if self.secondary else bones


def draw_dysplasia(grade: str, rng: Rng) -> Dysplasia:
    """Draw a dysplastic hip, contained or of Crowe type I to IV."""
    edge, raised, lateral, filled, scale = {
        "crowe1_contained": ((8, 20), (0, 5), (1, 5), (0, 3), (0.93, 1.02)),
        "crowe1": ((-4, 15), (7, 20), (4, 10), (2, 6), (0.90, 1.0)),
        "crowe2": ((-10, 8), (22, 33), (9, 16), (3, 8), (0.86, 0.98)),
        "crowe3": ((-10, 5), (33, 44), (13, 20), (5, 10), (0.82, 0.96)),
        "crowe4": ((-10, 5), (44, 80), (20, 28), (6, 12), (0.72, 0.92)),
    }[grade]
    secondary = None
    if rng.uniform() < 0.3:
        secondary = replace(draw_arthritis("kl2", rng), wear_mm=0.0, direction_deg=rng.normal(20, 8))
    return Dysplasia(
        centre_edge_deg=rng.uniform(*edge),
        raised_mm=rng.uniform(*raised),
        lateral_mm=rng.uniform(*lateral),
        filled_mm=rng.uniform(*filled),
        head_scale=rng.uniform(*scale),
        neck_shaft_deg=rng.normal(138, 6),
        version_deg=rng.normal(14, 8),
        secondary=secondary,
    )


@dataclass(frozen=True)
class United(Lesion):
    """A fracture that has healed: a dense, blurred band where it was, `distance_mm` from the head
    along the neck's direction.
    """

    distance_mm: float
    width_mm: float
    density: float

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Thicken the spongy bone along the old break."""
        tissue = bones.femur[0].spongiosa
        x, y = tissue.grid()
        along = 0.63 * x + 0.78 * y - self.distance_mm
        band = np.exp(-0.5 * (along / self.width_mm) ** 2)
        factor = (1.0 + self.density * band).astype(np.float32)
        return _with_tissue(bones, bones.hemipelvis.spongiosa, tissue.times(factor))


def draw_fixed_fracture(device: str, rng: Rng) -> Lesion:
    """Draw what lies under a fixation: fresh and reduced to within 2 mm and 6°, or united."""
    of_neck = device == "cannulated_screws" or (
        device == "sliding_hip_screw" and rng.uniform() < 0.3
    )
    if rng.uniform() < 0.5:
        distance = rng.uniform(16, 34) if of_neck else rng.uniform(48, 62)
        return United(distance, rng.uniform(1.5, 4), rng.uniform(0.0, 0.8))
    if of_neck:
        fresh = draw_neck_fracture("garden2", rng)
        return replace(fresh, tilt_deg=rng.normal(0, 3), impaction_mm=rng.uniform(-1.0, 1.0))
    grade = str(rng.choice(["jensen1", "jensen2", "jensen4"]))
    return replace(
        draw_trochanteric_fracture(grade, rng),
        varus_deg=rng.normal(0, 2.5),
        shift_mm=tuple(float(v) for v in rng.normal(0, 1.0, size=3)),
        external_deg=rng.normal(0, 3),
        gap_mm=rng.uniform(0.0, 1.5),
    )


@dataclass(frozen=True)
class Doubtful(Lesion):
    """Kellgren–Lawrence 1: one doubtful osteophyte, which is still normal."""

    osteophyte_mm: float

    def surfaces(self, joint: Joint) -> Joint:
        """Add the osteophyte to the head."""
        return replace_femur(joint, _head_osteophytes(joint.femur, self.osteophyte_mm))


def cut_piece(piece: Piece, level: LevelOf) -> tuple[Piece, Piece]:
    """Cut both surfaces of a piece where `level` of a point is zero: the positive part first."""
    outer = cut(piece.outer, level(piece.outer.vertices))
    inner = cut(piece.inner, level(piece.inner.vertices))
    return (
        replace(piece, outer=outer[0], inner=inner[0]),
        replace(piece, outer=outer[1], inner=inner[1]),
    )


def clear_head(hemipelvis: Mesh, femur: Femur, space_mm: float) -> Mesh:
    """Push the pelvis out of the head and the space around it.

    The socket's surface goes first and takes the bone around with it; where the head lies on the
    ilium instead, what is left inside it is pushed straight out.
    """
    return clear_sphere(hemipelvis, femur.at("head"), femur.radius_mm + space_mm)


def clear_sphere(hemipelvis: Mesh, centre: Points, reach_mm: float) -> Mesh:
    """Push the pelvis out of a sphere."""
    mean = atlas()
    vertices = hemipelvis.vertices
    push = _way_out(vertices[mean.socket] - centre, reach_mm)
    vertices = vertices + mean.socket_pull @ push
    return hemipelvis.moved(vertices + _way_out(vertices - centre, reach_mm))


def _way_out(away: Points, reach_mm: float) -> Points:
    """Return how to move points (N, 3), given from a sphere's centre, onto it if inside."""
    distance = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    return np.asarray(away * np.maximum(reach_mm / distance - 1.0, 0.0))


def replace_femur(joint: Joint, femur: Femur) -> Joint:
    """Return the joint with another femur."""
    return Joint(joint.hemipelvis, femur, joint.centre)


def replace_pelvis(joint: Joint, hemipelvis: Mesh) -> Joint:
    """Return the joint with another hemipelvis."""
    return Joint(hemipelvis, joint.femur, joint.centre)


def _flatten_head(
    femur: Femur, direction_deg: float, half_angle_deg: float, depth_mm: float, step: bool = False
) -> Femur:
    """Sink the head's surface by up to `depth_mm` about a direction; a step has a sharp edge."""
    if not depth_mm:
        return femur
    x, z = _direction(direction_deg)
    direction = np.array([x, -0.35, z])
    direction /= np.linalg.norm(direction)
    away = femur.mesh.vertices - femur.at("head")
    distance = np.linalg.norm(away, axis=1)
    cosine = away @ direction / np.maximum(distance, 1e-6)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    edge = 5.0 if step else 25.0
    sector = 1.0 - smoothstep(angle, half_angle_deg - edge, half_angle_deg + edge)
    on_head = smoothstep(distance, 0.4 * femur.radius_mm, 0.9 * femur.radius_mm)
    on_head *= distance < 1.4 * femur.radius_mm
    sunk = femur.mesh.vertices - (depth_mm * sector * on_head)[:, None] * direction
    return Femur(femur.mesh.moved(sunk), femur.radius_mm)


def _head_osteophytes(femur: Femur, height_mm: float) -> Femur:
    """Raise a collar where head meets neck, highest below and medially, and above and laterally."""
    if not height_mm:
        return femur
    head = femur.at("head")
    axis = femur.at("neck") - head
    axis /= np.linalg.norm(axis)
    away = femur.mesh.vertices - head
    along = away @ axis
    radial = away - along[:, None] * axis
    span = np.linalg.norm(radial, axis=1)
    radial /= np.maximum(span, 1e-6)[:, None]
    collar = np.exp(-0.5 * ((along - 0.62 * femur.radius_mm) / (0.16 * femur.radius_mm)) ** 2)
    collar *= span < 1.3 * femur.radius_mm
    below = np.array([-axis[2], 0.0, axis[0]])
    below *= -np.sign(below[2])
    place = np.clip(radial @ below, 0, 1) ** 3 + 0.7 * np.clip(-radial @ below, 0, 1) ** 4 + 0.15
    bump = (height_mm * collar * place)[:, None] * (radial - 0.35 * axis)
    return Femur(femur.mesh.moved(femur.mesh.vertices + bump), femur.radius_mm)


def _rim_osteophyte(hemipelvis: Mesh, centre: Points, femur: Femur, height_mm: float) -> Mesh:
    """Draw the lateral edge of the socket's roof outwards and a little down."""
    edge = roof_edge(hemipelvis, centre)
    away = np.linalg.norm(hemipelvis.vertices - edge, axis=1)
    pull = np.exp(-0.5 * (away / 6.0) ** 2)[:, None] * height_mm
    return hemipelvis.moved(hemipelvis.vertices + pull * np.array([0.9, 0.0, -0.35]))


def roof_edge(hemipelvis: Mesh, centre: Points) -> Points:
    """Return the most lateral point (3,) of the socket's roof, near the head's coronal plane."""
    roof = hemipelvis.vertices[atlas().socket]
    away = roof - centre
    # The walls behind and in front reach farther out; only the roof's middle covers.
    near = (away[:, 1] > -12.0) & (away[:, 1] < 3.0) & (away[:, 2] > 0.0)
    angle = np.where(near, np.arctan2(away[:, 0], away[:, 2]), -np.inf)
    return roof[int(np.argmax(angle))]


def centre_edge_deg(hemipelvis: Mesh, socket_centre: Points, head: Points) -> float:
    """Return the lateral centre-edge angle (Wiberg 1939): of the roof's edge over the head."""
    x, _, z = roof_edge(hemipelvis, socket_centre) - head
    return float(np.degrees(np.arctan2(x, z)))


def _sclerosis(
    tissue: Spongiosa, radius_mm: float, direction_deg: float, depth_mm: float, strength: float
) -> Spongiosa:
    """Make a band dense, from the joint's surface inwards: `depth_mm` is below zero in the head."""
    if not depth_mm:
        return tissue
    x, y = tissue.grid()
    distance = np.hypot(x, y)
    bearing = np.degrees(np.arctan2(x, -y))
    depth = (distance - radius_mm) / depth_mm
    band = np.where(depth < 0, np.exp(-0.5 * (depth / 0.4) ** 2), np.exp(-0.5 * depth**2))
    sector = np.exp(-0.5 * ((bearing - direction_deg) / 32.0) ** 2)
    return tissue.times((1.0 + 2.2 * strength * band * sector).astype(np.float32))


def _hollow(tissue: Spongiosa, cyst: Cyst, distance_mm: float) -> Spongiosa:
    x, y = tissue.grid()
    dx, dz = _direction(cyst.angle_deg) * distance_mm
    r = np.hypot(x - dx, y + dz) / (cyst.diameter_mm / 2)
    hole = 1.0 - 0.75 * _inside(0.9 - r, 0.125)
    rim = 1.0 + 0.6 * np.exp(-0.5 * ((r - 1.15) / 0.18) ** 2)
    return tissue.times((hole * rim).astype(np.float32))


def _with_tissue(bones: Bones, pelvis: Spongiosa, femur: Spongiosa) -> Bones:
    return Bones(
        replace(bones.hemipelvis, spongiosa=pelvis),
        tuple(replace(piece, spongiosa=femur) for piece in bones.femur),
    )


def _inside(depth: NDArray[np.float32], softness: float) -> NDArray[np.float32]:
    """Return 1 where `depth` is positive, 0 where negative, over a soft edge."""
    return 1.0 / (1.0 + np.exp(-np.clip(depth / softness, -30, 30)))


def _direction(angle_deg: float) -> NDArray[np.float64]:
    """Return (lateral, up) of a direction by its angle from the vertical, lateral positive."""
    return np.array([np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])


def _plus(
    a: tuple[float, float, float], b: tuple[float, float, float]
) -> tuple[float, float, float]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
