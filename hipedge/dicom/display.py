"""A film for a viewer: linear and unclipped, with the curve by which the header wants it shown.

`read` clips a film to the header's window. A viewer lets the window be moved, so it needs the
values that lie beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.dataset import is_dicom
from hipedge.dicom.grayscale import (
    WHITE,
    Grayscale,
    extremes,
    lookup_table,
    render,
    usable_window,
)
from hipedge.dicom.header import read_header
from hipedge.dicom.partial import open_pixels
from hipedge.dicom.pictures import decode_picture, is_picture
from hipedge.dicom.pixels import Decoded, PixelFormat
from hipedge.dicom.read import Payload, checked_pixels
from hipedge.errors import Code, Refused
from hipedge.imaging.area import WholePixels
from hipedge.types import Pixels

CURVE_POINTS = 1025


@dataclass(frozen=True, eq=False)
class DisplayFilm:
    """The pixels of a film (H, W), linear in its values, bone bright, over all that can be stored.

    `curve` is uint16 (`CURVE_POINTS`,): the P-value under the header's VOI LUT or window at
    equidistant values from 0 to 65535. None where the header has none that shows the film.
    """

    pixels: Pixels
    shape: tuple[int, int]
    curve: NDArray[np.uint16] | None


def read_for_display(payload: Payload) -> DisplayFilm:
    """Read a DICOM file or a picture for a viewer.

    What the gate refuses (a lateral view, another body part) is shown, since a person must look at
    it. Raises `Refused`.
    """
    if is_dicom(payload.data):
        return _read_dicom(payload.data)
    if is_picture(payload.data):
        picture = decode_picture(payload.data)
        pixels = WholePixels(render(picture.values, 16, Grayscale()), picture.damaged)
        return DisplayFilm(pixels, pixels.pixels.shape, None)
    raise Refused(Code.NOT_AN_IMAGE)


def _read_dicom(data: bytes) -> DisplayFilm:
    header = read_header(data)
    element, form = checked_pixels(header)
    linear = replace(header.grayscale, voi_lut=None, window=None)
    rendered, source = open_pixels(element, header, form, linear)
    values, ends = rendered.overview, form.range
    if values is None:
        assert isinstance(source, Decoded)  # all of it, as what can be decoded in part is averaged
        values, ends = source.gray, extremes(source.gray, linear.padding) or form.range
    shown = usable_window(header.grayscale, values, form.bits_stored)
    curve = None
    if shown.voi_lut is not None or (shown.window is not None and shown.window.usable):
        curve = _curve(form, ends, linear, shown, signed=values.dtype.kind == "i")
    return DisplayFilm(rendered.pixels, (form.rows, form.columns), curve)


def _curve(
    form: PixelFormat,
    ends: tuple[int, int],
    linear: Grayscale,
    shown: Grayscale,
    *,
    signed: bool,
) -> NDArray[np.uint16]:
    """Return what `shown` makes of the values that `linear` gives."""
    stored = lookup_table(form.bits_stored, lambda: ends, linear, signed=signed)
    wanted = lookup_table(form.bits_stored, lambda: ends, shown, signed=signed)
    values, first = np.unique(stored, return_index=True)
    points = np.linspace(0, WHITE, CURVE_POINTS)
    return np.rint(np.interp(points, values, wanted[first])).astype(np.uint16)
