"""Internal fixation: cannulated screws, sliding hip screw, cephalomedullary nail, locking plate.

Dimensions are those of common implants, from the manufacturers' technique guides: Synthes 6.5 and
7.3 mm cannulated screws, DHS/DCS system, PFNA and LCP proximal femoral plate 4.5/5.0; Stryker
Gamma3. One implant in four is poorly placed, with a tip–apex distance that tends to exceed the
25 mm above which screws cut out (Baumgaertner et al., J Bone Joint Surg Am 1995;77:1058–1064).

All solids are built in the femur's own axes (medial, posterior, up) and transformed to the
patient's coordinates at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from hipedge.phantom.hardware.frames import FemurFrame
from hipedge.phantom.hardware.implant import Implant, Material
from hipedge.phantom.hardware.solids import (
    Floats,
    Screw,
    Solid,
    helical_blade,
    rod,
    screw,
    slotted_plate,
    turned,
)

CANNULATED = {
    6.5: Screw(head=(8.0, 4.6), shank=4.8, thread=6.5, core=4.6, pitch=2.75, bore=2.9),
    7.3: Screw(head=(8.0, 4.6), shank=4.8, thread=7.3, core=4.8, pitch=2.75, bore=2.9),
}
DHS_LAG = Screw(head=(8.0, 0.5), shank=8.0, thread=12.5, core=8.0, pitch=3.0, sides=16)
NAIL_LAG = Screw(head=(10.5, 0.5), shank=10.5, thread=10.5, core=7.0, pitch=3.2, sides=16)
CORTEX_4_5 = Screw(head=(8.0, 4.4), shank=4.0, thread=4.5, core=3.2, pitch=1.75, sides=8)
LOCKING_5_0 = Screw(head=(6.6, 4.4), shank=4.6, thread=5.0, core=4.4, pitch=1.5, sides=8)
LOCKING_7_3 = Screw(head=(8.0, 5.0), shank=6.0, thread=7.3, core=5.6, pitch=2.2, sides=12)
NAIL_LOCKING_5_0 = Screw(head=(8.0, 4.0), shank=4.4, thread=5.0, core=4.2, pitch=1.8, sides=8)

SHARE_PLACED_POORLY = 0.25


def cannulated_screws(femur: FemurFrame, rng: np.random.Generator) -> Implant:
    """Place three parallel screws in the neck as an inverted triangle, as for a neck fracture."""
    poor = bool(rng.random() < SHARE_PLACED_POORLY)
    diameter = float(rng.choice([6.5, 7.3]))
    kind, metal = CANNULATED[diameter], _metal(rng)
    thread_length = float(rng.choice([16.0, 32.0]))
    tilt = np.radians(rng.normal(0.0, 6.0 if poor else 2.5))
    neck = _unit(femur.neck + tilt * np.array([-femur.neck[2], 0.0, femur.neck[0]]))
    above = np.array([-neck[2], 0.0, neck[0]])
    beside = np.cross(neck, above)
    room = femur.neck_radius_mm - diameter / 2 - rng.uniform(1.0, 2.5)
    screws, washers, lengths = [], [], []
    with_washers = rng.random() < 0.25
    for across, upward in ((0.0, -1.0), (-0.8, 0.6), (0.8, 0.6)):
        direction = _unit(neck + np.radians(4.0 if poor else 1.0) * rng.normal(0.0, 1.0, 3))
        aim = femur.head + room * (across * beside + upward * above)
        depth = rng.uniform(8.0, 13.0) if poor else rng.uniform(5.0, 9.0)
        tip = _deepest(femur, aim, direction, diameter / 2, depth)
        start = _leaves_laterally(femur, tip, direction)
        length = _in_fives(np.linalg.norm(tip - start))
        screws.append(screw(kind, length, thread_length).along(start, direction))
        lengths.append(f"{length:.0f}")
        if with_washers:
            washer = turned([[-1.2, 4.1], [-1.2, 6.5], [0.2, 6.5], [0.2, 4.1]], 20, joined=True)
            washers.append(washer.along(start, direction))
    return _implant(
        "cannulated_screws",
        femur,
        metal,
        screws + washers,
        f"three {diameter} mm cannulated screws {'/'.join(lengths)} mm"
        + (" with washers" if with_washers else ""),
        poor,
    )


def sliding_hip_screw(femur: FemurFrame, rng: np.random.Generator) -> Implant:
    """Place a lag screw in the neck that slides in the barrel of a plate on the shaft (DHS)."""
    poor = bool(rng.random() < SHARE_PLACED_POORLY)
    metal = _metal(rng)
    angle_deg = _nearest(rng, femur.neck_shaft_deg, (130.0, 135.0, 140.0))
    holes = int(rng.integers(2, 6))
    tip, aside = _head_target(femur, rng, DHS_LAG.thread / 2, poor)
    first = _leaves_laterally(femur, tip, _neck_direction(angle_deg))
    # The plate lies on the shaft below; its upper end is sunk into the flare of the trochanter.
    path, upward = _straight_along(femur, first[2] - 24.0 - 16.0 * holes, first[2])
    path = np.concatenate([path, path[-1:] + 12.0 * upward])
    direction = _against_plate(angle_deg, upward)
    junction = _meets_line(tip, direction, path[0], upward)
    start = junction + rng.uniform(2.0, 10.0) * direction
    length = _in_fives(np.linalg.norm(tip - start))
    start = tip - length * direction
    barrel = turned([[-2.0, 4.3], [-2.0, 6.3], [38.0, 6.3], [38.0, 4.3]], 24, joined=True)
    solids = [
        screw(DHS_LAG, length, 22.0).along(start, direction),
        barrel.along(junction, direction),
    ]
    from_end = np.linalg.norm(junction[[0, 2]] - path[0]) - 25.0
    slots = from_end - 16.0 * np.arange(holes)
    solids += _plate(femur, rng, path, (19.0, 5.8), slots, CORTEX_4_5, share_empty=0.05)
    tip_apex = tip_apex_mm(femur, tip + aside)
    return _implant(
        "sliding_hip_screw",
        femur,
        metal,
        [_moved(solid, aside) for solid in solids],
        f"sliding hip screw {angle_deg:.0f} degrees; {holes} holes; lag {length:.0f} mm; "
        f"tip-apex distance {tip_apex:.0f} mm",
        poor,
    )


def cephalomedullary_nail(femur: FemurFrame, rng: np.random.Generator) -> Implant:
    """Place a nail in the canal from the trochanter's tip, and a lag screw or blade through it."""
    poor = bool(rng.random() < SHARE_PLACED_POORLY)
    long = bool(rng.random() < 0.3)
    blade = bool(rng.random() < 0.4)
    angle_deg = _nearest(rng, femur.neck_shaft_deg, (120.0, 125.0, 130.0, 135.0))
    bend = np.tan(np.radians(rng.uniform(4.0, 6.0)))
    tip, aside = _head_target(femur, rng, NAIL_LAG.thread / 2, poor)
    direction = _neck_direction(angle_deg)
    through = tip - direction * (tip[0] + 1.0) / direction[0]
    # The hole for the head screw lies 38 to 55 mm below the nail's upper end.
    top = np.clip(femur.trochanter_tip[2] + rng.uniform(-5.0, 6.0), *(through[2] + [38.0, 55.0]))
    nail_length = float(rng.choice([260.0, 280.0, 300.0] if long else [170.0, 180.0, 200.0, 240.0]))
    distal = min(float(rng.choice([10.0, 11.0, 12.0])), 2 * femur.canal_radius_mm - 1.0) / 2
    proximal = float(rng.choice([15.5, 16.5, 17.0])) / 2
    heights = np.concatenate(
        [
            top - nail_length + np.array([0.0, 1.0, 3.0]),
            np.linspace(top - nail_length + 15.0, top - 85.0, 12),
            top - np.array([75.0, 65.0, 55.0, 40.0, 25.0, 10.0, 1.0, 0.0]),
        ]
    )
    path = femur.centre_line(heights) * np.array([1.0, 1.0, 0.0])
    path *= np.clip((-20.0 - heights) / 30.0, 0.0, 1.0)[:, None]
    path[:, 0] -= np.clip(heights - through[2] + 12.0, 0.0, None) * bend
    path[:, 2] = heights
    radii = np.interp(top - heights, [60.0, 85.0], [proximal, distal])
    radii[[0, 1, -1]] *= [0.5, 0.8, 0.85]
    nail = rod(path, radii)
    cortex = _leaves_laterally(femur, tip, direction)
    length = _in_fives(np.linalg.norm(tip - cortex) + rng.uniform(2.0, 8.0))
    start = tip - length * direction
    lag = helical_blade(10.3, length, 35.0) if blade else screw(NAIL_LAG, length, 24.0)
    solids = [nail, _moved(lag.along(start, direction), aside)]
    for above_end in (20.0, 40.0) if long else (float(rng.uniform(18.0, 35.0)),):
        height = top - nail_length + above_end
        solids.append(_across_shaft(femur, height, NAIL_LOCKING_5_0))
    return _implant(
        "cephalomedullary_nail",
        femur,
        Material.TITANIUM,
        solids,
        f"{'long' if long else 'short'} nail {nail_length:.0f} mm with "
        f"{'blade' if blade else 'lag screw'} {length:.0f} mm at {angle_deg:.0f} degrees; "
        f"tip-apex distance {tip_apex_mm(femur, tip + aside):.0f} mm",
        poor,
    )


def proximal_plate(femur: FemurFrame, rng: np.random.Generator) -> Implant:
    """Place a locking plate over the trochanter, with three screws that converge in the head."""
    poor = bool(rng.random() < SHARE_PLACED_POORLY)
    metal = _metal(rng)
    holes = int(rng.integers(4, 9))
    top = femur.trochanter_tip[2] - rng.uniform(4.0, 12.0)
    heights = np.linspace(-20.0 - 18.0 * holes, top, 36)
    path = _hugging(femur, heights)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    slots = length[-1] - 70.0 - 18.0 * np.arange(holes)
    solids = _plate(femur, rng, path, (17.0, 6.0), slots, LOCKING_5_0, share_empty=0.3)
    depth = rng.uniform(12.0, 18.0) if poor else rng.uniform(5.0, 9.0)
    # From the uppermost: 95, 120 and 135 degrees to the shaft, aimed low, middle and high.
    for angle_deg, aim, kind in (
        (95.0, (0.0, -1.5, -7.0), LOCKING_7_3),
        (120.0, (0.0, 2.0, 0.0), LOCKING_7_3),
        (135.0, (-2.0, 0.0, 4.0), LOCKING_5_0),
    ):
        direction = _neck_direction(angle_deg + rng.normal(0.0, 1.0))
        tip = _deepest(femur, femur.head + np.array(aim), direction, kind.thread / 2, depth)
        start = _leaves_laterally(femur, tip, direction)
        reach = _in_fives(np.linalg.norm(tip - start))
        solids.append(screw(kind, reach, reach - 5.0).along(tip - reach * direction, direction))
    return _implant(
        "proximal_plate",
        femur,
        metal,
        solids,
        f"proximal femoral locking plate; {holes} shaft holes; three neck screws",
        poor,
    )


FIXATIONS: Mapping[str, Callable[[FemurFrame, np.random.Generator], Implant]] = MappingProxyType(
    {
        "cannulated_screws": cannulated_screws,
        "sliding_hip_screw": sliding_hip_screw,
        "cephalomedullary_nail": cephalomedullary_nail,
        "proximal_plate": proximal_plate,
    }
)


def tip_apex_mm(femur: FemurFrame, tip: Floats) -> float:
    """Return the tip–apex distance, in mm, of a screw that ends at `tip` (3,) in the femur's axes.

    This is the sum of the distances, on the AP and on the lateral view, from the tip to the apex
    of the head, where the neck's axis meets its surface (Baumgaertner et al. 1995).
    """
    away = femur.head + femur.head_radius_mm * femur.neck - tip
    along_neck = np.array([femur.neck[0], 0.0, femur.neck[2]])
    on_lateral_view = np.hypot(away @ _unit(along_neck), away[1])
    return float(np.hypot(away[0], away[2]) + on_lateral_view)


def _head_target(
    femur: FemurFrame, rng: np.random.Generator, thread_radius: float, poor: bool
) -> tuple[Floats, Floats]:
    """Draw a head screw's end point (3,) in the frontal plane, and its offset (3,) from that plane.

    A well-placed screw is central or slightly low, and deep; a poorly placed one is high, off
    centre or shallow.
    """
    depth = rng.uniform(9.0, 14.0) if poor else rng.uniform(5.0, 8.5)
    above = rng.uniform(2.0, 6.0) if poor else rng.uniform(-4.0, 1.0)
    aside = rng.normal(0.0, 2.5 if poor else 1.0)
    room = femur.head_radius_mm - depth - thread_radius
    above, aside = np.clip([above, aside], -0.7 * room, 0.7 * room)
    neck = _unit(np.array([femur.neck[0], 0.0, femur.neck[2]]))
    offset = above * np.array([-neck[2], 0.0, neck[0]])
    # The offset out of the plane brings the screw nearer to the surface, so the depth takes it
    # into account, although the screw is built without the offset.
    tip = _deepest(femur, femur.head + offset + [0.0, aside, 0.0], neck, thread_radius, depth)
    return tip * [1.0, 0.0, 1.0], np.array([0.0, aside, 0.0])


def _deepest(
    femur: FemurFrame, aim: Floats, direction: Floats, radius: float, depth: float
) -> Floats:
    """Return the deepest end point (3,) of a screw through `aim` with `depth` mm of bone beyond it.

    The whole end face, of radius `radius`, stays `depth` below the head's surface; if this is
    impossible, the screw ends at the point of its axis nearest to the head's centre.
    """
    nearest = aim + ((femur.head - aim) @ direction) * direction
    off_axis = np.linalg.norm(nearest - femur.head) + radius
    room = (femur.head_radius_mm - depth) ** 2 - off_axis**2
    return np.asarray(nearest + np.sqrt(max(room, 0.0)) * direction)


def _leaves_laterally(femur: FemurFrame, tip: Floats, direction: Floats) -> Floats:
    """Return the point (3,) where a line back from `tip` leaves the lateral surface of the bone."""
    line = tip - np.linspace(20.0, 160.0, 281)[:, None] * direction
    outside = -line[:, 0] > femur.lateral_reach(line[:, 2])
    return np.asarray(line[np.argmax(outside)])


def _leaves_medially(femur: FemurFrame, start: Floats, direction: Floats) -> float:
    """Return the distance, in mm, from `start` to the medial surface of the shaft along a line."""
    distance = np.linspace(10.0, 70.0, 121)
    line = start + distance[:, None] * direction
    return float(distance[np.argmax(line[:, 0] > femur.medial_reach(line[:, 2]))])


def _neck_direction(neck_shaft_deg: float) -> Floats:
    """Return the unit direction (3,) into the head in the frontal plane, for a neck–shaft angle."""
    angle = np.radians(neck_shaft_deg)
    return np.array([np.sin(angle), 0.0, -np.cos(angle)])


def _against_plate(angle_deg: float, upward: Floats) -> Floats:
    """Return the direction (3,) of a barrel at an angle to a plate along `upward` (2,)."""
    angle = np.radians(angle_deg)
    medially = np.array([upward[1], -upward[0]])
    in_plane = np.sin(angle) * medially - np.cos(angle) * upward
    return np.array([in_plane[0], 0.0, in_plane[1]])


def _meets_line(tip: Floats, direction: Floats, point: Floats, along: Floats) -> Floats:
    """Return where the line back from `tip` meets the one through `point` (2,), in the plane."""
    matrix = np.column_stack([direction[[0, 2]], along])
    back = np.linalg.solve(matrix, tip[[0, 2]] - point)[0]
    return np.asarray(tip - back * direction)


def _straight_along(femur: FemurFrame, lowest: float, highest: float) -> tuple[Floats, Floats]:
    """Fit a straight plate's inner face to the lateral surface: path (N, 2) and direction (2,)."""
    heights = np.linspace(lowest, highest, 24)
    reach = femur.lateral_reach(heights)
    slope, level = np.polyfit(heights, reach, 1)
    line = slope * heights + level
    line += (reach - line).max()
    path = np.column_stack([-line, heights])
    return path, _unit(path[-1] - path[0])


def _hugging(femur: FemurFrame, heights: Floats) -> Floats:
    """Return the path (N, 2) of a plate contoured to the lateral surface, bridging concavities."""
    spread = np.linspace(-9.0, 9.0, 7)
    reach = femur.lateral_reach(heights[:, None] + spread).max(axis=1)
    return np.column_stack([-reach, heights])


def _plate(
    femur: FemurFrame,
    rng: np.random.Generator,
    path: Floats,
    section: tuple[float, float],
    slots: Floats,
    kind: Screw,
    share_empty: float,
) -> list[Solid]:
    """Build a plate and its bicortical shaft screws; `section` is its width and thickness."""
    width, thickness = section
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    outward = np.column_stack([-tangent[:, 1], tangent[:, 0]])
    solids = [slotted_plate(path, outward, width, thickness, slots, 8.5)]
    filled = rng.random(len(slots)) >= share_empty
    filled[[0, -1]] = True
    for slot in slots[filled]:
        point, normal = (
            np.array([np.interp(slot, length, values[:, k]) for k in range(2)])
            for values in (path, outward)
        )
        under_head = point + (thickness - kind.head[1]) * normal
        tilt = rng.normal(0.0, 0.04)
        direction = _unit(np.array([-normal[0], rng.normal(0.0, 0.03), -normal[1] + tilt]))
        start = np.array([under_head[0], 0.0, under_head[1]])
        reach = np.ceil((_leaves_medially(femur, start, direction) + 1.0) / 2.0) * 2.0
        solids.append(screw(kind, reach, reach - 3.0).along(start, direction))
    return solids


def _across_shaft(femur: FemurFrame, height: float, kind: Screw) -> Solid:
    """Build the locking screw of a nail, through both cortices at a height."""
    middle = femur.centre_line(height)
    start = np.array([-femur.lateral_reach(height), middle[1], height])
    across = femur.medial_reach(height) - start[0]
    reach = np.ceil((across + 1.5) / 2.5) * 2.5
    return screw(kind, reach, reach - 4.0).along(start, [1.0, 0.0, 0.0])


def _implant(
    family: str,
    femur: FemurFrame,
    metal: Material,
    solids: Sequence[Solid],
    description: str,
    poor: bool,
) -> Implant:
    return Implant(
        family=family,
        parts=tuple(femur.part(solid, metal) for solid in solids),
        description=description + ("; poorly placed" if poor else ""),
    )


def _metal(rng: np.random.Generator) -> Material:
    return Material.STAINLESS_STEEL if rng.random() < 0.5 else Material.TITANIUM


def _nearest(rng: np.random.Generator, wanted: float, made: Sequence[float]) -> float:
    """Return the available angle nearest to `wanted`, which is estimated with a random error."""
    return min(made, key=lambda angle: abs(angle - wanted - rng.normal(0.0, 3.0)))


def _in_fives(length: float | np.floating) -> float:
    """Screws come in steps of 5 mm: take the next shorter."""
    return float(np.floor(length / 5.0) * 5.0)


def _moved(solid: Solid, offset: Floats) -> Solid:
    return Solid(solid.vertices + offset, solid.faces)


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))
