"""Joint replacement: cemented and uncemented total hips, hemiarthroplasty, resurfacing.

Cups have an inclination of 30–50° and an anteversion of 5–25°, mostly (Lewinnek et al.,
J Bone Joint Surg Am 1978;60:217–220). Uncemented stems follow the types of Khanuja et al., J Bone
Joint Surg Am 2011;93:500–509; the cemented stem is a polished double taper of 125 or 150 mm in a
mantle of 2–4 mm (Scheerlinck and Casteleyn, J Bone Joint Surg Br 2006;88:1409–1418).

The prosthetic head lies at the centre of the new socket, which is that of the native socket; this
determines the offset and the neck length of the stem. Stems are built in the femur's own axes and
transformed to the patient's coordinates at the end; all other parts are built in the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from hipedge.phantom.hardware.frames import CRANIAL, AcetabulumFrame, FemurFrame
from hipedge.phantom.hardware.implant import Implant, Material, Part, Plane, Sphere
from hipedge.phantom.hardware.solids import Floats, Screw, Solid, arc, loft, rod, screw, turned

DOME_SCREW = Screw(head=(8.0, 3.0), shank=5.0, thread=6.5, core=4.5, pitch=2.75)
SHELL_MM = 3.5
LINER_MM = 5.0  # the minimum thickness of polyethylene in use
BORE_END_MM = 1.0  # distance from the head's centre to the end of its bore
TAPER_MM = 12.0  # diameter of the neck's end, a 12/14 taper
POLE_MM = 0.05  # distance from the axis at which outlines end


@dataclass(frozen=True)
class StemDesign:
    """A stem design: widths in the frontal plane, depths in the anteroposterior direction.

    The length is measured from the shoulder to the tip; the two depths are those at the tip and at
    the top. `fill` is the fraction of the canal's width that the tip occupies; `straight` means
    that the sides are parallel below the lesser trochanter; `flare_mm` is the lateral extent of
    the shoulder.
    """

    name: str
    material: Material
    length_mm: float
    fill: float
    straight: bool
    flare_mm: float
    depth_mm: tuple[float, float]
    mantle_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class Sections:
    """Cross-sections of a stem, from its tip to the end of its neck.

    `medial` and `lateral` (N, 2) are the end points of the sections as (medial, up) in the plane of
    shaft and head; `depth` (N,) is their anteroposterior extent, and `aside` (N,) the distance of
    their centres behind that plane.
    """

    medial: Floats
    lateral: Floats
    depth: Floats
    aside: Floats

    def __getitem__(self, some: slice) -> Sections:
        return Sections(self.medial[some], self.lateral[some], self.depth[some], self.aside[some])

    def grown(self, thickness: float) -> Sections:
        """Return the sections enlarged by `thickness` on all sides."""
        aside = np.array([thickness, 0.0])
        return Sections(
            self.medial + aside, self.lateral - aside, self.depth + 2 * thickness, self.aside
        )

    def inside(self, femur: FemurFrame) -> Sections:
        """Return the sections clipped to the marrow canal of this femur."""
        medial, lateral = self.medial.copy(), self.lateral.copy()
        medial[:, 0] = np.minimum(medial[:, 0], femur.marrow(medial[:, 1])[..., 0])
        lateral[:, 0] = np.maximum(lateral[:, 0], -femur.marrow(lateral[:, 1])[..., 1])
        ahead, behind = femur.marrow((medial[:, 1] + lateral[:, 1]) / 2)[..., 2:].T
        deepest = 2 * np.minimum(ahead + self.aside, behind - self.aside)
        return Sections(medial, lateral, np.minimum(self.depth, deepest), self.aside)

    def solid(self) -> Solid:
        """Return the closed surface through the sections."""
        return loft(self.medial, self.lateral, self.depth, self.aside)


def cemented_total_hip(
    femur: FemurFrame, acetabulum: AcetabulumFrame, rng: np.random.Generator
) -> Implant:
    """Build a cemented total hip: a polyethylene cup with wire marker, a polished taper stem."""
    head_radius = float(rng.choice([22.2, 28.0, 32.0])) / 2
    cement = rng.uniform(2.0, 4.0)
    bed = acetabulum.radius_mm + rng.uniform(0.0, 2.0)
    cup_radius = bed - cement
    opening, angles = _opening(acetabulum, rng)
    cup = turned(
        np.concatenate([arc(cup_radius, 0.1, 90.0, 16), arc(head_radius + 0.1, 90.0, 0.2, 12)])
    )
    mantle = turned(np.concatenate([arc(bed, 0.1, 86.0, 16), arc(cup_radius, 86.0, 0.1, 16)]))
    parts = [
        _placed(cup, acetabulum.centre, opening, Material.POLYETHYLENE),
        _placed(mantle, acetabulum.centre, opening, Material.BONE_CEMENT),
    ]
    parts += [
        _placed(wire, acetabulum.centre, opening, Material.STAINLESS_STEEL)
        for wire in _marker_wires(cup_radius)
    ]
    design = _cemented_stem(rng)
    parts += _head_and_stem(femur, acetabulum.centre, rng, design, head_radius)
    return Implant(
        family="cemented_total_hip",
        parts=tuple(parts),
        description=f"cemented total hip; polyethylene cup {2 * cup_radius:.0f} mm with wire "
        f"marker at {angles}; head {2 * head_radius:.0f} mm; {design.name}",
        resection=_neck_cut(femur, rng),
        reamed=Sphere(acetabulum.centre, bed),
    )


def uncemented_total_hip(
    femur: FemurFrame, acetabulum: AcetabulumFrame, rng: np.random.Generator
) -> Implant:
    """Build a press-fit total hip: a metal shell with a liner, and a stem of one of three kinds."""
    shell_radius = _in_steps(acetabulum.radius_mm + rng.uniform(0.0, 2.0), 22.0, 32.0)
    largest = 2 * (shell_radius - SHELL_MM - LINER_MM)
    # The smallest shells take only the 22.2 mm head of Charnley's low-friction arthroplasty.
    fitting = [d for d in (28.0, 32.0, 36.0) if d <= largest] or [22.2]
    head_radius = float(rng.choice(fitting)) / 2
    opening, angles = _opening(acetabulum, rng)
    inner = shell_radius - SHELL_MM
    # The hole for the inserter at the pole is left open.
    shell = turned(
        np.concatenate([arc(shell_radius, 9.0, 88.0, 16), arc(inner, 88.0, 10.0, 16)]),
        36,
        joined=True,
    )
    liner = turned(
        np.concatenate([arc(inner, 0.1, 90.0, 16), arc(head_radius + 0.1, 90.0, 0.2, 12)])
    )
    parts = [
        _placed(shell, acetabulum.centre, opening, Material.TITANIUM),
        _placed(liner, acetabulum.centre, opening, Material.POLYETHYLENE),
    ]
    screws = int(rng.choice([0, 1, 2], p=[0.6, 0.2, 0.2]))
    for _ in range(screws):
        length = float(rng.choice([20.0, 25.0, 30.0, 35.0]))
        # Into the ilium: upwards, slightly backwards and medially, within the dome of the shell.
        direction = CRANIAL - opening + rng.normal(0.0, 0.18, 3)
        direction = direction / np.linalg.norm(direction)
        body = screw(DOME_SCREW, length, length - 4.0)
        start = acetabulum.centre + (shell_radius - 1.0) * direction
        parts.append(_placed(body, start, direction, Material.TITANIUM))
    design = _uncemented_stem(femur, rng)
    parts += _head_and_stem(femur, acetabulum.centre, rng, design, head_radius)
    return Implant(
        family="uncemented_total_hip",
        parts=tuple(parts),
        description=f"uncemented total hip; cup {2 * shell_radius:.0f} mm at {angles}; "
        f"{screws} cup screws; head {2 * head_radius:.0f} mm; {design.name}",
        resection=_neck_cut(femur, rng),
        reamed=Sphere(acetabulum.centre, shell_radius),
    )


def hemiarthroplasty(
    femur: FemurFrame, acetabulum: AcetabulumFrame, rng: np.random.Generator
) -> Implant:
    """Build a hemiarthroplasty: a bipolar shell over a small head, or a single large head."""
    # The head fills the socket except for the cartilage, which is preserved.
    radius = _in_steps(min(femur.head_radius_mm + 1.5, acetabulum.radius_mm - 1.5), 19.0, 30.0)
    design = _cemented_stem(rng) if rng.random() < 0.6 else _uncemented_stem(femur, rng)
    bipolar = bool(rng.random() < 0.75)
    parts: list[Part] = []
    head_radius = radius
    if bipolar:
        head_radius = float(rng.choice([22.2, 28.0])) / 2
        neck = femur.direction(femur.neck)
        opening = -neck + rng.normal(0.0, 0.2, 3)
        opening = opening / np.linalg.norm(opening)
        inner = radius - SHELL_MM
        shell = turned(
            np.concatenate([arc(radius, 0.1, 105.0, 18), arc(inner, 107.0, 0.1, 18)]), 36
        )
        insert = turned(
            np.concatenate([arc(inner, 0.1, 106.0, 18), arc(head_radius + 0.1, 100.0, 0.2, 12)])
        )
        parts = [
            _placed(shell, acetabulum.centre, opening, Material.COBALT_CHROME),
            _placed(insert, acetabulum.centre, opening, Material.POLYETHYLENE),
        ]
    parts += _head_and_stem(
        femur, acetabulum.centre, rng, design, head_radius, Material.COBALT_CHROME
    )
    kind = "bipolar" if bipolar else "unipolar"
    return Implant(
        family="hemiarthroplasty",
        parts=tuple(parts),
        description=f"{kind} hemiarthroplasty; head {2 * radius:.0f} mm; {design.name}",
        resection=_neck_cut(femur, rng),
    )


def resurfacing(
    femur: FemurFrame, acetabulum: AcetabulumFrame, rng: np.random.Generator
) -> Implant:
    """Build a resurfacing: a metal cap on a short pin in a thick metal cup.

    The neck and the trochanters are preserved.
    """
    radius = femur.head_radius_mm + rng.uniform(0.5, 1.5)
    thickness = rng.uniform(3.5, 4.5)
    opening, angles = _opening(acetabulum, rng)
    cup = turned(
        np.concatenate([arc(radius + thickness, 0.1, 85.0, 16), arc(radius + 0.1, 85.0, 0.1, 16)]),
        36,
    )
    valgus = np.radians(rng.uniform(0.0, 8.0))
    axis = femur.neck * np.cos(valgus) + np.array([-femur.neck[2], 0.0, femur.neck[0]]) * np.sin(
        valgus
    )
    down = -femur.direction(axis / np.linalg.norm(axis))
    pin_mm = rng.uniform(2.2, 2.8) * femur.head_radius_mm
    inside = radius - rng.uniform(3.0, 4.0)
    cap = turned(
        np.concatenate(
            [
                arc(radius, 0.1, 100.0, 18),
                arc(inside, 103.0, 12.0, 14),
                [[0.0, 4.0], [pin_mm - inside, 2.6], [pin_mm - inside + 1.0, POLE_MM]],
            ]
        ),
        36,
    )
    return Implant(
        family="resurfacing",
        parts=(
            _placed(cup, acetabulum.centre, opening, Material.COBALT_CHROME),
            _placed(cap, acetabulum.centre, down, Material.COBALT_CHROME),
        ),
        description=f"hip resurfacing; head {2 * radius:.0f} mm; cup at {angles}",
        reamed=Sphere(acetabulum.centre, radius + thickness),
    )


ARTHROPLASTIES: Mapping[
    str, Callable[[FemurFrame, AcetabulumFrame, np.random.Generator], Implant]
] = MappingProxyType(
    {
        "cemented_total_hip": cemented_total_hip,
        "hemiarthroplasty": hemiarthroplasty,
        "uncemented_total_hip": uncemented_total_hip,
        "resurfacing": resurfacing,
    }
)


def _opening(acetabulum: AcetabulumFrame, rng: np.random.Generator) -> tuple[Floats, str]:
    """Draw the axis of a cup, pointing out of the socket, and describe its inclination."""
    inclination = float(np.clip(rng.normal(42.0, 5.0), 30.0, 50.0))
    anteversion = float(np.clip(rng.normal(15.0, 5.0), 5.0, 25.0))
    return acetabulum.opening(inclination, anteversion), f"{inclination:.0f} degrees"


def _marker_wires(cup_radius: float) -> list[Solid]:
    """Build the two marker wires of a cemented cup: around the rim and over the pole."""
    turn = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    rim = (cup_radius - 1.0) * np.column_stack([np.cos(turn), np.sin(turn), 0.0 * turn])
    rim[:, 2] = -2.5
    over = np.linspace(0.08, np.pi - 0.08, 24)
    dome = (cup_radius - 1.0) * np.column_stack([np.cos(over), 0.0 * over, -np.sin(over)])
    return [rod(rim, 0.6, 8, joined=True), rod(dome, 0.6, 8)]


def _cemented_stem(rng: np.random.Generator) -> StemDesign:
    length = float(rng.choice([125.0, 150.0], p=[0.2, 0.8]))
    material = Material.STAINLESS_STEEL if rng.random() < 0.6 else Material.COBALT_CHROME
    return StemDesign(
        name=f"cemented polished taper {length:.0f} mm",
        material=material,
        length_mm=length,
        fill=rng.uniform(0.35, 0.5),
        straight=False,
        flare_mm=rng.uniform(9.0, 12.0),
        depth_mm=(5.5, rng.uniform(10.0, 13.0)),
        mantle_mm=rng.uniform(2.0, 4.0),
    )


def _uncemented_stem(femur: FemurFrame, rng: np.random.Generator) -> StemDesign:
    kind = str(rng.choice(["tapered wedge", "fully coated", "short"], p=[0.6, 0.2, 0.2]))
    shortest, longest = {
        "tapered wedge": (105.0, 135.0),
        "fully coated": (150.0, 175.0),
        "short": (85.0, 105.0),
    }[kind]
    coated = kind == "fully coated"
    canal = 2 * femur.canal_radius_mm
    length = rng.uniform(shortest, longest)
    return StemDesign(
        name=f"uncemented {kind} stem {length:.0f} mm",
        material=Material.COBALT_CHROME if coated else Material.TITANIUM,
        length_mm=length,
        fill=rng.uniform(0.88, 0.97) if coated else rng.uniform(0.35, 0.65),
        straight=coated,
        flare_mm=rng.uniform(12.0, 15.0),
        depth_mm=(0.9 * canal, canal) if coated else (7.0, rng.uniform(9.0, 12.0)),
    )


def _head_and_stem(
    femur: FemurFrame,
    centre: Floats,
    rng: np.random.Generator,
    design: StemDesign,
    head_radius: float,
    head_material: Material | None = None,
) -> list[Part]:
    """Build the head at `centre`, its stem, and the cement mantle around the stem, if any."""
    axes = np.stack([femur.medial, femur.posterior, femur.up])
    x, y, height = axes @ (centre - femur.lesser_trochanter)
    offset = np.hypot(x, y)
    head = np.array([offset, height])
    # All solids are built with the plane of shaft and head as reference, and rotated into it at
    # the end.
    turn = np.array([[x, y, 0.0], [-y, x, 0.0], [0.0, 0.0, offset]]) / offset

    neck_shaft_deg = float(rng.choice([125.0, 127.0, 130.0, 132.0, 135.0]))
    neck = _in_plane(neck_shaft_deg)
    stem, below_neck = _stem(femur, rng, design, head, neck)
    solids = [
        (
            _ball(head_radius).along([offset, 0.0, height], [-neck[0], 0.0, -neck[1]]),
            head_material or _head_material(rng),
        ),
        (stem.solid(), design.material),
    ]
    if design.mantle_mm:
        mantle = _mantle(femur, stem[2:below_neck], design.mantle_mm)
        solids.append((mantle.solid(), Material.BONE_CEMENT))
    return [
        femur.part(Solid(solid.vertices @ turn, solid.faces), material)
        for solid, material in solids
    ]


def _ball(radius: float) -> Solid:
    """Build a head centred on the origin, with a bore for the neck's taper from above."""
    bore = TAPER_MM / 2 + 0.1
    mouth = 180.0 - np.degrees(np.arcsin(bore / radius))
    return turned(
        np.concatenate([arc(radius, 0.2, mouth, 20), [[BORE_END_MM, bore], [BORE_END_MM, POLE_MM]]])
    )


def _stem(
    femur: FemurFrame,
    rng: np.random.Generator,
    design: StemDesign,
    head: Floats,
    neck: Floats,
) -> tuple[Sections, int]:
    """Draw a stem in the plane of shaft and head; `head` and `neck` (2,) are (medial, up).

    The body tapers from the shoulder to the canal. A curve along the calcar joins it to the neck,
    which leaves the shaft's axis at the neck–shaft angle of the stem and ends in the head's bore.
    Returns the sections, and the number of them that cement may cover.
    """
    above = np.array([-neck[1], neck[0]])
    root = head - neck * head[0] / neck[0]
    base = root + rng.uniform(18.0, 21.0) * neck
    medial_base, lateral_base = base - 8.0 * above, base + 8.0 * above
    shoulder = np.array([-design.flare_mm, root[1] + rng.uniform(8.0, 12.0)])
    calcar = min(design.flare_mm + 2.0, float(femur.medial_reach(root[1])) - 6.0)
    bend = medial_base - neck * (medial_base[0] - calcar) / neck[0]
    tip = shoulder[1] - design.length_mm
    heights = np.concatenate(
        [tip + np.array([0.0, 1.0, 3.0]), np.linspace(tip + 8.0, bend[1] - 12.0, 9)]
    )
    body = _body(femur, rng, design, heights, calcar, shoulder)

    # Above the body the sections fan out: along the curve of the calcar on the medial side, up to
    # the shoulder and over it on the lateral side.
    t = np.linspace(0.0, 1.0, 9)[1:, None]
    top_medial, top_lateral = body.medial[-1], body.lateral[-1]
    curve = (1 - t) ** 2 * top_medial + 2 * t * (1 - t) * bend + t**2 * medial_base
    blunt = shoulder + np.array([[0.0, -2.0], [2.0, 0.5]])
    edge = np.concatenate([[top_lateral], blunt, [lateral_base]])
    over = np.column_stack([np.interp(t[:, 0], [0.0, 0.5, 0.65, 1.0], e) for e in edge.T])

    end = head - (BORE_END_MM + 0.2) * neck
    taper = end - 14.0 * neck
    axis = np.stack([(base + taper) / 2, taper - 2.0 * neck, taper, end])
    half_width = np.array([6.2, 6.2, 7.0, TAPER_MM / 2])[:, None]
    stem = Sections(
        np.concatenate([body.medial, curve, axis - half_width * above]),
        np.concatenate([body.lateral, over, axis + half_width * above]),
        np.concatenate([body.depth, np.full(8, body.depth[-1]), [10.5, 10.5, 13.0, TAPER_MM]]),
        np.concatenate([body.aside, np.zeros(12)]),
    )
    return stem, len(heights) + 5


def _body(
    femur: FemurFrame,
    rng: np.random.Generator,
    design: StemDesign,
    heights: Floats,
    calcar: float,
    shoulder: Floats,
) -> Sections:
    """Draw the horizontal sections of a stem's body at `heights`.

    At the top, the body reaches `calcar` mm medially. It is tilted so that its tip lies near the
    middle of the canal, which need not be on the shaft's axis.
    """
    tip, top = heights[0], heights[-1]
    narrow = design.fill * femur.canal_radius_mm
    straight_to = max(tip, -15.0) if design.straight else tip
    rounded = np.interp(heights - tip, [0.0, 1.0, 3.0], [0.4, 0.8, 1.0])
    medially = np.interp(heights, [straight_to, top], [narrow, calcar]) * rounded
    laterally = np.interp(heights, [straight_to, shoulder[1]], [narrow, design.flare_mm]) * rounded
    middle, behind, _ = femur.centre_line(tip)
    slack = np.clip(femur.canal_radius_mm - narrow - design.mantle_mm - 0.3, 0.0, 3.0)
    lean = np.interp(heights, [tip, top], [1.0, 0.0])
    moved = lean * (middle + rng.uniform(-1.0, 1.0) * slack)
    return Sections(
        np.column_stack([moved + medially, heights]),
        np.column_stack([moved - laterally, heights]),
        np.interp(heights, [tip, top], design.depth_mm) * rounded,
        lean * behind,
    ).inside(femur)


def _mantle(femur: FemurFrame, stem: Sections, thickness: float) -> Sections:
    """Return the cement mantle around a stem's sections, including the plug below the tip."""
    plug = np.array([0.0, 10.0])
    return (
        Sections(
            np.concatenate([stem.medial[:1] - plug, stem.medial]),
            np.concatenate([stem.lateral[:1] - plug, stem.lateral]),
            np.concatenate([stem.depth[:1], stem.depth]),
            np.concatenate([stem.aside[:1], stem.aside]),
        )
        .grown(thickness)
        .inside(femur)
    )


def _neck_cut(femur: FemurFrame, rng: np.random.Generator) -> tuple[Plane, ...]:
    """Return the planes that cut the neck 10 to 16 mm above the lesser trochanter.

    The greater trochanter is spared.
    """
    height = rng.uniform(10.0, 16.0)
    slope = np.radians(rng.uniform(42.0, 52.0))
    at_calcar = np.array([femur.medial_reach(height) - 2.0, 0.0, height])
    beside_trochanter = np.array([rng.uniform(0.0, 4.0), 0.0, 0.0])
    return (
        Plane(
            femur.to_patient(at_calcar),
            femur.direction(np.array([np.sin(slope), 0.0, np.cos(slope)])),
        ),
        Plane(femur.to_patient(beside_trochanter), femur.medial),
    )


def _in_plane(neck_shaft_deg: float) -> Floats:
    """Return the unit direction (2,), as (medial, up), of a neck at an angle to the shaft."""
    angle = np.radians(neck_shaft_deg)
    return np.array([np.sin(angle), -np.cos(angle)])


def _head_material(rng: np.random.Generator) -> Material:
    return Material.CERAMIC if rng.random() < 0.4 else Material.COBALT_CHROME


def _in_steps(radius: float, smallest: float, largest: float) -> float:
    """Round a shell's radius to the available sizes, whose diameters are 2 mm apart."""
    return float(np.clip(np.round(radius), smallest, largest))


def _placed(solid: Solid, start: Floats, direction: Floats, material: Material) -> Part:
    """Place a solid in the patient's coordinates, with its own z axis along `direction`."""
    body = solid.along(start, direction)
    return Part(body.vertices.astype(np.float32), body.faces, material)
