"""Reference frames for implants: the measurements of the femur and socket that a surgeon takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.hardware.implant import Material, Part
from hipedge.phantom.hardware.solids import Floats, Solid

POSTERIOR = np.array([0.0, 1.0, 0.0])
CRANIAL = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class AcetabulumFrame:
    """A socket: centre (3,) in mm, radius of its bony surface, and the lateral direction (3,)."""

    centre: Floats
    radius_mm: float
    lateral: Floats

    def opening(self, inclination_deg: float, anteversion_deg: float) -> Floats:
        """Return the axis (3,) of a cup, pointing out of the socket, from its radiographic angles.

        The angles are those on an AP radiograph, as defined by Murray, J Bone Joint Surg Br
        1993;75:228–232.
        """
        inclination, anteversion = np.radians([inclination_deg, anteversion_deg])
        in_plane = np.sin(inclination) * self.lateral - np.cos(inclination) * CRANIAL
        return np.asarray(np.cos(anteversion) * in_plane - np.sin(anteversion) * POSTERIOR)


@dataclass(frozen=True, eq=False)
class FemurFrame:
    """A proximal femur, in the patient's coordinates (x left, y posterior, z up), in mm.

    `medial`, `posterior` and `up` are its own unit axes: up along the shaft, medial towards the
    head's centre. Their origin, `lesser_trochanter`, lies on the shaft's axis at the height of
    the lesser trochanter's tip. In these axes, `head` (3,) is the head's centre, `neck` (3,) the
    unit direction of the neck into the head, `trochanter_tip` (3,) the top of the greater
    trochanter; and `profile` (N, 5) is the bone's surface: rows of height and of the extent from
    the shaft's axis medially, laterally, anteriorly and posteriorly.
    """

    lesser_trochanter: Floats
    medial: Floats
    posterior: Floats
    up: Floats
    head: Floats
    head_radius_mm: float
    neck: Floats
    neck_radius_mm: float
    trochanter_tip: Floats
    profile: Floats
    cortex_mm: float

    @property
    def neck_shaft_deg(self) -> float:
        """The angle between neck and shaft, in the plane of both."""
        return float(180.0 - np.degrees(np.arctan2(self.neck[0], self.neck[2])))

    @property
    def canal_radius_mm(self) -> float:
        """The radius of the marrow canal where it is narrowest, below the lesser trochanter."""
        return float(self._shaft_widths().min() / 2 - self.cortex_mm)

    def _shaft_widths(self) -> Floats:
        height, *reach = self.profile.T
        shaft = (height < -30.0) & (height > -120.0)
        return np.asarray(np.stack([reach[0] + reach[1], reach[2] + reach[3]])[:, shaft])

    def medial_reach(self, height: float | Floats) -> Floats:
        """Return the medial extent of the bone from the shaft's axis at a height, in mm."""
        return np.asarray(np.interp(height, self.profile[:, 0], self.profile[:, 1]))

    def lateral_reach(self, height: float | Floats) -> Floats:
        """Return the lateral extent of the bone from the shaft's axis at a height, in mm."""
        return np.asarray(np.interp(height, self.profile[:, 0], self.profile[:, 2]))

    def centre_line(self, height: float | Floats) -> Floats:
        """Return the shaft's centre (..., 3) in the femur's axes at heights below 0, in mm."""
        _, medial, lateral, anterior, posterior = (
            np.interp(height, self.profile[:, 0], column) for column in self.profile.T
        )
        return np.stack([(medial - lateral) / 2, (posterior - anterior) / 2, height], axis=-1)

    def marrow(self, height: float | Floats) -> Floats:
        """Return the medial, lateral, anterior and posterior extent of the marrow (..., 4), in mm.

        It is the extent of the bone minus the shaft's cortical thickness, so it is only a rough
        estimate above the trochanters.
        """
        reach = [np.interp(height, self.profile[:, 0], column) for column in self.profile.T[1:]]
        return np.stack(reach, axis=-1) - self.cortex_mm

    def to_patient(self, points: Floats) -> Floats:
        """Transform points (..., 3) from the femur's axes to the patient's coordinates."""
        basis = np.stack([self.medial, self.posterior, self.up])
        return np.asarray(points @ basis + self.lesser_trochanter)

    def direction(self, vector: Floats) -> Floats:
        """Rotate a direction (3,) from the femur's axes to the patient's."""
        return np.asarray(vector @ np.stack([self.medial, self.posterior, self.up]))

    def part(self, solid: Solid, material: Material) -> Part:
        """Transform a solid from the femur's axes to a part in the patient's coordinates."""
        # These axes are right-handed only on a right hip. On a left hip the transform mirrors, so
        # the faces are reversed.
        mirrors = np.dot(np.cross(self.medial, self.posterior), self.up) < 0
        return Part(
            self.to_patient(solid.vertices).astype(np.float32),
            np.ascontiguousarray(solid.faces[:, ::-1] if mirrors else solid.faces),
            material,
        )


def measure_femur(
    vertices: Floats,
    faces: NDArray[np.int32],
    head_centre: Floats,
    head_radius_mm: float,
    cortex_mm: float,
) -> FemurFrame:
    """Measure a femur's closed mesh (V, 3), (F, 3), complete or cut off below the isthmus.

    The shaft's axis is the line through the centres of the sections 90 to 190 mm below the head's
    centre. The neck's axis runs from the head's centre through the centres of the sections 1.0 to
    1.4 head radii from it. The lesser trochanter is where the shaft extends farthest posteriorly,
    30 to 75 mm below the head. `cortex_mm` is the thickness of the shaft's cortex.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[edges[:, 0] < edges[:, 1]]

    def section(point: Floats, normal: Floats) -> Floats:
        level = (vertices - point) @ normal
        a, b = level[edges[:, 0]], level[edges[:, 1]]
        crossed = (a > 0) != (b > 0)
        t = (a[crossed] / (a[crossed] - b[crossed]))[:, None]
        return np.asarray(vertices[edges[crossed, 0]] * (1 - t) + vertices[edges[crossed, 1]] * t)

    def middle(points: Floats) -> Floats:
        return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)

    middles = np.array(
        [middle(section(head_centre - depth * CRANIAL, CRANIAL)) for depth in range(90, 200, 10)]
    )
    on_axis = middles.mean(axis=0)
    up = np.linalg.svd(middles - on_axis)[2][0]
    up = up * np.sign(up[2])
    medial = head_centre - on_axis
    medial = medial - (medial @ up) * up
    medial = medial / np.linalg.norm(medial)
    posterior = np.cross(up, medial)
    posterior = posterior * np.sign(posterior @ POSTERIOR)
    axes = np.stack([medial, posterior, up])

    rows = []
    head_height = float((head_centre - on_axis) @ up)
    for height in np.arange(head_height - 340.0, head_height + 15.0, 5.0):
        cut = section(on_axis + height * up, up)
        if len(cut):
            x, y = ((cut - on_axis) @ axes[:2].T).T
            rows.append([height, x.max(), -x.min(), -y.min(), y.max()])
    profile = np.array(rows)
    near = (profile[:, 0] > head_height - 75.0) & (profile[:, 0] < head_height - 30.0)
    lesser = float(profile[near][np.argmax(profile[near, 4]), 0])
    profile[:, 0] -= lesser
    origin = on_axis + lesser * up
    local = (vertices - origin) @ axes.T
    head = (head_centre - origin) @ axes.T

    neck = axes.T @ np.array([0.77, 0.0, 0.64])
    for _ in range(3):
        slices = []
        for distance in np.array([1.0, 1.15, 1.3, 1.4]) * head_radius_mm:
            point = head_centre - distance * neck
            cut = section(point, neck)
            slices.append(cut[np.linalg.norm(cut - point, axis=1) < 1.15 * head_radius_mm])
        neck = head_centre - np.mean([s.mean(axis=0) for s in slices], axis=0)
        neck = neck / np.linalg.norm(neck)
    radius = min(float(np.linalg.norm(s - s.mean(axis=0), axis=1).min()) for s in slices)
    # The only bone that reaches the height of the head without lying medially is the greater
    # trochanter.
    tip = local[np.argmax(np.where(local[:, 0] < 0.35 * head[0], local[:, 2], -np.inf))]
    return FemurFrame(
        lesser_trochanter=origin,
        medial=medial,
        posterior=posterior,
        up=up,
        head=head,
        head_radius_mm=head_radius_mm,
        neck=axes @ neck,
        neck_radius_mm=radius,
        trochanter_tip=tip,
        profile=profile,
        cortex_mm=cortex_mm,
    )
