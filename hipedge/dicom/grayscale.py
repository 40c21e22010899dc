"""From stored values to P-values: the grayscale pipeline of PS3.3 C.11 as one lookup table.

A stored value of at most 16 bits has 65536 possible values, so the pipeline is computed once for
each of them and looked up for each pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import Code, Refused

WHITE = 65535
# ITU-R BT.601, as PS3.3 C.7.6.3.1.2 has it for YBR_FULL.
RED, GREEN, BLUE = 0.299, 0.587, 0.114


# A window that leaves a smaller share of a film's grays shows nothing of it. Windows of real and
# simulated films leave two thirds and more; one of 8 bits on 10 leaves 0.17.
_LEAST_SHOWN = 0.25
_POLARITY_PX = 96
_BRIGHT_BORDER = 0.55
_BRIGHT_MEDIAN = (0.6, 0.86)


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A LUT (PS3.3 C.11.1.1.1): `entries` (N,) of `bits` bits, from the value `first` on."""

    first: int
    bits: int
    entries: NDArray[np.uint16]

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Look up each value; below and above the table its first and last entry are used."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        looked_up: NDArray[np.float64] = self.entries[index].astype(np.float64)
        return looked_up

    @property
    def white(self) -> int:
        """The largest output, by the number of bits or by the entries where they exceed it."""
        return max((1 << min(self.bits, 16)) - 1, int(self.entries.max()), 1)


@dataclass(frozen=True)
class Window:
    """A VOI window; `function` is VOI LUT Function (0028,1056)."""

    centre: float
    width: float
    function: str = "LINEAR"

    @property
    def usable(self) -> bool:
        """Whether the width is one that the function allows (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
        smallest = 1.0 if self.function == "LINEAR" else math.ulp(0.0)
        return math.isfinite(self.centre) and smallest <= self.width < math.inf

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map values to 0–1."""
        if self.function == "SIGMOID":  # C.11.2.1.3.1
            steepness = -4.0 * (values - self.centre) / self.width
            return np.asarray(1.0 / (1.0 + np.exp(np.clip(steepness, -700.0, 700.0))))
        if self.function == "LINEAR_EXACT":  # C.11.2.1.3.2
            return np.clip((values - self.centre) / self.width + 0.5, 0.0, 1.0)
        if self.width == 1.0:  # C.11.2.1.2.1: a threshold
            return (values > self.centre - 0.5).astype(np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1.0) + 0.5, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Grayscale:
    """The header's attributes for converting stored values to P-values.

    `palette` overrides all others. `padding` is the (lowest, highest) stored value of pixels that
    are not part of the image.
    """

    modality_lut: LookupTable | None = None
    slope: float = 1.0
    intercept: float = 0.0
    voi_lut: LookupTable | None = None
    window: Window | None = None
    inverted: bool = False
    padding: tuple[int, int] | None = None
    palette: tuple[LookupTable, LookupTable, LookupTable] | None = None


StoredValues = NDArray[np.uint16] | NDArray[np.int16]


def render(values: StoredValues, bits_stored: int, grayscale: Grayscale) -> NDArray[np.uint16]:
    """Return P-values 0 to 65535 (H, W), the larger the whiter: on a radiograph, bone.

    `values` (H, W) are all of a film's stored values, within `bits_stored`. Raises `Refused`
    (`unsupported_pixels`) if the rescale slope is no slope.
    """
    signed = values.dtype.kind == "i"
    table = lookup_table(
        bits_stored, lambda: extremes(values, grayscale.padding), grayscale, signed=signed
    )
    return look_up(table, values)


def usable_window(grayscale: Grayscale, values: StoredValues, bits_stored: int) -> Grayscale:
    """Return `grayscale` without its VOI LUT or window where that shows nothing of the film.

    As a window of width 1 does, one of another bit depth, or a LUT that has an entry for some of
    the film's values only. It shows nothing where too few of the film's grays remain: of the
    pixels that have not one of the two most frequent values (air and collimator). `values` are
    those of the film or of its overview, within `bits_stored`.
    """
    if grayscale.voi_lut is None and (grayscale.window is None or not grayscale.window.usable):
        return grayscale
    signed = values.dtype.kind == "i"
    table = lookup_table(
        bits_stored, lambda: extremes(values, grayscale.padding), grayscale, signed=signed
    )
    indices = values.view(np.uint16) & (len(table) - 1) if signed else values
    counts = np.bincount(indices.ravel(), minlength=len(table)).astype(np.float64)
    shown = np.bincount(table, weights=counts)
    if _gray_share(shown) >= _LEAST_SHOWN * _gray_share(counts):
        return grayscale
    return replace(grayscale, voi_lut=None, window=None)


def _gray_share(counts: NDArray[np.floating | np.integer]) -> float:
    """Return the share of pixels that have not one of the two most frequent values."""
    most = int(counts.argmax())
    others = np.delete(counts, most)
    second = float(others.max()) if others.size else 0.0
    return 1.0 - (float(counts[most]) + second) / float(counts.sum())


def polarity_is_doubtful(pixels: NDArray[np.uint16]) -> bool:
    """Return whether a film (H, W), which should have bone bright, looks inverted.

    The air around a patient is dark, and most of a film is no brighter than soft tissue. Doubtful
    is a film whose border is bright and whose median is, but not as bright as a collimator's
    shadow. Of 430 FracAtlas films none looks so, and when turned over, most do: see docs/safety.md.
    """
    step = max(1, min(pixels.shape) // _POLARITY_PX)
    small = pixels[step // 2 :: step, step // 2 :: step].astype(np.float64)
    low, high = np.percentile(small, (1, 99))
    if high <= low:
        return False
    small = np.clip((small - low) / (high - low), 0.0, 1.0)
    width = max(1, min(small.shape) // 16)
    inner = small[width:-width, width:-width]
    border = (small.sum() - inner.sum()) / (small.size - inner.size)
    median = float(np.median(small))
    return bool(border > _BRIGHT_BORDER and _BRIGHT_MEDIAN[0] < median < _BRIGHT_MEDIAN[1])


def look_up(table: NDArray[np.uint16], values: StoredValues) -> NDArray[np.uint16]:
    """Return the P-value of each stored value, by the table of all."""
    # mode="wrap" reads negative values from the table's end, where `_stored` puts them.
    return np.take(table, values, mode="wrap")


def lookup_table(
    bits_stored: int,
    present: Callable[[], tuple[int, int] | None],
    grayscale: Grayscale,
    *,
    signed: bool,
) -> NDArray[np.uint16]:
    """Return the P-value of each value of `bits_stored`, for `look_up`.

    Modality LUT or rescale (PS3.3 C.11.1), then the first VOI LUT, else the first window (C.11.2),
    else the full range of the values that are `present` (least, greatest: asked for only then,
    since it needs all of them); then MONOCHROME1 or an
    INVERSE presentation LUT inverts the result (C.7.6.3.1.2, C.11.6: both together invert it once,
    not twice). Padding is black (C.7.5.1.1.2).
    """
    stored = _stored(bits_stored, signed=signed)
    mapped = _modality(stored, grayscale)
    if grayscale.voi_lut is not None:
        white = grayscale.voi_lut(mapped) / grayscale.voi_lut.white
    elif grayscale.window is not None and grayscale.window.usable:
        white = grayscale.window(mapped)
    elif (ends := present()) is None:
        white = np.zeros_like(mapped)
    else:
        white = _full_range(mapped, (stored >= ends[0]) & (stored <= ends[1]))
    if grayscale.inverted:
        white = 1.0 - white
    if grayscale.padding is not None:
        white[_is_padding(stored, grayscale.padding)] = 0.0
    return np.rint(white * WHITE).astype(np.uint16)


def _stored(bits_stored: int, *, signed: bool) -> NDArray[np.float64]:
    """Return every value that can be stored, 0 first, negative ones last as two's complement."""
    stored = np.arange(1 << bits_stored, dtype=np.float64)
    if signed:
        stored[1 << (bits_stored - 1) :] -= 1 << bits_stored
    return stored


def _modality(stored: NDArray[np.float64], grayscale: Grayscale) -> NDArray[np.float64]:
    if grayscale.palette is not None:
        red, green, blue = (lut(stored) / lut.white for lut in grayscale.palette)
        return RED * red + GREEN * green + BLUE * blue
    if grayscale.modality_lut is not None:
        return grayscale.modality_lut(stored)
    slope, intercept = grayscale.slope, grayscale.intercept
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise Refused(Code.UNSUPPORTED_PIXELS, "rescale")
    return stored * slope + intercept


def extremes(values: StoredValues, padding: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the least and the greatest value that is no padding, None where all is."""
    image = values if padding is None else values[~_is_padding(values, padding)]
    return (int(image.min()), int(image.max())) if image.size else None


def _is_padding(
    values: NDArray[np.float64] | StoredValues, padding: tuple[int, int]
) -> NDArray[np.bool_]:
    return np.asarray((values >= padding[0]) & (values <= padding[1]))


def _full_range(mapped: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    low, high = float(mapped[present].min()), float(mapped[present].max())
    if high == low:
        return np.zeros_like(mapped)
    return np.clip((mapped - low) / (high - low), 0.0, 1.0)


def luminance(rgb: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the luminance (H, W) of red, green and blue (H, W, 3), rounded to the same depth."""
    red, green, blue = np.moveaxis(rgb.astype(np.float32), -1, 0)
    gray: NDArray[np.float32] = RED * red + GREEN * green + BLUE * blue
    return np.rint(gray).astype(np.uint16)
