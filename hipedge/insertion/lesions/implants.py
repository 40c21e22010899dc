"""Implants on a real hip: meshes of the phantoms, fitted to the femur and projected.

An implant is built for the femur of the outline model whose outline is most similar to the hip's,
and projected with the position, rotation and size of the hip. Attenuation follows the Beer–Lambert
law; on the radiograph, dense metal approaches white.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from hipedge.insertion.contour import FOCUS_MM, outline_model
from hipedge.insertion.hip import Hip, nearest_example
from hipedge.insertion.lesions.femur import STILL, Fragment, femur_layer, reassembled
from hipedge.insertion.lesions.fractures import insert_beneath_fixation
from hipedge.insertion.lesions.painting import ramp
from hipedge.insertion.sampling import Image, blurred, smooth_noise
from hipedge.phantom.anatomy import mirrored, rotation_about_y
from hipedge.phantom.hardware import (
    ARTHROPLASTIES,
    FIXATIONS,
    AcetabulumFrame,
    FemurFrame,
    Implant,
    Material,
    measure_femur,
)
from hipedge.phantom.mesh import Mesh
from hipedge.phantom.projection import View, add_thickness

SHAFT_CORTEX_MM = 6.0
SOCKET_SPACE_MM = 4.2
# Attenuation per mm in excess of that of soft tissue, for the beam of a pelvic radiograph (about
# 75 kV behind 20 cm of tissue).
PER_MM: Mapping[Material, float] = {
    Material.STAINLESS_STEEL: 0.60,
    Material.COBALT_CHROME: 0.70,
    Material.TITANIUM: 0.20,
    Material.CERAMIC: 0.09,
    Material.BONE_CEMENT: 0.022,
    Material.POLYETHYLENE: -0.004,
}


def insert_arthroplasty(hip: Hip, image: Image, grade: str, rng: np.random.Generator) -> Image:
    """Return the image with a joint replacement from `hipedge.phantom.hardware`."""
    number, turn, scale = nearest_example(hip.found)
    frame = _femur_frame(number)
    radius_mm = outline_model().examples[number].femur.radius_mm
    socket = AcetabulumFrame(np.zeros(3), radius_mm + SOCKET_SPACE_MM, np.array([1.0, 0.0, 0.0]))
    implant = ARTHROPLASTIES[grade](frame, socket, rng)
    place = _Place(hip, radius_mm, turn, scale)
    image = _resected(hip, image, implant, place, rng)
    return _with_metal(hip, image, implant, place, rng)


def insert_fixation(hip: Hip, image: Image, grade: str, rng: np.random.Generator) -> Image:
    """Return the image with a fixation device over a reduced or a united fracture."""
    image = insert_beneath_fixation(hip, image, grade, rng)
    number, turn, scale = nearest_example(hip.found)
    implant = FIXATIONS[grade](_femur_frame(number), rng)
    radius_mm = outline_model().examples[number].femur.radius_mm
    return _with_metal(hip, image, implant, _Place(hip, radius_mm, turn, scale), rng)


@lru_cache(maxsize=128)
def _femur_frame(number: int) -> FemurFrame:
    femur = outline_model().examples[number].femur
    return measure_femur(
        femur.mesh.vertices, femur.mesh.faces, femur.at("head"), femur.radius_mm, SHAFT_CORTEX_MM
    )


class _Place:
    """Mapping from an example's coordinates (mm about the head of a left hip) to a canvas."""

    def __init__(self, hip: Hip, radius_mm: float, turn: float, scale: float) -> None:
        self.turn = turn
        self.pixel_mm = radius_mm / (hip.found.radius_px * scale)
        x, y = hip.found.head_px
        shape = hip.canvas.pixels.shape
        self.view = View(
            shape=(shape[0], shape[1]),
            pixel_mm=self.pixel_mm,
            # In the coordinates of the projection, pixel centres are at +0.5.
            origin_mm=(-(x + 0.5) * self.pixel_mm, (y + 0.5) * self.pixel_mm),
            focus_mm=(90.0, -FOCUS_MM, 0.0),
            detector_y_mm=0.0,
        )

    def thickness(self, vertices: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
                  faces: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Image:  # fmt: skip
        """Return the path length of each ray through a part, in mm."""
        mesh = mirrored(Mesh(vertices.astype(np.float64), faces))
        # A clockwise rotation of the image turns x towards −z.
        mesh = mesh.moved(mesh.vertices @ rotation_about_y(self.turn).T)
        total = np.zeros(self.view.shape, np.float32)
        add_thickness(total, self.view, mesh)
        return np.maximum(total, 0.0)

    def patient_xz(self, hip: Hip) -> tuple[Image, Image]:
        """Return the left-hip coordinates (x, z) of each pixel, at the depth of the head."""
        x0, y0 = hip.found.head_px
        dx = (np.arange(self.view.shape[1], dtype=np.float32)[None] - np.float32(x0)) * np.float32(
            self.pixel_mm
        )
        dz = (np.float32(y0) - np.arange(self.view.shape[0], dtype=np.float32)[:, None]) * (
            np.float32(self.pixel_mm)
        )
        c, s = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        # Invert the rotation, then the mirroring.
        return -(c * dx - s * dz), s * dx + c * dz


def _resected(
    hip: Hip, image: Image, implant: Implant, place: _Place, rng: np.random.Generator
) -> Image:
    """Remove the bone that lies beyond all saw cuts."""
    if not implant.resection:
        return image
    x, z = place.patient_xz(hip)
    beyond = np.full(image.shape, np.inf, np.float32)
    for plane in implant.resection:
        px, _, pz = plane.point
        nx, _, nz = plane.normal / max(float(np.hypot(plane.normal[0], plane.normal[2])), 1e-6)
        beyond = np.minimum(beyond, (x - px) * np.float32(nx) + (z - pz) * np.float32(nz))
    kept = ramp(-beyond / place.pixel_mm, -hip.blur_px, hip.blur_px)
    left = Fragment(femur_layer(hip, image) * kept, hip.femur * kept, STILL)
    return reassembled(hip, image, [left], rng)


def _with_metal(
    hip: Hip, image: Image, implant: Implant, place: _Place, rng: np.random.Generator
) -> Image:
    """Superimpose the projection of the implant on the image."""
    taken = np.zeros(image.shape, np.float32)
    for part in implant.parts:
        if PER_MM[part.material]:
            taken += PER_MM[part.material] * place.thickness(part.vertices, part.faces)
    taken = blurred(taken, 0.8 * hip.blur_px)
    uneven = 3.0 * smooth_noise(rng, (image.shape[0], image.shape[1]), 40.0)
    white = np.float32(rng.uniform(262.0, 330.0)) + uneven
    # Local contrast enhancement leaves a faint dark halo around metal on processed radiographs.
    halo = rng.uniform(0.0, 0.10) * blurred(np.minimum(taken, 1.5), 4.0)
    through = np.exp(-taken * rng.uniform(0.8, 1.25))
    out = white - (white - image * (1.0 - halo)) * through
    return np.where(hip.canvas.on_film, out, 0.0).astype(np.float32)
