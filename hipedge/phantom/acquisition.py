"""Simulate the acquisition of a radiograph: exposure, image processing and display curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hipedge.phantom.physics import (
    Image,
    blurred,
    enlarged,
    spectrum_at,
    transmission,
    with_noise,
)
from hipedge.phantom.projection import View
from hipedge.phantom.scene import Patient

SCOUT_MM = 3.0
# Standard deviations of the Gaussian filters that separate the frequency bands of the processing.
COARSE_MM = 42.0
BROAD_MM = 9.0
FINE_MM = 2.2
SCATTER_REACH_MM = 28.0
# Percentiles of the processed attenuation within the body that the display curve spans.
LEVEL_PERCENTILES = (3.0, 98.5)


@dataclass(frozen=True)
class Technique:
    """Exposure and image-processing parameters of one film.

    `quanta_per_mm2` is the mean number of quanta per mm² behind the body, and `scatter` the ratio
    of scattered to primary signal behind the grid. `focus_blur_mm` and `detector_blur_mm` are
    standard deviations in mm on the detector.

    The gains multiply frequency bands: `fine_gain` detail finer than `FINE_MM`, `middle_gain`
    detail up to `BROAD_MM`, `broad_gain` detail up to `COARSE_MM`, and `coarse_gain` the
    remainder, which is mostly soft tissue. `contrast` and `gamma` shape the display curve. It
    spans the levels of the body, extended by `reach_low` below and `reach_high` above.
    """

    kilovolts: int
    copper_mm: float
    quanta_per_mm2: float
    electronic_quanta: float
    scatter: float
    focus_blur_mm: float
    detector_blur_mm: float
    fine_gain: float
    middle_gain: float
    broad_gain: float
    coarse_gain: float
    contrast: float
    gamma: float
    reach_low: float
    reach_high: float


@dataclass(frozen=True, eq=False)
class Scout:
    """Global quantities from a low-resolution simulation of the whole film.

    These are the scatter, the exposure, the display levels and the coarse tones. A crop uses the
    scout of its whole film, so that both are rendered alike.
    """

    view: View
    scatter: Image
    broad: Image
    coarse: Image
    quanta_per_mm2: float
    middle: float
    levels: tuple[float, float]

    def over(self, view: View, coarse_map: Image) -> Image:
        """Resample one of the scout's maps to another view of the same detector."""
        step = view.pixel_mm / self.view.pixel_mm
        corner = (
            (view.origin_mm[0] - self.view.origin_mm[0]) / self.view.pixel_mm,
            (self.view.origin_mm[1] - view.origin_mm[1]) / self.view.pixel_mm,
        )
        return enlarged(coarse_map, view.shape, corner, step)


def expose(
    patient: Patient, technique: Technique, film: View, part: View, rng: np.random.Generator
) -> Image:
    """Return the processed image (H, W) of `part` of a `film`, from 0 (dark) to 1 (bright bone)."""
    scout = take_scout(patient, technique, film)
    spectrum = spectrum_at(technique.kilovolts, technique.copper_mm)
    primary = transmission(spectrum, patient.paths_mm(part))
    blur_mm = np.hypot(technique.focus_blur_mm, technique.detector_blur_mm)
    signal = blurred(primary, blur_mm / part.pixel_mm) + scout.over(part, scout.scatter)
    quanta = scout.quanta_per_mm2 * part.pixel_mm**2
    noisy = with_noise(signal, quanta, technique.electronic_quanta, rng)
    attenuation = -np.log(np.maximum(noisy, 1e-5))
    return process(attenuation, technique, scout, part)


def take_scout(patient: Patient, technique: Technique, film: View) -> Scout:
    """Simulate the whole film at low resolution, with pixels of `SCOUT_MM`."""
    pixels = SCOUT_MM / film.pixel_mm
    shape = (int(np.ceil(film.shape[0] / pixels)), int(np.ceil(film.shape[1] / pixels)))
    view = film.window(0.0, 0.0, shape, pixels)
    spectrum = spectrum_at(technique.kilovolts, technique.copper_mm)
    primary = transmission(spectrum, patient.paths_mm(view))
    # Scatter arises in tissue: the unattenuated beam produces none.
    source = primary * (1 - np.sqrt(primary))
    scatter = technique.scatter * blurred(source, SCATTER_REACH_MM / SCOUT_MM)
    signal = primary + scatter
    attenuation = -np.log(signal)
    body = attenuation > 0.25 * float(attenuation.max())
    exposed = float(signal[body].mean())
    broad = blurred(attenuation, BROAD_MM / SCOUT_MM)
    coarse = blurred(attenuation, COARSE_MM / SCOUT_MM)
    middle = float(np.median(attenuation[body]))
    tones = _toned(attenuation, broad, coarse, technique, middle)
    low, high = np.percentile(tones[body], LEVEL_PERCENTILES)
    return Scout(
        view=view,
        scatter=scatter,
        broad=broad,
        coarse=coarse,
        quanta_per_mm2=technique.quanta_per_mm2 / exposed,
        middle=middle,
        levels=(float(low), float(high)),
    )


def _toned(
    detail: Image, broad: Image, coarse: Image, technique: Technique, middle: float
) -> Image:
    """Scale the coarse tones about `middle`, and enhance the finer bands relative to them."""
    return np.asarray(
        middle
        + technique.coarse_gain * (coarse - middle)
        + technique.broad_gain * (broad - coarse)
        + technique.middle_gain * (detail - broad)
    )


def process(attenuation: Image, technique: Technique, scout: Scout, part: View) -> Image:
    """Enhance detail, compress the coarse tones, and apply the display curve."""
    coarse, broad = scout.over(part, scout.coarse), scout.over(part, scout.broad)
    smooth = blurred(attenuation, FINE_MM / part.pixel_mm)
    tones = _toned(smooth, broad, coarse, technique, scout.middle)
    tones += technique.fine_gain * (attenuation - smooth)
    low, high = scout.levels
    span = high - low
    tone = (tones - (low - technique.reach_low * span)) / (
        span * (1.0 + technique.reach_low + technique.reach_high)
    )
    return display_curve(tone, technique.contrast, technique.gamma)


def display_curve(tone: Image, contrast: float, gamma: float) -> Image:
    """Map tones to 0 to 1 through a sigmoid (PS3.3 C.11.2.1.3.1), followed by a power law."""
    edge = 1.0 / (1.0 + np.exp(0.5 * contrast))
    curve = 1.0 / (1.0 + np.exp(-contrast * (tone - 0.5)))
    scaled = np.clip((curve - edge) / (1.0 - 2.0 * edge), 0.0, 1.0)
    return np.asarray(scaled**gamma, np.float32)
