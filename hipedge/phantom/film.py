"""Draw a film (patient, hospital and view) from a seed, and render all or part of its image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import Code, Refused
from hipedge.imaging.geometry import crop_box, image_lateral, is_mirrored
from hipedge.imaging.prepare import resample, to_bytes
from hipedge.phantom.acquisition import Technique, expose
from hipedge.phantom.hospitals import HOSPITAL_SHARES, HOSPITALS, Hospital
from hipedge.phantom.markers import letter
from hipedge.phantom.patient import (
    Identity,
    draw_category,
    draw_grade,
    draw_identity,
    draw_patient,
)
from hipedge.phantom.physics import Image
from hipedge.phantom.projection import View
from hipedge.phantom.scene import HipModel, Patient
from hipedge.phantom.soft_tissue import Body
from hipedge.types import Box, Category, CropGeometry, Side

# Patient Orientation (0020,0020): rows point to the patient's left, columns to the feet.
ORIENTATION = ("L", "F")
SINGLE_HIP_SHARE = 0.15
SINGLE_HIP_FILM_MM = (300.0, 240.0)
TABLE_TO_DETECTOR_MM = 50.0
SHUTTER_MM = (2.0, 16.0)
# Share of films whose open area ends within the region of a hip, and the distance of its edge from
# the centre of that femoral head: laterally, distally and proximally.
CUT_SHARE = 0.10
CUT_MM = ((40.0, 80.0), (60.0, 115.0), (38.0, 70.0))


@dataclass(frozen=True, eq=False)
class SimulatedFilm:
    """Description of a simulated film, from which `develop` renders the image.

    `sides` are the hips on the film. `shutter_px` is the area left open by the collimator, in image
    coordinates, or None without visible collimation. `noise_seed` seeds the noise.
    """

    identity: Identity
    hospital: Hospital
    technique: Technique
    patient: Patient
    view: View
    sides: tuple[Side, ...]
    shutter_px: Box | None
    transfer_syntax_uid: str
    noise_seed: int

    def hip(self, side: Side) -> HipModel:
        """Return the hip on the given side."""
        return next(hip for hip in self.patient.hips if hip.side is side)

    def centre_px(self, side: Side) -> tuple[float, float]:
        """Return the image position (x, y) of the centre of a femoral head or of its implant."""
        x, y = self.view.project(self.hip(side).centre_mm[None])[0]
        return float(x), float(y)

    @property
    def hip_spacing_mm(self) -> tuple[float, float]:
        """Pixel spacing in the plane of the hips according to the DICOM header, in mm.

        Like real values it is wrong by a few percent, because a machine assumes the same
        magnification for every patient.
        """
        spacing = self.view.pixel_mm / self.hospital.magnification
        return spacing, spacing

    def box(self, side: Side, geometry: CropGeometry) -> Box:
        """Return the network's crop of a hip, in image coordinates."""
        lateral = image_lateral(side, ORIENTATION)
        return crop_box(self.centre_px(side), self.hip_spacing_mm, geometry, lateral=lateral)


def draw_film(
    seed: int | np.random.SeedSequence,
    *,
    number: int = 0,
    categories: dict[Side, Category] | None = None,
    grades: dict[Side, str] | None = None,
    hospital: str | None = None,
    only: Side | None = None,
) -> SimulatedFilm:
    """Draw a film at random from a seed.

    Values given as arguments are not drawn, and do not change the other values. `categories` and
    `grades` are given per side; a missing side is drawn. With `only`, the film shows that side even
    if it shows a single hip, and the other hip is a normal hip of grade `kl0`. Raises `KeyError`
    for an unknown hospital or grade.
    """
    rng = np.random.default_rng(seed)
    truth_rng, hospital_rng, patient_rng, view_rng, marker_rng = rng.spawn(5)
    identity = draw_identity(number, patient_rng)
    drawn: dict[Side, tuple[Category, str]] = {}
    for side in (Side.RIGHT, Side.LEFT):
        category_rng, grade_rng = truth_rng.spawn(2)
        category = (categories or {}).get(side) or draw_category(category_rng)
        drawn[side] = category, (grades or {}).get(side) or draw_grade(category, grade_rng)
    name = str(hospital_rng.choice(list(HOSPITAL_SHARES), p=list(HOSPITAL_SHARES.values())))
    place = HOSPITALS[hospital or name]
    technique = place.draw_technique(hospital_rng)
    patient = draw_patient(identity, drawn, patient_rng, only=only)
    view, sides = _draw_view(place, patient, view_rng, only)
    patient = replace(patient, body=_with_markers(place, patient, view, marker_rng))
    return SimulatedFilm(
        identity=identity,
        hospital=place,
        technique=technique,
        patient=patient,
        view=view,
        sides=sides,
        shutter_px=_draw_shutter(place, patient, view, sides, view_rng),
        transfer_syntax_uid=str(view_rng.choice(place.transfer_syntaxes)),
        noise_seed=int(view_rng.integers(2**32)),
    )


def develop(film: SimulatedFilm, part: View | None = None) -> Image:
    """Render a film or `part` of it: (H, W), from 0 (dark) to 1 (bright), with bright bone."""
    view = part or film.view
    rng = np.random.default_rng(film.noise_seed)
    picture = expose(film.patient, film.technique, film.view, view, rng)
    if film.shutter_px is not None:
        _shut(picture, film, view)
    return picture


def crop_of(film: SimulatedFilm, side: Side, geometry: CropGeometry) -> NDArray[np.uint8]:
    """Return the network's input for a hip of this film: uint8 (1, S, S).

    Only the pixels of the crop are rendered, and then processed like those of a film that was read
    from a file. The two inputs differ in their noise and in the rounding of stored values. Raises
    `Refused` with `HIP_OUTSIDE_IMAGE` if the crop lies outside the film.
    """
    box = film.box(side, geometry)
    height, width = film.view.shape
    x0, y0 = max(0, int(box.x0) - 2), max(0, int(box.y0) - 2)
    x1, y1 = min(width, int(box.x1) + 3), min(height, int(box.y1) + 3)
    if x1 <= x0 or y1 <= y0:
        raise Refused(Code.HIP_OUTSIDE_IMAGE)
    picture = develop(film, film.view.window(x0, y0, (y1 - y0, x1 - x0), 1.0))
    pixels = np.rint(picture * 65535).astype(np.uint16)
    here = Box(box.x0 - x0, box.y0 - y0, box.x1 - x0, box.y1 - y0)
    square = to_bytes(resample(pixels, here, geometry.size_px))
    return square[None, :, ::-1].copy() if is_mirrored(side, ORIENTATION) else square[None]


def _draw_view(
    hospital: Hospital, patient: Patient, rng: np.random.Generator, only: Side | None
) -> tuple[View, tuple[Side, ...]]:
    depth = patient.body.physique.half_depth + TABLE_TO_DETECTOR_MM
    if rng.uniform() < SINGLE_HIP_SHARE:
        side = Side(rng.choice([Side.RIGHT.value, Side.LEFT.value]))
        side = only or side
        hip = next(hip for hip in patient.hips if hip.side is side)
        outwards = -1.0 if side is Side.RIGHT else 1.0
        centre = (
            float(hip.centre_mm[0] + outwards * rng.normal(8, 10)),
            float(hip.centre_mm[2] - rng.normal(35, 15)),
        )
        view = hospital.draw_view(rng, centre=centre, film_mm=SINGLE_HIP_FILM_MM, depth=depth)
        return view, (side,)
    film_mm = hospital.film_mm[int(rng.integers(len(hospital.film_mm)))]
    # A film of low height shows the whole pelvis; a taller one also shows thighs or abdomen.
    centre = (float(rng.normal(0, 7)), float(rng.normal(12, 14)))
    view = hospital.draw_view(rng, centre=centre, film_mm=film_mm, depth=depth)
    return view, (Side.RIGHT, Side.LEFT)


def _with_markers(
    hospital: Hospital, patient: Patient, view: View, rng: np.random.Generator
) -> Body:
    """Add the hospital's side markers, each on the corresponding side of the patient."""
    half = view.shape[1] * view.pixel_mm / view.magnification(0.0) / 2
    middle = view.focus_mm[0] + (
        view.origin_mm[0] + view.shape[1] * view.pixel_mm / 2 - view.focus_mm[0]
    ) / view.magnification(0.0)
    streaks = list(patient.body.streaks)
    for name in hospital.markers:
        height_mm = rng.uniform(*hospital.marker_height_mm)
        outwards = -1.0 if name == "R" else 1.0
        x = middle + outwards * (half - rng.uniform(16, 40)) - 0.35 * height_mm
        z = rng.choice([rng.uniform(90, 150), rng.uniform(-120, -70)])
        streaks += letter(name, (float(x), float(z)), height_mm)
    return replace(patient.body, streaks=tuple(streaks))


def _draw_shutter(
    hospital: Hospital,
    patient: Patient,
    view: View,
    sides: tuple[Side, ...],
    rng: np.random.Generator,
) -> Box | None:
    """Draw the area left open by the collimator, in image coordinates, or None.

    The area may end close to a hip, but always contains the heads.
    """
    shut, cut = rng.uniform(size=2) < (hospital.collimated, CUT_SHARE)
    left, top, right, bottom = rng.uniform(*SHUTTER_MM, size=4) / view.pixel_mm
    height, width = view.shape
    open_px = Box(left, top, width - right, height - bottom)
    side, edge = rng.choice(sides), int(rng.integers(3))
    distance = rng.uniform(*CUT_MM[edge]) * view.magnification(0.0) / view.pixel_mm
    if not cut:
        return open_px if shut else None
    centres = [view.project(hip.centre_mm[None])[0] for hip in patient.hips if hip.side in sides]
    if edge == 1:
        return replace(open_px, y1=min(open_px.y1, max(y for _, y in centres) + distance))
    if edge == 2:
        return replace(open_px, y0=max(open_px.y0, min(y for _, y in centres) - distance))
    if side is Side.RIGHT:
        return replace(open_px, x0=max(open_px.x0, min(x for x, _ in centres) - distance))
    return replace(open_px, x1=min(open_px.x1, max(x for x, _ in centres) + distance))


def _shut(picture: Image, film: SimulatedFilm, view: View) -> None:
    assert film.shutter_px is not None
    step = view.pixel_mm / film.view.pixel_mm
    x0 = (view.origin_mm[0] - film.view.origin_mm[0]) / film.view.pixel_mm
    y0 = (film.view.origin_mm[1] - view.origin_mm[1]) / film.view.pixel_mm
    x = x0 + (np.arange(view.shape[1]) + 0.5) * step
    y = y0 + (np.arange(view.shape[0]) + 0.5) * step
    open_px = film.shutter_px
    picture[:, (x < open_px.x0) | (x > open_px.x1)] = film.hospital.shutter
    picture[(y < open_px.y0) | (y > open_px.y1)] = film.hospital.shutter
