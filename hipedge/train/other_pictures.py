"""Pictures that are no radiographs, whatever their headers say: negative samples of the locator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.dataset import is_dicom
from hipedge.dicom.gate import gate
from hipedge.dicom.grayscale import render
from hipedge.dicom.header import read_header
from hipedge.dicom.pixels import checked_format, decode
from hipedge.dicom.read import read
from hipedge.errors import Refused


def picture_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files among `paths`, and those in the folders among them, in a fixed order."""
    return [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    ]


def read_other_picture(path: Path) -> NDArray[np.uint16] | None:
    """Return the pixels (H, W) of a PNG, JPEG or TIFF picture or of a DICOM image of any kind.

    Returns None for what cannot be decoded, and for DICOM files that the gate lets pass: they may
    be radiographs of a hip.
    """
    try:
        data = path.read_bytes()
        if not is_dicom(data):
            return read(path).pixels
        header = read_header(data)
        try:
            gate(header)
        except Refused:
            return _pixels(data)
    except Refused:
        pass
    return None


def _pixels(data: bytes) -> NDArray[np.uint16] | None:
    header = read_header(data)
    if header.pixels is None:
        return None
    form = checked_format(header.image_pixel)
    decoded = decode(header.pixels, form, header.transfer_syntax_uid)
    return render(decoded.gray, form.bits_stored, header.grayscale)
