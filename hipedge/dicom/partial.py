"""A film's pixels as `read` gives them: decoded and rendered no further than they are asked for.

What is asked for at a lower resolution is the stored values' low-pass band
(`hipedge.imaging.area`), rendered. JPEG 2000 stores it, so that only a part of its codestream is
decoded; of every other encoding it is computed. Where a band of the stored values means nothing,
the film is rendered first: next to padding a filtered value is neither, a palette's indices have
no mean, and with few bits rounded means are too coarse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.codecs import DECODER_ERRORS, checkable, ends_in_data
from hipedge.dicom.dataset import PixelElement
from hipedge.dicom.grayscale import (
    Grayscale,
    StoredValues,
    look_up,
    lookup_table,
    render,
    usable_window,
)
from hipedge.dicom.header import Header
from hipedge.dicom.pixels import (
    CodedFrame,
    Decoded,
    PixelFormat,
    decode,
    decode_codestream,
    open_codestream,
)
from hipedge.dicom.ripples import has_ripples
from hipedge.errors import Code, Refused
from hipedge.imaging.area import (
    Bands,
    WholePixels,
    band_origin,
    halvings,
    lines_around,
    multiples,
)
from hipedge.types import OVERVIEW_PX, Area, Box, Pixels

# With 8 bits probabilities differ by 0.007 at most, as with 10.
FEWEST_BITS = 8
# Low-pass bands overshoot their range at edges. If more than a share of their values does so by
# more than a share of the range, or one of them by far more, samples use bits above the stored
# ones. Of 500 pictures (250 radiographs and their negatives) 0.17 % of an overview does at most, by
# 0.43 of the range at most.
_OVERSHOOT, _MOST_OVERSHOOTING = 1 / 64, 1 / 400
_LARGEST_OVERSHOOT = 1 / 2


def can_be_averaged(form: PixelFormat, grayscale: Grayscale) -> bool:
    """Return whether stored values may be filtered before they are rendered."""
    return (
        form.samples_per_pixel == 1
        and form.bits_stored >= FEWEST_BITS
        and grayscale.padding is None
        and grayscale.palette is None
    )


def can_be_decoded_in_part(coded: CodedFrame, header: Header) -> bool:
    """Return whether lower resolutions of a codestream are those that its stored values would give.

    Not where its samples hold more than the stored values (an overlay in bits above the high bit,
    PS3.5 8.1.1, can only be removed from all samples), nor where the wavelet transform begins
    elsewhere than at the film's first pixel: then the same film in another encoding would give
    other values.
    """
    form, stream = coded.form, coded.stream
    return (
        coded.codec.decode_area is not None
        and stream.halvings >= max(1, _coarsest(form))
        and not stream.tiled
        and stream.origin == (0, 0)
        and stream.signed == form.signed
        and form.shift == 0
        and (stream.bits == form.bits_stored or _only_deeper(coded))
        and can_be_averaged(form, header.grayscale)
        and not header.overlay_in_pixels
    )


def _only_deeper(coded: CodedFrame) -> bool:
    """Return whether a codestream has more bits than are stored, and holds the values themselves.

    Those of a lossy one may exceed the range of what is stored, to which each is limited.
    """
    return coded.stream.bits > coded.form.bits_stored and not coded.codec.lossy


def open_pixels(
    element: PixelElement, header: Header, form: PixelFormat, grayscale: Grayscale
) -> tuple[Rendered, CodedFrame | Decoded]:
    """Return a film's pixels, and what they come from: its codestream, where it is decoded in part.

    Raises `Refused`.
    """
    coded = open_codestream(element, form, header.transfer_syntax_uid)
    if coded is None:
        decoded = decode(element, form, header.transfer_syntax_uid)
    elif (in_part := from_codestream(coded, header, grayscale)) is not None:
        return in_part, coded
    else:
        decoded = decode_codestream(coded)
    return from_values(decoded, form, grayscale), decoded


def from_values(decoded: Decoded, form: PixelFormat, grayscale: Grayscale) -> Rendered:
    """Return the pixels of a film that was decoded whole."""
    if can_be_averaged(form, grayscale):
        pixels = StoredPixels(decoded, form, grayscale)
        return Rendered(pixels, pixels.window_used, pixels.overview)
    usable = usable_window(grayscale, decoded.gray, form.bits_stored)
    rendered = render(decoded.gray, form.bits_stored, usable)
    return Rendered(WholePixels(rendered, decoded.damaged), usable is grayscale)


def from_codestream(coded: CodedFrame, header: Header, grayscale: Grayscale) -> Rendered | None:
    """Return the pixels of a film that is decoded in part; None where it must be decoded whole.

    Raises `Refused`.
    """
    if not can_be_decoded_in_part(coded, header):
        return None
    pixels = CodedPixels(coded, grayscale)
    if pixels.exceed_stored_bits:
        return None
    return Rendered(pixels, pixels.window_used, pixels.overview)


class Rendered(NamedTuple):
    """A film's pixels, and whether the header's window or VOI LUT was used, if it has one.

    `overview` is the coarsest low-pass band of the stored values, the same in every lossless
    encoding; None where the film is rendered before it is filtered.
    """

    pixels: Pixels
    window_used: bool
    overview: StoredValues | None = None


class _BandPixels(ABC):
    """Pixels of a film by its low-pass bands, rendered area by area (`Pixels`).

    `window_used` says whether the header's window or VOI LUT shows anything of the film's overview,
    which is the same in every lossless encoding.
    """

    damaged: bool

    def __init__(self, form: PixelFormat, grayscale: Grayscale) -> None:
        self._form = form
        self._coarsest = _coarsest(form)
        whole = slice(0, form.rows), slice(0, form.columns)
        self.overview = self._limited_band(self._coarsest, *whole)
        self._grayscale = usable_window(grayscale, self.overview, form.bits_stored)
        self.window_used = self._grayscale is grayscale
        # Without window or VOI LUT areas span all that can be stored: the film's own range is known
        # only where all of it is decoded, and no stage depends on an area's brightness or contrast.
        self._table = lookup_table(
            form.bits_stored, lambda: form.range, self._grayscale, signed=form.signed
        )

    @abstractmethod
    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), rendered. Raises `Refused`."""

    @abstractmethod
    def _band(self, count: int, rows: slice, columns: slice) -> StoredValues:
        """Return a band of the stored values between rows and columns. Raises `Refused`."""

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, at most half as coarse as `step_px`.

        Raises `Refused`.
        """
        form = self._form
        count = min(halvings(step_px / 2), self._coarsest)
        step = 1 << count
        rows, columns = lines_around(box, (form.rows, form.columns), step)
        if count == self._coarsest:
            values = self.overview[multiples(rows, step), multiples(columns, step)]
        else:
            values = self._limited_band(count, rows, columns)
        return Area(look_up(self._table, values), band_origin(rows, columns, count), step)

    def _limited_band(self, count: int, rows: slice, columns: slice) -> StoredValues:
        """Return a band within the range of what can be stored, which the filter overshoots."""
        band = self._band(count, rows, columns)
        type_, (low, high) = np.iinfo(band.dtype), self._form.range
        limited = np.clip(band, max(low, type_.min), min(high, type_.max))
        values: StoredValues = limited.astype(np.int16 if self._form.signed else np.uint16)
        return values


def _exceeds(band: StoredValues, count: int, low: int, high: int) -> bool:
    """Return whether a band of a film, halved `count` times, leaves a range as no filter does."""
    least, most = int(band.min()), int(band.max())
    beyond = max(low - least, most - high) / (high - low)
    if count == 0 or beyond > _LARGEST_OVERSHOOT:
        return beyond > 0
    if beyond <= _OVERSHOOT:
        return False
    overshoot = int(_OVERSHOOT * (high - low))
    wide = band.astype(np.int32)
    overshooting = np.count_nonzero((wide < low - overshoot) | (wide > high + overshoot))
    return bool(overshooting > _MOST_OVERSHOOTING * band.size)


def _coarsest(form: PixelFormat) -> int:
    """Return how often a film is halved for its overview, the coarsest area that is asked for."""
    return halvings(max(1.0, max(form.rows, form.columns) / OVERVIEW_PX / 2))


class StoredPixels(_BandPixels):
    """Pixels by all of the film's stored values."""

    def __init__(self, decoded: Decoded, form: PixelFormat, grayscale: Grayscale) -> None:
        self._bands = Bands(decoded.gray, within=form.range)
        self.damaged = decoded.damaged
        super().__init__(form, grayscale)

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), rendered."""
        return render(self._bands.whole(0), self._form.bits_stored, self._grayscale)

    def _band(self, count: int, rows: slice, columns: slice) -> StoredValues:
        return self._bands.part(count, rows, columns)


class CodedPixels(_BandPixels):
    """Pixels of a JPEG 2000 or HTJ2K film, decoded area by area.

    The overview is decoded when the film is read, so that a film which cannot be decoded is
    refused then. For it the decoder parses all markers and packet headers, as for the whole film.
    `damaged` says whether the decoder noticed damage so far: it does not look at the content of
    code-blocks of finer levels or other areas than those that were asked for.

    Many encoders write samples as deep as Bits Allocated, whatever Bits Stored is (against PS3.5
    8.2.4). `exceed_stored_bits` says whether samples so far use those bits: they lie outside the
    range of what can be stored in more places, or by more, than a filter overshoots it. Thin lines
    drawn in these bits go unnoticed: only a film that is decoded whole is without them.
    """

    def __init__(self, coded: CodedFrame, grayscale: Grayscale) -> None:
        self._coded = coded
        self.exceed_stored_bits = False
        self._data = checkable(coded.data, coded.stream)
        self._whole_bands: dict[int, StoredValues] = {}
        self.damaged = ends_in_data(coded.data, coded.stream)
        super().__init__(coded.form, grayscale)

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), decoded in full and rendered. Raises `Refused`."""
        decoded = decode_codestream(self._coded)
        self.damaged = self.damaged or decoded.damaged
        return render(decoded.gray, self._form.bits_stored, self._grayscale)

    def _band(self, count: int, rows: slice, columns: slice) -> StoredValues:
        # OpenJPEG, up to 2.5.4, leaves windows of HTJ2K empty: its bands are decoded whole, once.
        if not self._coded.stream.high_throughput:
            return self._decode(count, rows, columns)
        if count not in self._whole_bands:
            whole = slice(0, self._form.rows), slice(0, self._form.columns)
            self._whole_bands[count] = self._decode(count, *whole)
        step = 1 << count
        return self._whole_bands[count][multiples(rows, step), multiples(columns, step)]

    def _decode(self, count: int, rows: slice, columns: slice) -> StoredValues:
        decode_area = self._coded.codec.decode_area
        assert decode_area is not None
        try:
            samples, damaged = decode_area(self._data, count, rows, columns)
        except DECODER_ERRORS as error:
            raise Refused(Code.DECODE_FAILED, type(error).__name__) from error
        step = 1 << count
        lines = multiples(rows, step), multiples(columns, step)
        if samples.shape != tuple(line.stop - line.start for line in lines):
            raise Refused(Code.DECODE_FAILED, "shape")
        self.damaged = (
            self.damaged or damaged or (self._coded.stream.high_throughput and has_ripples(samples))
        )
        if self._coded.stream.bits > self._form.bits_stored:
            self.exceed_stored_bits |= _exceeds(samples, count, *self._form.range)
        values: StoredValues = samples
        return values
