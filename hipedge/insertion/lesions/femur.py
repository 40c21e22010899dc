"""Movement of the femur, whole or in fragments, over the tissue behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hipedge.insertion.contour import Floats
from hipedge.insertion.hip import Hip, rigid
from hipedge.insertion.lesions.painting import capped, pulled, ramp, sector
from hipedge.insertion.sampling import Image, blurred, moved, smooth_noise

# Because of the tone curve of a radiograph, a bone behind another bone adds less brightness than it
# would alone.
OVERLAP = 0.6


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of the femur's layer, its original mask (0 to 1), and the inverse transform.

    `matrix` (2, 3) maps positions after the movement to the original positions.
    """

    layer: Image
    lay: Image
    matrix: Floats


STILL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def reassembled(
    hip: Hip, image: Image, fragments: Sequence[Fragment], rng: np.random.Generator
) -> Image:
    """Return `image` with its femur in fragments, each moved rigidly over the remaining tissue."""
    out = without_femur(hip, image) + moved_layer(hip, fragments, rng)
    return np.where(hip.canvas.on_film, capped(out, image), 0.0).astype(np.float32)


def femur_layer(hip: Hip, image: Image) -> Image:
    """Return the brightness that the femur adds to the tissue behind it."""
    return np.asarray((image - hip.soft) * hip.femur, np.float32)


def without_femur(hip: Hip, image: Image) -> Image:
    """Return `image` minus its femur layer, such that the two add up to `image` exactly."""
    return np.asarray(image - femur_layer(hip, image), np.float32)


def moved_layer(hip: Hip, fragments: Sequence[Fragment], rng: np.random.Generator) -> Image:
    """Return the layer of a femur in fragments, with the image's texture in uncovered areas."""
    layer: Image = np.zeros(hip.soft.shape, np.float32)
    left: Image = np.zeros(hip.soft.shape, np.float32)
    for fragment in fragments:
        piece = fragment.layer
        there = fragment.lay
        if fragment.matrix is not STILL:
            piece, there = (
                moved(_continued(hip, np.ascontiguousarray(part)), fragment.matrix)
                for part in (piece, there)
            )
        layer = np.maximum(layer, piece) + np.where(
            np.minimum(layer, piece) > 0, np.float32(OVERLAP), np.float32(1.0)
        ) * np.minimum(layer, piece)
        left = np.maximum(left, there)
    # The filling of an uncovered area is smooth and lacks texture.
    bare = np.maximum(hip.femur - left, 0.0)
    if bare.max() > 0.05:
        layer = np.asarray(layer + bare * _texture(hip, bare, rng), np.float32)
    return layer


def _continued(hip: Hip, bone: Image) -> Image:
    """Extend the shaft below the lower edge of the radiograph, for fragments that move upwards."""
    last = int(np.flatnonzero(hip.canvas.on_film.any(axis=1))[-1]) - 1
    if last >= len(bone) - 2:
        return bone
    bone = bone.copy()
    bone[last:] = bone[last - 1]
    return bone


def _texture(hip: Hip, bare: Image, rng: np.random.Generator) -> Image:
    """Return the texture that a smooth filling lacks.

    This is grain and, in the socket, the detail of the ilium above: the detail is copied from the
    same image, two head radii higher.
    """
    shape = hip.canvas.pixels.shape
    out = np.float32(1.4 * hip.grain) * smooth_noise(rng, (shape[0], shape[1]), 1.2)
    distance, _ = hip.polar
    in_socket = ramp(-distance, -1.1 * hip.found.radius_px, -0.9 * hip.found.radius_px)
    if (bare * in_socket).max() < 0.3:
        return np.asarray(out)
    detail = np.where(hip.canvas.on_film, hip.canvas.pixels - blurred(hip.canvas.pixels, 5.0), 0.0)
    reach = round(2.1 * hip.found.radius_px)
    higher = np.zeros(shape, np.float32)
    higher[reach:] = np.clip(detail[:-reach], -25.0, 25.0)
    return np.asarray(out * (1.0 - in_socket) + higher * in_socket, np.float32)


def shifted_femur(
    hip: Hip,
    image: Image,
    shift: Floats,
    rng: np.random.Generator,
    *,
    turn_rad: float = 0.0,
) -> Image:
    """Return `image` with the whole femur rotated about its head and shifted by (x, y) pixels."""
    whole = Fragment(femur_layer(hip, image), hip.femur, rigid(turn_rad, hip.found.head, shift))
    return reassembled(hip, image, [whole], rng)


def sunk_head(
    hip: Hip,
    image: Image,
    bearing: float,
    half_width: float,
    depth_px: float,
    rng: np.random.Generator,
) -> Image:
    """Depress the head's surface around a bearing (radians).

    Only the femur's layer is warped; the acetabular roof remains in place.
    """
    distance, angle = hip.polar
    radius = hip.found.radius_px
    uneven = 1.0 + 0.3 * smooth_noise(rng, (image.shape[0], image.shape[1]), 7.0)
    on_head = ramp(distance, 0.35 * radius, 0.95 * radius) * ramp(-distance, -radius - 7, -radius)
    depth = depth_px * sector(angle, bearing, half_width) * np.clip(uneven, 0.3, 1.7)
    inwards = np.asarray(depth * on_head, np.float32)
    layer = pulled(femur_layer(hip, image), hip.found.head, inwards)
    out = without_femur(hip, image) + layer
    return np.where(hip.canvas.on_film, capped(out, image), 0.0).astype(np.float32)
