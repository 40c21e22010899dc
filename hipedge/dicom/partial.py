"""A film's pixels as `read` gives them: decoded and rendered no further than they are asked for.

What is asked for at a lower resolution is the stored values' low-pass band
(`hipedge.imaging.area`), rendered. JPEG 2000 stores it, so that only a part of its codestream is
decoded; of every other encoding it is computed. Where a band of the stored values means nothing,
the film is rendered first: next to padding a filtered value is neither, a palette's indices have
no mean, and with few bits rounded means are too coarse.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.codecs import DECODER_ERRORS, checkable, ends_in_data
from hipedge.dicom.grayscale import (
    Grayscale,
    StoredValues,
    look_up,
    lookup_table,
    render,
)
from hipedge.dicom.header import Header
from hipedge.dicom.pixels import CodedFrame, Decoded, PixelFormat, decode_codestream
from hipedge.errors import Code, Refused
from hipedge.imaging.area import WholePixels, band_origin, halvings, lines_around, low_band
from hipedge.types import OVERVIEW_PX, Area, Box, Pixels

# With 8 bits probabilities differ by 0.007 at most, as with 10.
FEWEST_BITS = 8


def can_be_averaged(form: PixelFormat, grayscale: Grayscale) -> bool:
    """Say whether stored values may be filtered before they are rendered."""
    return (
        form.samples_per_pixel == 1
        and form.bits_stored >= FEWEST_BITS
        and grayscale.padding is None
        and grayscale.palette is None
    )


def can_be_decoded_in_part(coded: CodedFrame, header: Header) -> bool:
    """Say whether lower resolutions of a codestream are those that its stored values would give.

    Not where its samples hold more than the stored values (bits above the high bit, PS3.5 8.1.1,
    can only be removed from all samples), nor where the wavelet transform begins elsewhere than at
    the film's first pixel: then the same film in another encoding would give other values.
    """
    form, stream = coded.form, coded.stream
    return (
        coded.codec.decode_area is not None
        and stream.halvings >= max(1, _coarsest(form))
        and not stream.tiled
        and stream.origin == (0, 0)
        and stream.signed == form.signed
        and stream.bits == form.bits_stored
        and can_be_averaged(form, header.grayscale)
        and not header.overlay_in_pixels
    )


def from_values(decoded: Decoded, form: PixelFormat, grayscale: Grayscale) -> Pixels:
    """Return the pixels of a film that was decoded whole."""
    if not can_be_averaged(form, grayscale):
        return WholePixels(render(decoded.gray, form.bits_stored, grayscale), decoded.damaged)
    return StoredPixels(decoded, form, grayscale)


class _Bands(Protocol):
    """What gives a film's low-pass bands; see `hipedge.imaging.area.low_band`."""

    def band(self, count: int, rows: slice, columns: slice) -> StoredValues:
        """Return the band between rows and columns. Raises `Refused`."""


def _area(
    bands: _Bands, table: NDArray[np.uint16], form: PixelFormat, box: Box, step_px: float
) -> Area:
    """Return a film's pixels around `box`, at most half as coarse as `step_px`."""
    count = min(halvings(step_px / 2), _coarsest(form))
    rows, columns = lines_around(box, (form.rows, form.columns), 1 << count)
    # The filter overshoots the range of what is stored.
    band = np.clip(bands.band(count, rows, columns), *form.range)
    values: StoredValues = band.astype(np.int16 if form.signed else np.uint16, copy=False)
    return Area(look_up(table, values), band_origin(rows, columns, count), 1 << count)


def _coarsest(form: PixelFormat) -> int:
    """Return how often a film is halved for its overview, the coarsest area that is asked for."""
    return halvings(max(1.0, max(form.rows, form.columns) / OVERVIEW_PX / 2))


def _area_table(form: PixelFormat, grayscale: Grayscale) -> NDArray[np.uint16]:
    """Return the P-values for areas.

    Without window or VOI LUT they span all that can be stored: the film's own range is known only
    where all of it is decoded, and no stage depends on an area's brightness or contrast.
    """
    return lookup_table(form.bits_stored, lambda: form.range, grayscale, signed=form.signed)


class StoredPixels:
    """Pixels by all of the film's stored values (H, W), rendered area by area (`Pixels`)."""

    def __init__(self, decoded: Decoded, form: PixelFormat, grayscale: Grayscale) -> None:
        self.values = decoded.gray
        self.damaged = decoded.damaged
        self._form = form
        self._grayscale = grayscale
        self._table = _area_table(form, grayscale)

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), rendered."""
        return render(self.values, self._form.bits_stored, self._grayscale)

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, at most half as coarse as `step_px`."""
        return _area(self, self._table, self._form, box, step_px)

    def band(self, count: int, rows: slice, columns: slice) -> StoredValues:
        """Return the stored values' low-pass band."""
        return low_band(self.values, count, rows, columns)


class CodedPixels:
    """Pixels of a JPEG 2000 or HTJ2K film, decoded area by area (`Pixels`).

    The overview is decoded when the film is read, so that a film which cannot be decoded is
    refused then. For it the decoder parses all markers and packet headers, as for the whole film.
    `damaged` says whether the decoder noticed damage so far: it does not look at the content of
    code-blocks of finer levels or other areas than those that were asked for.
    """

    def __init__(self, coded: CodedFrame, grayscale: Grayscale) -> None:
        self._coded = coded
        self._data = checkable(coded.data, coded.stream)
        self._form = coded.form
        self._grayscale = grayscale
        self._table = _area_table(coded.form, grayscale)
        self._coarsest = _coarsest(coded.form)
        self._whole_bands: dict[int, StoredValues] = {}
        self.damaged = ends_in_data(coded.data, coded.stream)
        self._whole_band(self._coarsest)

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), decoded in full and rendered. Raises `Refused`."""
        decoded = decode_codestream(self._coded)
        self.damaged = self.damaged or decoded.damaged
        return render(decoded.gray, self._form.bits_stored, self._grayscale)

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, at most half as coarse as `step_px`.

        Raises `Refused`.
        """
        return _area(self, self._table, self._form, box, step_px)

    def band(self, count: int, rows: slice, columns: slice) -> StoredValues:
        """Return the low-pass band between rows and columns. Raises `Refused`."""
        # OpenJPEG, up to 2.5.4, leaves windows of HTJ2K empty: its bands are decoded whole.
        if count == self._coarsest or self._coded.stream.high_throughput:
            step = 1 << count
            lines = tuple(slice(-(-s.start // step), -(-s.stop // step)) for s in (rows, columns))
            return self._whole_band(count)[lines]
        return self._decode(count, rows, columns)

    def _whole_band(self, count: int) -> StoredValues:
        """Return a band of the whole film, decoded once."""
        if count not in self._whole_bands:
            form = self._form
            whole = slice(0, form.rows), slice(0, form.columns)
            self._whole_bands[count] = self._decode(count, *whole)
        return self._whole_bands[count]

    def _decode(self, count: int, rows: slice, columns: slice) -> StoredValues:
        decode_area = self._coded.codec.decode_area
        assert decode_area is not None
        try:
            decoded = decode_area(self._data, count, rows, columns)
        except DECODER_ERRORS as error:
            raise Refused(Code.DECODE_FAILED, type(error).__name__) from error
        step = 1 << count
        if decoded.samples.shape != tuple(
            -(-s.stop // step) - -(-s.start // step) for s in (rows, columns)
        ):
            raise Refused(Code.DECODE_FAILED, "shape")
        self.damaged = self.damaged or decoded.damaged
        values: StoredValues = decoded.samples
        return values
