"""Decode JPEG frames (ITU-T T.81), and check where their entropy-coded data end.

A damaged Huffman code shifts everything decoded after it, so that the data decode to more or fewer
samples than the image has. libjpeg detects this, but imagecodecs does not pass on its warnings.
Therefore a frame is decoded with a few rows added to its height: after the end of the data, libjpeg
decodes zero bits to the end of one row or block and fills the rest with mid-gray. If that begins
exactly at the first added row, the data have the length of the image. If it begins earlier, more
data are added: they change the image only if it is incomplete, and not if it ends in mid-gray.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.jpeg_segments import Scan, find_scan, is_incomplete, tables_wrong, with_more_data
from hipedge.dicom.seams import has_seam
from hipedge.dicom.stairs import has_stair
from hipedge.errors import Code, Refused

Samples = NDArray[np.integer[Any]]

_BLOCK = 8  # samples along a side of a DCT block
_MAX_LINES = 65_500  # JPEG_MAX_DIMENSION of libjpeg
# The up to seven padding bits before the end marker decode to fewer samples than this.
_PADDED = 2
_MORE_DATA = bytes(range(255)) * 8  # 0 first: after 0xFF, another byte would be a marker


def extended(frame: bytes, scan: Scan) -> bytes | None:
    """Return the frame with the added rows that the check of its end needs; None if impossible."""
    lines = _extended_rows(scan)
    if lines > _MAX_LINES:
        return None
    at, view = scan.height_at, memoryview(frame)  # a frame has megabytes: they are copied once
    return b"".join((view[:at], struct.pack(">H", lines), view[at + 2 :]))


def _extended_rows(scan: Scan) -> int:
    whole_mcus = -(-scan.rows // scan.mcu_rows)
    return (whole_mcus + (2 if scan.lossless else 1)) * scan.mcu_rows


def decode(frame: bytes, components: int) -> tuple[Samples, bool]:
    """Return the samples (H, W) or (H, W, 3), and whether the frame is damaged.

    Raises `Refused` (`truncated`) if rows are missing, and imagecodecs' errors.
    """
    # With equal input and output colour spaces the components are returned as stored.
    space = "RGB" if components == 3 else None
    return _decode(frame, space, space)


def decode_luminance(frame: bytes) -> tuple[Samples, bool]:
    """Return the luminance (H, W) of a grayscale or YCbCr JPEG, and whether it is damaged.

    Raises the same errors as `decode`.
    """
    return _decode(frame, None, "GRAYSCALE")


def _decode(frame: bytes, space: str | None, out_space: str | None) -> tuple[Samples, bool]:
    scan = find_scan(frame)
    longer = extended(frame, scan) if scan else None
    samples = _samples(longer or frame, space, out_space)
    if scan is None or longer is None:
        return samples, False
    first = samples if samples.ndim == 2 else samples[..., 0]
    image = samples[: scan.rows]

    def is_complete() -> bool:
        more = _samples(with_more_data(longer, _MORE_DATA), space, out_space)
        return np.array_equal(more[: scan.rows], image)

    damaged = (
        _ends_wrong(first, scan, is_complete)
        or tables_wrong(frame)
        or (_exceeds(image, scan.bits) if scan.lossless else _is_torn(first[: scan.rows], scan))
        or (_restarts_wrong(frame, scan) if scan.only else is_incomplete(frame))
    )
    # The end of the first of several scans says nothing about that of the last one.
    return image, damaged or not (scan.only or is_complete())


def _samples(frame: bytes, space: str | None, out_space: str | None) -> Samples:
    samples: Samples = imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=out_space)
    return samples


def _exceeds(image: Samples, bits: int) -> bool:
    """Return whether samples exceed their range, as the sum of damaged differences can."""
    return int(image.max()) >> bits > 0


def _is_torn(image: Samples, scan: Scan) -> bool:
    """Return whether damage shows in DCT samples, which are clamped to their range."""
    block = scan.mcu_rows, scan.mcu_columns
    return has_seam(image, scan.bits) or has_stair(image, scan.bits, block)


def _ends_wrong(samples: Samples, scan: Scan, is_complete: Callable[[], bool]) -> bool:
    """Return whether the data end before or after the end of the image.

    `samples` (H, W) are the first component of the `extended` frame. Raises `Refused` (`truncated`)
    if rows are missing.
    """
    if scan.lossless:
        return _lossless_ends_wrong(samples, scan, is_complete)
    return _dct_ends_wrong(samples, scan, is_complete)


def _lossless_ends_wrong(samples: Samples, scan: Scan, is_complete: Callable[[], bool]) -> bool:
    added = len(samples) - scan.rows
    filled = _filled_rows(samples, 1 << (scan.bits - 1))
    if filled >= added and is_complete():
        return False
    if filled > added:
        raise Refused(Code.TRUNCATED, f"{filled - added} rows missing")
    if filled != 1:
        # If all added rows are filled, the last row was not decoded to its end; if none is, there
        # were more data to decode.
        return True
    row, above = (samples[n].astype(np.int64) for n in (scan.rows, scan.rows - 1))
    residuals = (row[1:] - _predicted(row, above, scan.predictor)) & 0xFFFF
    decoded = np.flatnonzero(residuals != residuals[-1]) if residuals.size else residuals
    return bool(decoded.size) and int(decoded[-1]) >= _PADDED


def _filled_rows(samples: Samples, fill: int) -> int:
    """Count the rows at the end in which every sample is `fill`."""
    for count, row in enumerate(samples[::-1]):
        if (row != fill).any():
            return count
    return len(samples)


def _predicted(row: NDArray[Any], above: NDArray[Any], predictor: int) -> NDArray[Any]:
    """Predict a row's samples after the first (T.81 table H.1)."""
    a, b, c = row[:-1], above[1:], above[:-1]
    predictions = {
        1: a,
        2: b,
        3: c,
        4: a + b - c,
        5: a + ((b - c) >> 1),
        6: b + ((a - c) >> 1),
        7: (a + b) >> 1,
    }
    predicted: NDArray[Any] = predictions.get(predictor, np.zeros_like(a))
    return predicted


def _dct_ends_wrong(samples: Samples, scan: Scan, is_complete: Callable[[], bool]) -> bool:
    fill = 1 << (scan.bits - 1)
    added = _filled_mcus(samples, scan, len(samples) // scan.mcu_rows - 1, fill)
    if not added[0]:  # the MCU in which the data ended
        return not added[1:].all()
    if is_complete():
        return False
    last = len(samples) // scan.mcu_rows - 2
    if _filled_mcus(samples, scan, last, fill).all():
        raise Refused(Code.TRUNCATED, "rows missing")
    return True


def _filled_mcus(samples: Samples, scan: Scan, mcu_row: int, fill: int) -> NDArray[np.bool_]:
    """Return for each MCU of a row whether all its samples are `fill`."""
    rows = samples[mcu_row * scan.mcu_rows : (mcu_row + 1) * scan.mcu_rows]
    columns = (rows == fill).all(axis=0)
    starts = range(0, len(columns), scan.mcu_columns)
    return np.array([columns[n : n + scan.mcu_columns].all() for n in starts])


def _restarts_wrong(frame: bytes, scan: Scan) -> bool:
    """Return whether restart markers (T.81 B.2.1) are missing, too many or out of order."""
    if not scan.restarts:
        return False
    data = np.frombuffer(frame[scan.data_at : scan.data_end], np.uint8)
    after = data[1:][data[:-1] == 0xFF]
    found = after[(after >= 0xD0) & (after <= 0xD7)] - 0xD0
    mcus = -(-scan.rows // scan.mcu_rows) * -(-scan.columns // scan.mcu_columns)
    expected = np.arange(-(-mcus // scan.restarts) - 1) % 8
    return not np.array_equal(found, expected)
