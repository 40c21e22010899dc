"""X-ray physics: tube spectrum, attenuation by materials, blur, noise and map resampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xraylib
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hipedge.phantom.compiled import compiled_fast

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

# Materials: density in g/cm³, and an xraylib (NIST) compound or mass fractions by atomic number.
MATERIALS: dict[str, tuple[float, str | dict[int, float]]] = {
    "muscle": (1.05, "Muscle, Skeletal"),
    "fat": (0.95, "Adipose Tissue (ICRP)"),
    "bone": (1.85, "Bone, Cortical (ICRP)"),
    "titanium": (4.43, {22: 0.90, 13: 0.06, 23: 0.04}),  # Ti-6Al-4V, ISO 5832-3
    "cobalt_chrome": (8.3, {27: 0.65, 24: 0.28, 42: 0.06, 26: 0.01}),  # ISO 5832-12
    "steel": (7.9, {26: 0.64, 24: 0.18, 28: 0.14, 42: 0.03, 25: 0.01}),  # ISO 5832-1
    "cement": (1.25, {6: 0.52, 8: 0.32, 1: 0.07, 56: 0.053, 16: 0.037}),  # PMMA, 9 % BaSO4
    "polyethylene": (0.94, {6: 0.857, 1: 0.143}),
    "ceramic": (3.98, {13: 0.529, 8: 0.471}),  # alumina, ISO 6474-1
    "lead": (11.3, {82: 1.0}),
}
FILTER_ALUMINIUM_MM = 2.5
SCINTILLATOR_MM = 0.5
BIN_KEV = 1.0
BINS = 4


@dataclass(frozen=True)
class Spectrum:
    """X-ray spectrum reduced to a few energies.

    `weights` (E,) are the fractions of the signal that the detector records at each energy.
    `attenuation_per_mm` maps each material to its linear attenuation coefficients (E,), per mm.
    """

    kilovolts: int
    weights: tuple[float, ...]
    attenuation_per_mm: dict[str, tuple[float, ...]]


@lru_cache(maxsize=64)
def spectrum_at(kilovolts: int, copper_mm: float = 0.0) -> Spectrum:
    """Return the filtered spectrum of a tungsten tube, as recorded by a CsI detector.

    The bremsstrahlung follows Kramers' law (Philos Mag 1923;46:836–871) and is hardened by the
    filters. The detector integrates energy. The spectrum is divided into `BINS` energies with equal
    shares of the signal behind a patient.
    """
    energy = np.arange(15.0, kilovolts, BIN_KEV)
    photons = kilovolts / energy - 1.0
    filters = {13: (2.70, FILTER_ALUMINIUM_MM), 29: (8.96, copper_mm)}
    for element, (density, thickness_mm) in filters.items():
        photons *= [np.exp(-_per_mm(density, {element: 1.0}, e) * thickness_mm) for e in energy]
    scintillator = {55: 0.511, 53: 0.489}
    caught = [1.0 - np.exp(-_per_mm(4.51, scintillator, e) * SCINTILLATOR_MM) for e in energy]
    # Few low-energy photons penetrate 20 cm of a patient: bin by the signal behind tissue.
    recorded = photons * energy * caught
    arriving = recorded * [np.exp(-_per_mm(1.0, "Muscle, Skeletal", e) * 120.0) for e in energy]
    share = np.cumsum(arriving) / arriving.sum()
    number = np.minimum((share * BINS).astype(int), BINS - 1)
    weights = np.array([recorded[number == k].sum() for k in range(BINS)])
    means = [
        float(np.average(energy[number == k], weights=arriving[number == k])) for k in range(BINS)
    ]
    attenuation = {
        name: tuple(_per_mm(density, made_of, e) for e in means)
        for name, (density, made_of) in MATERIALS.items()
    }
    return Spectrum(kilovolts, tuple(weights / weights.sum()), attenuation)


def _per_mm(density: float, made_of: str | dict[int, float], kev: float) -> float:
    """Return the linear attenuation coefficient per mm, from xraylib's total cross-sections."""
    if isinstance(made_of, str):
        mass = xraylib.CS_Total_CP(made_of, kev)
    else:
        mass = sum(part * xraylib.CS_Total(element, kev) for element, part in made_of.items())
    return float(mass * density / 10.0)


def transmission(spectrum: Spectrum, paths_mm: dict[str, Image]) -> Image:
    """Return the transmitted fraction of the beam (H, W), by the Beer–Lambert law.

    `paths_mm` maps each material to its path lengths (H, W). Bone and foreign materials displace
    muscle, so the attenuation coefficient of muscle is subtracted from theirs.
    """
    names = list(paths_mm)
    muscle = np.array(spectrum.attenuation_per_mm["muscle"])
    table = np.array([spectrum.attenuation_per_mm[name] for name in names])
    for k, name in enumerate(names):
        if name not in ("muscle", "fat"):
            table[k] -= muscle
    stacked = np.stack([paths_mm[name] for name in names])
    weights = np.array(spectrum.weights)
    return _transmit(stacked, table.astype(np.float32), weights.astype(np.float32))


@compiled_fast
def _transmit(paths: Image, table: Image, weights: Image) -> Image:
    materials, height, width = paths.shape
    energies = weights.shape[0]
    out = np.empty((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            total = np.float32(0.0)
            for e in range(energies):
                depth = np.float32(0.0)
                for m in range(materials):
                    depth += table[m, e] * paths[m, i, j]
                total += weights[e] * np.exp(-max(depth, np.float32(0.0)))
            out[i, j] = total
    return out


def blurred(image: Image, sigma_px: float) -> Image:
    """Return a Gaussian-blurred image; a `sigma_px` below 0.2 returns the image unchanged."""
    if sigma_px < 0.2:
        return image
    return np.asarray(gaussian_filter(image, sigma_px, mode="nearest", truncate=3.0))


def enlarged(
    coarse: Image, shape: tuple[int, int], corner_px: tuple[float, float], step_px: float
) -> Image:
    """Resample a coarse map to a finer grid of `shape`, with bilinear interpolation.

    `corner_px` is the upper left corner (x, y) of the fine grid, and `step_px` the size of its
    pixels, both in pixels of the coarse map.
    """
    x = corner_px[0] + (np.arange(shape[1], dtype=np.float64) + 0.5) * step_px - 0.5
    y = corner_px[1] + (np.arange(shape[0], dtype=np.float64) + 0.5) * step_px - 0.5
    return _bilinear(coarse, x, y)


@compiled_fast
def _bilinear(coarse: Image, x: Floats, y: Floats) -> Image:
    rows, columns = coarse.shape
    out = np.empty((y.shape[0], x.shape[0]), np.float32)
    for i in range(y.shape[0]):
        v = min(max(y[i], 0.0), rows - 1.001)
        q = int(v)
        b = np.float32(v - q)
        for j in range(x.shape[0]):
            u = min(max(x[j], 0.0), columns - 1.001)
            p = int(u)
            a = np.float32(u - p)
            out[i, j] = (1 - b) * ((1 - a) * coarse[q, p] + a * coarse[q, p + 1]) + b * (
                (1 - a) * coarse[q + 1, p] + a * coarse[q + 1, p + 1]
            )
    return out


def with_noise(
    signal: Image, photons_per_pixel: float, electronic: float, rng: np.random.Generator
) -> Image:
    """Add quantum and electronic noise to a signal, given as a fraction of the unattenuated beam.

    The Poisson noise of the quanta is approximated by a normal distribution. `electronic` is the
    standard deviation of the read-out noise, in quanta.
    """
    variance = signal / photons_per_pixel + (electronic / photons_per_pixel) ** 2
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(signal + np.sqrt(variance) * noise, np.float32)
