"""Fractures of the femoral neck (Garden) and between the trochanters (Jensen) on a real hip.

The parameters are those of the phantoms (`hipedge.phantom.lesions.fractures`). The femur's layer is
cut along a rough line and its fragments are moved rigidly; the head stays in its socket. The
foreshortening of the neck by external rotation is modelled by a deformation in the image plane.
"""

from __future__ import annotations

import numpy as np

from hipedge.insertion.contour import Floats
from hipedge.insertion.hip import Hip, rigid
from hipedge.insertion.lesions.femur import STILL, Fragment, femur_layer, reassembled
from hipedge.insertion.lesions.painting import bell, ramp, trabecular
from hipedge.insertion.sampling import Image, smooth_noise, warped
from hipedge.phantom.lesions.fractures import (
    NeckFracture,
    TrochantericFracture,
    United,
    draw_fixed_fracture,
    draw_neck_fracture,
    draw_trochanteric_fracture,
)

SHARE_FURTHER_LINES = 0.6


def insert_neck_fracture(hip: Hip, image: Image, grade: str, rng: np.random.Generator) -> Image:
    """Return the image with a fracture of grade `garden1` to `garden4`."""
    return break_neck(hip, image, draw_neck_fracture(grade, rng), rng)


def insert_trochanteric_fracture(
    hip: Hip, image: Image, grade: str, rng: np.random.Generator
) -> Image:
    """Return the image with a fracture of grade `jensen1` to `jensen5`."""
    return break_trochanters(hip, image, draw_trochanteric_fracture(grade, rng), rng)


def insert_beneath_fixation(hip: Hip, image: Image, device: str, rng: np.random.Generator) -> Image:
    """Return the image with the lesion under a fixation device: a reduced or a united fracture."""
    lesion = draw_fixed_fracture(device, rng)
    if isinstance(lesion, NeckFracture):
        return break_neck(hip, image, lesion, rng)
    if isinstance(lesion, TrochantericFracture):
        return break_trochanters(hip, image, lesion, rng)
    return _united(hip, image, lesion, rng) if isinstance(lesion, United) else image


def break_neck(hip: Hip, image: Image, signs: NeckFracture, rng: np.random.Generator) -> Image:
    """Cut the neck in two; tilt the head, and shift, externally rotate and impact the rest."""
    found, scale = hip.found, hip.px_per_mm
    axis = found.neck_axis
    turn = np.radians(signs.obliquity_deg)
    normal = np.array(
        [axis[0] * np.cos(turn) - axis[1] * np.sin(turn),
         axis[0] * np.sin(turn) + axis[1] * np.cos(turn)]
    )  # fmt: skip
    at = found.head + signs.level_mm * scale * axis
    line = _Line(hip, at, normal, 0.9 * signs.crack.roughness_mm * scale, rng)
    bone = femur_layer(hip, image)
    bone = _foreshortened(hip, bone, signs.external_deg, line)
    lateral, _, up = signs.shift_mm
    # A fracture line is dark at a gap, and bright where the fragments overlap.
    shift = scale * (np.array([-lateral, -up]) - signs.impaction_mm * axis)
    # Valgus (positive) tilts the top of the head laterally: anticlockwise on a right hip.
    sag = np.radians(-0.25 * signs.tilt_deg if signs.tilt_deg < -8 else rng.normal(0, 0.6))
    rest = rigid(float(sag), at, shift)
    out = reassembled(
        hip,
        image,
        [
            _tilted(hip, bone, line.proximal, -0.7 * np.radians(signs.tilt_deg)),
            _part(hip, bone, 1.0 - line.proximal, rest),
        ],
        rng,
    )
    out = _line_drawn(hip, out, line, _gap_px(signs.impaction_mm, scale, rng), rng)
    return _impacted(out, line, signs.impaction_mm * scale, bone, rng)


def break_trochanters(
    hip: Hip, image: Image, signs: TrochantericFracture, rng: np.random.Generator
) -> Image:
    """Cut the femur between the trochanters and avulse these; the head stays in its socket."""
    found, scale = hip.found, hip.px_per_mm
    greater = found.greater_trochanter + scale * np.array([-2.0, 8.0])
    lesser = found.lesser_trochanter
    along = (lesser - greater) / np.linalg.norm(lesser - greater)
    normal = np.array([along[1], -along[0]])
    normal *= np.sign(normal @ (greater - found.head))
    at = 0.5 * (greater + lesser) - signs.offset_mm * scale * normal
    turn = np.radians(signs.obliquity_deg)
    if signs.obliquity_deg > 45.0:
        # Reverse obliquity: from superomedial to inferolateral, at the lesser trochanter.
        point, down = found.shaft
        at = point + ((lesser - point) @ down - 4.0 * scale) * down
        normal, turn = down, turn - np.radians(92.0)
    c, s = np.cos(turn), np.sin(turn)
    normal = np.array([c * normal[0] - s * normal[1], s * normal[0] + c * normal[1]])
    line = _Line(hip, at, normal, 0.9 * signs.crack.roughness_mm * scale, rng)
    bone = femur_layer(hip, image)
    # Varus tilts the head medially and downwards. The head stays in place, so the shaft rotates and
    # rises instead. On a single projection less of the drawn angle is visible, and part of it
    # appears as a tilt of the shaft.
    varus = 0.7 * np.radians(signs.varus_deg)
    lateral, _, up = signs.shift_mm
    tilt = 0.7 * float(varus)
    back = np.linalg.inv(np.vstack([rigid(tilt, found.head, np.zeros(2)), [0, 0, 1]]))[:2]
    rise = back @ np.append(at, 1.0) - at
    shift = rise + scale * (np.array([-lateral, -up]) + signs.gap_mm * normal)
    lean = float(rng.normal(0, 0.02) - 0.3 * varus)
    left = 1.0 - line.proximal
    near, fragments = line.proximal, []
    for avulsion in signs.avulsions:
        middle = greater if avulsion.landmark == "greater" else lesser
        share = _within(hip, middle, avulsion.radius_mm * scale * 0.85, rng)
        # The lesser trochanter is at the back of the femur; the shaft in front of it remains.
        share = share * (0.45 if avulsion.landmark == "lesser" else 0.85)
        if avulsion.landmark == "greater":
            # The greater trochanter is lateral to the neck; bone medial to it remains.
            share = share * ramp(_across(hip), 0.0, 5.0)
        x, _, z = avulsion.shift_mm
        # The shift is drawn in the frame of a left hip: x lateral.
        pull = shift * 0.4 + scale * np.array([-x, -z])
        turn_rad = np.radians(avulsion.turn_deg)
        fragments.append(_part(hip, bone, left * share, rigid(float(turn_rad), middle, pull)))
        if avulsion.landmark == "greater":
            near = near * (1.0 - share)
        left = left * (1.0 - share)
    fragments.append(_tilted(hip, bone, near, tilt))
    fragments.append(_part(hip, bone, left, rigid(lean, at, shift)))
    out = reassembled(hip, image, fragments, rng)
    out = _line_drawn(hip, out, line, _gap_px(-signs.gap_mm, scale, rng), rng)
    if signs.avulsions or signs.varus_deg > 8:
        out = _further_lines(hip, out, line, rng)
    return out


def _part(hip: Hip, bone: Image, share: Image, matrix: Floats) -> Fragment:
    return Fragment(bone * share, hip.femur * share, matrix)


def _tilted(hip: Hip, bone: Image, share: Image, angle: float) -> Fragment:
    """Return the fragment of the head, rotated clockwise about its centre.

    As the head is round, its rim within the socket is kept in place, so that the walls of the
    socket, which are superimposed on it, do not rotate with it.
    """
    distance, bearing = hip.polar
    radius = hip.found.radius_px
    axis = hip.found.neck_axis
    away = np.abs((bearing - np.arctan2(axis[1], axis[0]) + np.pi) % (2 * np.pi) - np.pi)
    rim = ramp(distance, 0.72 * radius, 0.97 * radius) * ramp(away, 0.7, 1.3)
    turn = np.asarray(angle * (1.0 - rim), np.float32)
    x, y = hip.found.head_px
    dx = np.arange(bone.shape[1], dtype=np.float32)[None] - np.float32(x)
    dy = np.arange(bone.shape[0], dtype=np.float32)[:, None] - np.float32(y)
    c, s = np.cos(turn), np.sin(turn)
    read_x = np.asarray(c * dx + s * dy - dx, np.float32)
    read_y = np.asarray(c * dy - s * dx - dy, np.float32)
    layer, lay = (
        warped(np.ascontiguousarray(part), read_x, read_y)
        for part in (bone * share, hip.femur * share)
    )
    return Fragment(layer, lay, STILL)


class _Line:
    """A rough line across the femur through `at`, with the signed distance of each pixel from it.

    `beyond` is the distance of each pixel on the side of `normal`, in pixels; `proximal` (0 to 1)
    is the mask of the other side.
    """

    def __init__(
        self, hip: Hip, at: Floats, normal: Floats, roughness: float, rng: np.random.Generator
    ) -> None:
        shape = hip.canvas.pixels.shape
        dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(at[0])
        dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(at[1])
        nx, ny = np.float32(normal[0]), np.float32(normal[1])
        along = ny * dx - nx * dy
        grid = np.arange(-260, 261)
        stray = _rough(rng, grid, roughness)
        self.at, self.normal = at, normal
        self.along = along
        self.beyond = nx * dx + ny * dy + np.interp(along, grid, stray).astype(np.float32)
        self.width = hip.blur_px
        self.proximal = ramp(-self.beyond, -1.2 * self.width, 1.2 * self.width)


def _rough(rng: np.random.Generator, grid: np.ndarray[tuple[int], np.dtype[np.int64]],
           roughness: float) -> Floats:  # fmt: skip
    """Return the deviation of a crack along its length.

    It consists of waves of 14 to 70 pixels and of irregular teeth of a few pixels.
    """
    stray = np.zeros(len(grid))
    for wavelength in rng.uniform(14, 70, 5):
        stray += np.sin(2 * np.pi * grid / wavelength + rng.uniform(0, 6.3)) / 2.2
    knots = grid[0] + np.cumsum(rng.gamma(1.6, 3.0, len(grid) // 2))
    teeth = np.interp(grid, knots, rng.normal(0, 0.5, len(knots)))
    return np.asarray(roughness * stray + teeth)


def _gap_px(impaction_mm: float, scale: float, rng: np.random.Generator) -> float:
    """Return the width of the dark line between fragments that are apart or edge to edge.

    The width is in pixels, and 0 if the fragments are impacted.
    """
    if impaction_mm > 0.8:
        return 0.0
    return float((0.45 + 0.5 * max(-impaction_mm, 0.0)) * scale * rng.uniform(0.7, 1.3))


def _line_drawn(
    hip: Hip, image: Image, line: _Line, width_px: float, rng: np.random.Generator
) -> Image:
    """Darken the fracture line where the beam is tangential to it, with varying visibility."""
    if width_px <= 0.0:
        return image
    bone = np.maximum(image - hip.soft, 0.0) * hip.femur
    flat = (image.shape[0], image.shape[1])
    # The fracture lines of the anterior and the posterior cortex are projected side by side.
    apart = rng.uniform(0.0, 4.5)
    for share, place in ((1.0, 0.0), (rng.uniform(0.0, 0.9), apart)):
        waves = 0.7 * smooth_noise(rng, flat, 14.0) + 0.6 * smooth_noise(rng, flat, 5.0)
        seen = share * rng.uniform(0.25, 0.8) * ramp(waves, -1.3, 1.1)
        width = max(width_px, 1.3 * line.width)
        image = np.asarray(image - bone * bell(line.beyond, place, width) * seen, np.float32)
    return image


def _impacted(
    image: Image, line: _Line, depth_px: float, bone: Image, rng: np.random.Generator
) -> Image:
    """Add the dense band of impacted trabeculae."""
    if depth_px <= 0.5:
        return image
    uneven = np.clip(1.0 + 0.4 * trabecular(rng, image.shape, 3.0), 0.0, 2.0)
    band = bell(line.beyond, -0.3 * depth_px, 0.8 * depth_px + 1.0)
    return np.asarray(image + rng.uniform(0.10, 0.3) * bone * band * uneven, np.float32)


def _foreshortened(hip: Hip, bone: Image, external_deg: float, line: _Line) -> Image:
    """Foreshorten the stump of the neck, as external rotation of the leg does in the projection."""
    if external_deg < 3.0:
        return bone
    across = _across(hip)
    distal = ramp(line.beyond, -2.0, 2.0)
    reach = np.clip(-across, 0.0, 60.0) * (0.4 * np.sin(np.radians(external_deg)) ** 1.5) * distal
    axis = hip.found.neck_axis
    # Pixels medial to the shaft are sampled from farther up the neck, which moves it closer.
    dx, dy = (np.asarray(-axis[k] * reach, np.float32) for k in range(2))
    return warped(bone, dx, dy)


def _across(hip: Hip) -> Image:
    """Return the distance of each pixel from the shaft's axis, lateral positive, in pixels."""
    point, along = hip.found.shaft
    shape = hip.canvas.pixels.shape
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(point[0])
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(point[1])
    return np.asarray(np.float32(along[0]) * dy - np.float32(along[1]) * dx)


def _within(hip: Hip, middle: Floats, radius: float, rng: np.random.Generator) -> Image:
    """Return the mask (0 to 1) of a circle with a rough edge."""
    shape = hip.canvas.pixels.shape
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(middle[0])
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(middle[1])
    rough = 1.4 * smooth_noise(rng, (shape[0], shape[1]), 10.0)
    return ramp(radius - np.hypot(dx, dy) + rough, -0.7, 0.7)


def _further_lines(hip: Hip, image: Image, line: _Line, rng: np.random.Generator) -> Image:
    """Add the further lines of a comminuted fracture near the first line."""
    for _ in range(int(rng.integers(0, 4)) if rng.random() < SHARE_FURTHER_LINES else 0):
        angle = rng.uniform(0, np.pi)
        at = line.at + rng.normal(0, 12, 2)
        other = _Line(hip, at, np.array([np.cos(angle), np.sin(angle)]), 1.2, rng)
        length = rng.uniform(9, 22)
        bone = np.maximum(image - hip.soft, 0.0) * hip.femur
        width = rng.uniform(1.1, 1.7) * other.width
        dark = bell(other.beyond, 0.0, width) * bell(other.along, 0.0, length)
        image = np.asarray(image - rng.uniform(0.2, 0.55) * bone * dark, np.float32)
    return image


def _united(hip: Hip, image: Image, signs: United, rng: np.random.Generator) -> Image:
    """Increase the density of the bone along a healed fracture."""
    axis = hip.found.neck_axis
    at = hip.found.head + signs.distance_mm * hip.px_per_mm * axis
    line = _Line(hip, at, axis, 1.5, rng)
    band = bell(line.beyond, 0.0, 1.4 * signs.width_mm * hip.px_per_mm)
    uneven = np.clip(1.0 + 0.3 * trabecular(rng, image.shape), 0.0, 2.0)
    bone = femur_layer(hip, image)
    return np.asarray(image + 0.25 * signs.density * bone * band * uneven, np.float32)
