"""A film's pixels as `read` gives them: decoded and rendered no further than they are asked for.

What is asked for is averaged, or decoded at a lower resolution, before it is rendered. Where that
would not be the same to the eye, the film is rendered first: mixed with padding a pixel is neither,
a palette's indices have no mean, and with few bits rounded means are too coarse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.codecs import DECODER_ERRORS
from hipedge.dicom.codestream import END_MARKER
from hipedge.dicom.grayscale import (
    Grayscale,
    StoredValues,
    extremes,
    look_up,
    lookup_table,
    render,
)
from hipedge.dicom.header import Header
from hipedge.dicom.pixels import CodedFrame, PixelFormat, decode_codestream
from hipedge.errors import Code, Refused
from hipedge.imaging.area import WholePixels, blocks_around, halvings, means_around
from hipedge.types import OVERVIEW_PX, Area, Box, Pixels

# With 8 bits probabilities differ by 0.007 at most, as with 10.
FEWEST_BITS = 8


def can_be_averaged(form: PixelFormat, grayscale: Grayscale) -> bool:
    """Say whether stored values may be averaged before they are rendered."""
    return (
        form.samples_per_pixel == 1
        and form.bits_stored >= FEWEST_BITS
        and grayscale.padding is None
        and grayscale.palette is None
    )


def can_be_decoded_in_part(coded: CodedFrame, header: Header) -> bool:
    """Say whether the codec can, and whether what it then gives can be rendered.

    It cannot where the samples are not the values: of another sign, or with other bits in them.
    """
    form = coded.form
    return (
        coded.codec.decode_area is not None
        and coded.stream.halvings > 0
        and coded.stream.signed == form.signed
        and can_be_averaged(form, header.grayscale)
        and form.shift == 0
        and not header.overlay_in_pixels
    )


def from_values(gray: StoredValues, form: PixelFormat, grayscale: Grayscale) -> Pixels:
    """Return a film's pixels by its stored gray values (H, W)."""
    if not can_be_averaged(form, grayscale):
        return WholePixels(render(gray, form.bits_stored, grayscale))
    table = lookup_table(
        form.bits_stored, lambda: extremes(gray, padding=None), grayscale, signed=form.signed
    )
    return StoredPixels(gray, table)


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Pixels by all of the film's stored values (H, W), rendered area by area (`Pixels`).

    `table` has the P-value of each value that can be stored.
    """

    values: StoredValues
    table: NDArray[np.uint16]

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), rendered."""
        return look_up(self.table, self.values)

    def area(self, box: Box, step_px: float) -> Area:
        """Return means of the film's pixels around `box`, no coarser than `step_px`."""
        return means_around(box, self.values, step_px, lambda means: look_up(self.table, means))


class CodedPixels:
    """Pixels of a JPEG 2000 or HTJ2K film, decoded area by area (`Pixels`).

    The overview is decoded at once, so that a film which cannot be is refused when it is read, and
    serves all that need no more than its resolution.

    Of the whole codestream a decoder then sees all markers and packet headers, as when it decodes
    all. What it does not see is the content of code-blocks of finer levels or other areas: that has
    no checksum, so that a full decoder too shows it as it is.
    """

    def __init__(self, coded: CodedFrame, grayscale: Grayscale) -> None:
        self._coded = _with_end_marker(coded)
        self._grayscale = grayscale
        form = coded.form
        # Without window or VOI LUT the range of all that can be stored: where a film's own range
        # lies within it is not known before all is decoded, and no stage depends on it.
        self._table = lookup_table(
            form.bits_stored, lambda: form.range, grayscale, signed=form.signed
        )
        self._whole_at: dict[int, Area] = {}
        self._coarsest = self._halvings(max(form.rows, form.columns) / OVERVIEW_PX)
        self._at(self._coarsest)

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W), decoded in full and rendered. Raises `Refused`."""
        _, gray = decode_codestream(self._coded)
        return render(gray, self._coded.form.bits_stored, self._grayscale)

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, no coarser than `step_px`. Raises `Refused`."""
        count = min(self._halvings(step_px), self._coarsest)
        # OpenJPEG, up to 2.5.4, leaves areas of HTJ2K empty: they are decoded whole.
        if count == self._coarsest or self._coded.stream.high_throughput:
            return self._at(count)
        form = self._coded.form
        return self._decoded(count, *blocks_around(box, (form.rows, form.columns), 1 << count))

    def _halvings(self, step_px: float) -> int:
        return min(halvings(step_px), self._coded.stream.halvings)

    def _at(self, count: int) -> Area:
        """Return the whole film, halved so often, decoded once."""
        if count not in self._whole_at:
            form = self._coded.form
            whole = slice(0, form.rows), slice(0, form.columns)
            self._whole_at[count] = self._decoded(count, *whole)
        return self._whole_at[count]

    def _decoded(self, count: int, rows: slice, columns: slice) -> Area:
        coded, step = self._coded, 1 << count
        x0, y0 = coded.stream.origin
        samples = _samples(coded, count, _moved(rows, y0), _moved(columns, x0))
        # A lossless stream too overshoots where it is filtered.
        np.clip(samples, *coded.form.range, out=samples)
        # Its pixels are not means of blocks, but the filtered image at every multiple of `step`:
        # their centres lie half a block less half a pixel before those of blocks.
        shift = (step - 1) / 2
        origin_px = (
            _next_multiple(columns.start + x0, step) - x0 - shift,
            _next_multiple(rows.start + y0, step) - y0 - shift,
        )
        return Area(look_up(self._table, samples), origin_px, step)


def _with_end_marker(coded: CodedFrame) -> CodedFrame:
    """Put the end marker where it is missing: OpenJPEG takes that for a frame that was cut off."""
    end = coded.stream.end
    if coded.data[end : end + len(END_MARKER)] == END_MARKER:
        return coded
    return replace(coded, data=coded.data[:end] + END_MARKER)


def _next_multiple(line: int, step: int) -> int:
    return -(-line // step) * step


def _moved(lines: slice, offset: int) -> slice:
    return slice(lines.start + offset, lines.stop + offset)


def _samples(coded: CodedFrame, count: int, rows: slice, columns: slice) -> StoredValues:
    decode_area = coded.codec.decode_area
    assert decode_area is not None
    try:
        samples = decode_area(coded.data, count, rows, columns)
    except DECODER_ERRORS as error:
        raise Refused(Code.DECODE_FAILED, type(error).__name__) from error
    if samples.shape != tuple(_multiples(count, lines) for lines in (rows, columns)):
        raise Refused(Code.DECODE_FAILED, "shape")
    return samples


def _multiples(count: int, lines: slice) -> int:
    """Return how many multiples of 2^count lie in `lines`."""
    return len(range(0, lines.stop, 1 << count)) - len(range(0, lines.start, 1 << count))
