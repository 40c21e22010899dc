"""An untrained model: its card, its crop geometry, synthetic golden samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hipedge.imaging.prepare import to_bytes
from hipedge.model.card import Card, Status
from hipedge.model.folder import GOLDEN_SAMPLES
from hipedge.types import ABNORMAL, CropGeometry

DEFAULT_GEOMETRY = CropGeometry(size_px=256, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)

# Standard deviation of the pixels of a synthetic crop: the order of magnitude of a radiograph's.
SYNTHETIC_CONTRAST = 1000.0


def untrained_card(seed: int, geometry: CropGeometry) -> Card:
    """Return the card of an untrained model; its thresholds are placeholders."""
    return Card(
        name=f"untrained-{seed}",
        version="0",
        status=Status.UNTRAINED,
        status_text="Its weights are random: its results mean nothing.",
        input=geometry,
        temperature=1.0,
        operating_points={
            "sensitive": dict.fromkeys(ABNORMAL, 0.3),
            "specific": dict.fromkeys(ABNORMAL, 0.6),
        },
        min_confidence=0.25,
        age_range_years=None,
        training_data=f"None: weights drawn at random from seed {seed}.",
    )


def synthetic_crops(size_px: int) -> NDArray[np.uint8]:
    """Return 64 random fields, uint8 (64, 1, S, S), with the spectra and contrast of radiographs.

    The power spectrum of a radiograph falls as f^-β with spatial frequency f, β about 3 (Burgess,
    1999, doi:10.1364/JOSAA.16.000633, for mammograms); here β ranges from 2 to 4.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1 / size_px)
    crops = []
    for beta in np.linspace(2.0, 4.0, GOLDEN_SAMPLES):
        spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px))) * frequency ** (-beta / 2)
        field = np.fft.irfft2(spectrum, s=(size_px, size_px))
        field *= SYNTHETIC_CONTRAST / field.std()
        crops.append(to_bytes(field.astype(np.float32)))
    return np.stack(crops)[:, None]
