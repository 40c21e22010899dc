"""How a radiograph comes about: exposure through the patient, then a display curve."""

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
COARSE_MM = 9.0
FINE_MM = 2.2
SCATTER_REACH_MM = 28.0
# The share of the film's attenuation range that the display curve spans.
LEVEL_PERCENTILES = (3.0, 99.6)


@dataclass(frozen=True)
class Technique:
    """How one film is exposed and processed.

    `quanta_per_mm2` arrive behind the body on average; `scatter` is scattered to primary signal
    behind the grid; blurs are standard deviations in mm on the detector. The processing gains
    multiply detail finer than `FINE_MM`, between that and `COARSE_MM`, and what is left; `gamma`
    and `contrast` shape the display curve.
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
    coarse_gain: float
    contrast: float
    gamma: float
    reach_low: float
    reach_high: float


@dataclass(frozen=True, eq=False)
class Scout:
    """What a coarse look at the whole film tells: scatter, exposure, levels, and coarse tones.

    A crop uses the same scout as its whole film, so the two look alike.
    """

    view: View
    scatter: Image
    coarse: Image
    quanta_per_mm2: float
    levels: tuple[float, float]

    def over(self, view: View, coarse_map: Image) -> Image:
        """Sample one of the scout's maps over another view of the same detector."""
        step = view.pixel_mm / self.view.pixel_mm
        corner = (
            (view.origin_mm[0] - self.view.origin_mm[0]) / self.view.pixel_mm,
            (self.view.origin_mm[1] - view.origin_mm[1]) / self.view.pixel_mm,
        )
        return enlarged(coarse_map, view.shape, corner, step)


def expose(
    patient: Patient, technique: Technique, film: View, part: View, rng: np.random.Generator
) -> Image:
    """Return the processed picture (H, W) of `part` of a `film`: 0 dark to 1 bright, bone bright."""
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
    """Look at the whole film coarsely."""
    pixels = SCOUT_MM / film.pixel_mm
    shape = (int(np.ceil(film.shape[0] / pixels)), int(np.ceil(film.shape[1] / pixels)))
    view = film.window(0.0, 0.0, shape, pixels)
    spectrum = spectrum_at(technique.kilovolts, technique.copper_mm)
    primary = transmission(spectrum, patient.paths_mm(view))
    scatter = technique.scatter * blurred(primary, SCATTER_REACH_MM / SCOUT_MM)
    # Scatter comes out of tissue: none where the beam meets nothing.
    signal = primary + scatter
    attenuation = -np.log(signal)
    body = attenuation > 0.25 * float(attenuation.max())
    exposed = float(signal[body].mean())
    low, high = np.percentile(attenuation[body], LEVEL_PERCENTILES)
    return Scout(
        view=view,
        scatter=scatter,
        coarse=blurred(attenuation, COARSE_MM / SCOUT_MM),
        quanta_per_mm2=technique.quanta_per_mm2 / exposed,
        levels=(float(low), float(high)),
    )


def process(attenuation: Image, technique: Technique, scout: Scout, part: View) -> Image:
    """Enhance detail, compress what is coarse, and apply the display curve."""
    coarse = scout.over(part, scout.coarse)
    middle = blurred(attenuation, FINE_MM / part.pixel_mm)
    low, high = scout.levels
    centre = 0.5 * (low + high)
    enhanced = (
        centre
        + technique.coarse_gain * (coarse - centre)
        + technique.middle_gain * (middle - coarse)
        + technique.fine_gain * (attenuation - middle)
    )
    span = high - low
    tone = (enhanced - (low - technique.reach_low * span)) / (
        span * (1.0 + technique.reach_low + technique.reach_high)
    )
    return display_curve(tone, technique.contrast, technique.gamma)


def display_curve(tone: Image, contrast: float, gamma: float) -> Image:
    """Return 0 to 1 over a sigmoid (PS3.3 C.11.2.1.3.1), then a power."""
    edge = 1.0 / (1.0 + np.exp(0.5 * contrast))
    curve = 1.0 / (1.0 + np.exp(-contrast * (tone - 0.5)))
    scaled = np.clip((curve - edge) / (1.0 - 2.0 * edge), 0.0, 1.0)
    return np.asarray(scaled**gamma, np.float32)
