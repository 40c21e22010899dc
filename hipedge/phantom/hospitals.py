"""Three simulated hospitals that differ in tube, detector, processing, files and side markers.

Two hospitals are for training; the third is for external validation. The parameters of a hospital
never depend on the diagnoses of its patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np

from hipedge.phantom.acquisition import Technique
from hipedge.phantom.projection import View

Range = tuple[float, float]


class Spacing(Enum):
    """Attributes of the DICOM header that give the pixel spacing (PS3.3 10.7.1)."""

    MAGNIFICATION = "imager spacing and the estimated magnification"
    CALIBRATED = "imager spacing, and pixel spacing corrected for magnification"
    IMAGER = "imager spacing alone"


@dataclass(frozen=True)
class Hospital:
    """Acquisition and file parameters of a hospital.

    Values given as a range are drawn for each film, from a uniform distribution
    (`quanta_per_mm2` from a log-uniform one).
    """

    name: str
    institution: str
    manufacturer: str
    model: str
    detector: str  # Detector Type (0018,7004)
    pixel_mm: float
    film_mm: tuple[Range, ...]  # (height, width) of bilateral films
    source_to_detector_mm: Range
    monochrome1: bool
    bits_stored: int
    transfer_syntaxes: tuple[str, ...]
    spacing: Spacing
    magnification: float  # assumed by the machine, independent of the patient
    markers: tuple[str, ...]  # sides with a lead marker
    marker_height_mm: Range
    collimated: float  # share of films with visible collimation
    shutter: float  # grey level outside the collimated area: 0 black, 1 white
    kilovolts: tuple[int, int]
    copper_mm: tuple[float, ...]
    quanta_per_mm2: Range
    electronic_quanta: float
    scatter: Range
    focus_blur_mm: Range
    detector_blur_mm: Range
    fine_gain: Range
    middle_gain: Range
    broad_gain: Range
    coarse_gain: Range
    contrast: Range
    gamma: Range
    reach_low: Range
    reach_high: Range

    def draw_technique(self, rng: np.random.Generator) -> Technique:
        """Draw the exposure and processing parameters of one film."""
        return Technique(
            kilovolts=int(rng.integers(self.kilovolts[0], self.kilovolts[1] + 1)),
            copper_mm=float(rng.choice(self.copper_mm)),
            quanta_per_mm2=float(np.exp(rng.uniform(*np.log(self.quanta_per_mm2)))),
            electronic_quanta=self.electronic_quanta,
            scatter=rng.uniform(*self.scatter),
            focus_blur_mm=rng.uniform(*self.focus_blur_mm),
            detector_blur_mm=rng.uniform(*self.detector_blur_mm),
            fine_gain=rng.uniform(*self.fine_gain),
            middle_gain=rng.uniform(*self.middle_gain),
            broad_gain=rng.uniform(*self.broad_gain),
            coarse_gain=rng.uniform(*self.coarse_gain),
            contrast=rng.uniform(*self.contrast),
            gamma=rng.uniform(*self.gamma),
            reach_low=rng.uniform(*self.reach_low),
            reach_high=rng.uniform(*self.reach_high),
        )

    def draw_view(
        self, rng: np.random.Generator, *, centre: tuple[float, float], film_mm: Range, depth: float
    ) -> View:
        """Draw a view on a film of `film_mm` (height, width), centred on a point of the hip plane.

        `centre` is that point, (x, z) in mm, and `depth` the distance from the plane of the hips to
        the detector, in mm. The focus is placed approximately over the centre of the film.
        """
        distance = rng.uniform(*self.source_to_detector_mm)
        shape = (round(film_mm[0] / self.pixel_mm), round(film_mm[1] / self.pixel_mm))
        focus = (centre[0] + rng.normal(0, 8), depth - distance, centre[1] + rng.normal(0, 12))
        enlarged = distance / (distance - depth)
        x = focus[0] + (centre[0] - focus[0]) * enlarged
        z = focus[2] + (centre[1] - focus[2]) * enlarged
        origin = (x - shape[1] * self.pixel_mm / 2, z + shape[0] * self.pixel_mm / 2)
        return View(shape, self.pixel_mm, origin, focus, depth)


EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"

HOSPITALS = MappingProxyType({
    hospital.name: hospital
    for hospital in (
        Hospital(
            name="north",
            institution="PHANTOM HOSPITAL NORTH",
            manufacturer="PHANTOM WORKS",
            model="FLAT PANEL N",
            detector="SCINTILLATOR",
            pixel_mm=0.40,
            film_mm=((400.0, 426.0), (350.0, 426.0)),
            source_to_detector_mm=(1100.0, 1150.0),
            monochrome1=False,
            bits_stored=12,
            transfer_syntaxes=(EXPLICIT_LITTLE_ENDIAN, JPEG_LOSSLESS_SV1, JPEG_2000_LOSSLESS),
            spacing=Spacing.MAGNIFICATION,
            magnification=1.15,
            markers=("R",),
            marker_height_mm=(11.0, 14.0),
            collimated=0.3,
            shutter=0.0,
            kilovolts=(72, 82),
            copper_mm=(0.0, 0.1),
            quanta_per_mm2=(50000.0, 200000.0),
            electronic_quanta=3.0,
            scatter=(0.2, 0.7),
            focus_blur_mm=(0.08, 0.16),
            detector_blur_mm=(0.06, 0.22),
            fine_gain=(1.1, 2.7),
            middle_gain=(1.3, 2.3),
            broad_gain=(0.7, 1.3),
            coarse_gain=(0.02, 0.22),
            contrast=(3.0, 4.5),
            gamma=(1.0, 1.6),
            reach_low=(0.05, 0.22),
            reach_high=(0.05, 0.30),
        ),
        Hospital(
            name="south",
            institution="PHANTOM HOSPITAL SOUTH",
            manufacturer="PHANTOM WORKS",
            model="FLAT PANEL S",
            detector="DIRECT",
            pixel_mm=0.36,
            film_mm=((350.0, 424.0), (424.0, 424.0)),
            source_to_detector_mm=(1000.0, 1100.0),
            monochrome1=True,
            bits_stored=14,
            transfer_syntaxes=(JPEG_LS_LOSSLESS, RLE_LOSSLESS, EXPLICIT_LITTLE_ENDIAN),
            spacing=Spacing.CALIBRATED,
            magnification=1.20,
            markers=("R", "L"),
            marker_height_mm=(14.0, 18.0),
            collimated=0.6,
            shutter=0.0,
            kilovolts=(66, 76),
            copper_mm=(0.0, 0.2),
            quanta_per_mm2=(40000.0, 150000.0),
            electronic_quanta=5.0,
            scatter=(0.3, 1.0),
            focus_blur_mm=(0.10, 0.20),
            detector_blur_mm=(0.06, 0.22),
            fine_gain=(1.3, 2.9),
            middle_gain=(1.1, 2.0),
            broad_gain=(0.8, 1.4),
            coarse_gain=(0.04, 0.28),
            contrast=(2.5, 3.8),
            gamma=(1.1, 1.9),
            reach_low=(0.05, 0.3),
            reach_high=(0.05, 0.35),
        ),
        Hospital(
            name="east",
            institution="PHANTOM HOSPITAL EAST",
            manufacturer="PHANTOM INSTRUMENTS",
            model="PLATE READER E",
            detector="STORAGE",
            pixel_mm=0.43,
            film_mm=((354.0, 430.0), (430.0, 420.0)),
            source_to_detector_mm=(1020.0, 1200.0),
            monochrome1=True,
            bits_stored=10,
            transfer_syntaxes=(JPEG_2000_LOSSLESS, JPEG_LOSSLESS_SV1, RLE_LOSSLESS),
            spacing=Spacing.IMAGER,
            magnification=1.0,
            markers=("L",),
            marker_height_mm=(9.0, 20.0),
            collimated=0.5,
            shutter=1.0,
            kilovolts=(68, 90),
            copper_mm=(0.0,),
            quanta_per_mm2=(45000.0, 160000.0),
            electronic_quanta=8.0,
            scatter=(0.3, 1.3),
            focus_blur_mm=(0.10, 0.25),
            detector_blur_mm=(0.08, 0.26),
            fine_gain=(1.2, 3.1),
            middle_gain=(1.0, 2.3),
            broad_gain=(0.7, 1.6),
            coarse_gain=(0.02, 0.40),
            contrast=(2.0, 5.0),
            gamma=(1.0, 2.2),
            reach_low=(0.0, 0.3),
            reach_high=(0.0, 0.4),
        ),
    )
})  # fmt: skip
EXTERNAL = "east"
HOSPITAL_SHARES = MappingProxyType({"north": 0.4, "south": 0.4, "east": 0.2})
