"""Fractures of the proximal femur: fresh, fixed and united."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import rotation_about_y, rotation_about_z
from hipedge.phantom.bone import Piece
from hipedge.phantom.lesions.base import Bones, Joint, Lesion
from hipedge.phantom.lesions.tissue import with_tissue
from hipedge.phantom.mesh import Points, cut


@dataclass(frozen=True)
class Crack:
    """A rough fracture surface: waves of `roughness_mm` added to the surface it follows."""

    roughness_mm: float
    waves: tuple[tuple[float, float, float, float], ...]  # wave vector per mm (3), phase

    def roughness(self, points: Points) -> NDArray[np.float64]:
        """Return the deviation of the crack from its surface at points (N, 3), in mm."""
        total = np.zeros(len(points))
        for kx, ky, kz, phase in self.waves:
            total += np.sin(points @ np.array([kx, ky, kz]) + phase)
        return np.asarray(self.roughness_mm * total / np.sqrt(len(self.waves)))


def draw_crack(rng: np.random.Generator, roughness_mm: float) -> Crack:
    """Draw the roughness of a crack, with wavelengths of 8 to 40 mm."""
    waves = []
    for wavelength_mm in rng.uniform(8, 40, size=5):
        direction = rng.normal(size=3)
        k = 2 * np.pi / wavelength_mm * direction / np.linalg.norm(direction)
        waves.append((float(k[0]), float(k[1]), float(k[2]), rng.uniform(0, 2 * np.pi)))
    return Crack(roughness_mm, tuple(waves))


@dataclass(frozen=True)
class NeckFracture(Lesion):
    """Fracture of the femoral neck (Garden. J Bone Joint Surg Br 1961;43:647–663).

    The fracture crosses the neck `level_mm` from the head's centre, in a plane rotated by
    `obliquity_deg` (Pauwels). The head tilts by `tilt_deg` (valgus positive). The shaft is
    displaced by `shift_mm` (x lateral, y posterior, z up), rotated externally by `external_deg`
    and impacted into the head by `impaction_mm`; a negative impaction leaves a gap.
    """

    level_mm: float
    obliquity_deg: float
    tilt_deg: float
    shift_mm: tuple[float, float, float]
    external_deg: float
    impaction_mm: float
    crack: Crack

    def fragments(self, bones: Bones, joint: Joint) -> Bones:
        """Cut the neck in two and displace the fragments; the head stays in its socket."""
        whole = bones.femur[0]
        head = joint.femur.at("head")
        axis = joint.femur.at("neck") - head
        axis = axis / np.linalg.norm(axis)
        plane = rotation_about_y(np.radians(self.obliquity_deg)) @ axis

        def level(points: Points) -> NDArray[np.float64]:
            stray = self.crack.roughness(points)
            return np.asarray(stray - (points - head - self.level_mm * axis) @ plane)

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


def draw_neck_fracture(grade: str, rng: np.random.Generator) -> NeckFracture:
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
    """An avulsed trochanter: the size of the fragment and its displacement (mm, degrees)."""

    landmark: str
    radius_mm: float
    shift_mm: tuple[float, float, float]
    turn_deg: float


@dataclass(frozen=True)
class TrochantericFracture(Lesion):
    """Intertrochanteric fracture (Jensen. Acta Orthop Scand 1980;51:803–810; AO/OTA 31A).

    The fracture runs from the greater to the lesser trochanter, rotated by `obliquity_deg`. The
    head tilts into varus by `varus_deg`; the shaft is displaced by `shift_mm` and rotated
    externally by `external_deg`.
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
        """Cut the femur between the trochanters and avulse these; the head stays in place."""
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
            return np.asarray((points - middle) @ normal + self.crack.roughness(points))

        rest = bones.femur[0]
        broken_off = []
        for avulsion in self.avulsions:
            at = femur.at(avulsion.landmark)

            def within(
                points: Points, at: Points = at, avulsion: Avulsion = avulsion
            ) -> NDArray[np.float64]:
                away = np.linalg.norm(points - at, axis=1)
                return np.asarray(avulsion.radius_mm - away + 0.7 * self.crack.roughness(points))

            fragment, rest = cut_piece(rest, within)
            turn = rotation_about_y(np.radians(avulsion.turn_deg))
            broken_off.append(fragment.moved(turn, at, np.array(avulsion.shift_mm)))
        proximal, distal = cut_piece(rest, level)
        varus = rotation_about_y(np.radians(-self.varus_deg))
        # Varus about the fracture lowers the head. As the head stays in its socket, the shaft
        # rises instead.
        rise = head - ((head - middle) @ varus.T + middle)
        still = np.zeros(3)
        proximal = proximal.moved(varus, middle, rise)
        displaced = rise + np.array(self.shift_mm) - self.gap_mm * normal
        distal = distal.moved(rotation_about_z(np.radians(self.external_deg)), middle, displaced)
        moved = tuple(piece.moved(np.eye(3), still, displaced) for piece in broken_off)
        return replace(bones, femur=(proximal, distal, *moved))


def draw_trochanteric_fracture(grade: str, rng: np.random.Generator) -> TrochantericFracture:
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
class United(Lesion):
    """A healed fracture: a dense, blurred band at its site.

    The band lies `distance_mm` from the head along the direction of the neck.
    """

    distance_mm: float
    width_mm: float
    density: float

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Increase the density of the cancellous bone along the old fracture."""
        tissue = bones.femur[0].spongiosa
        x, y = tissue.grid()
        along = 0.63 * x + 0.78 * y - self.distance_mm
        band = np.exp(-0.5 * (along / self.width_mm) ** 2)
        factor = (1.0 + self.density * band).astype(np.float32)
        return with_tissue(bones, bones.hemipelvis.spongiosa, tissue.times(factor))


def draw_fixed_fracture(device: str, rng: np.random.Generator) -> Lesion:
    """Draw the fracture under a fixation: fresh and reduced to within 2 mm and 6°, or united."""
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
        shift_mm=(rng.normal(0, 1.0), rng.normal(0, 1.0), rng.normal(0, 1.0)),
        external_deg=rng.normal(0, 3),
        gap_mm=rng.uniform(0.0, 1.5),
    )


def cut_piece(piece: Piece, level: Callable[[Points], NDArray[np.float64]]) -> tuple[Piece, Piece]:
    """Cut both surfaces of a piece where `level` of a point is zero.

    Returns the part where `level` is positive, then the part where it is negative.
    """
    outer = cut(piece.outer, level(piece.outer.vertices))
    inner = cut(piece.inner, level(piece.inner.vertices))
    return (
        replace(piece, outer=outer[0], inner=inner[0]),
        replace(piece, outer=outer[1], inner=inner[1]),
    )
