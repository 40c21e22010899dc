"""Decode JPEG frames (ITU-T T.81), and check where their entropy-coded data end.

A damaged Huffman code shifts everything decoded after it, so that the data decode to more or fewer
samples than the image has. libjpeg detects this, but imagecodecs does not pass on its warnings.
Therefore a frame is decoded with a few rows added to its height: after the end of the data, libjpeg
decodes zero bits to the end of one row or block and fills the rest with mid-gray. If that begins
exactly at the first added row, the data have the length of the image.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.seams import has_seam
from hipedge.errors import Code, Refused

Samples = NDArray[np.integer[Any]]

_SOS, _DRI, _EOI = 0xDA, 0xDD, 0xD9
_SOF_LOSSLESS = 0xC3
_SOF_SEQUENTIAL = frozenset({0xC0, 0xC1})
_BLOCK = 8  # samples along a side of a DCT block
_MAX_LINES = 65_500  # JPEG_MAX_DIMENSION of libjpeg
# The up to seven padding bits before the end marker decode to fewer samples than this.
_PADDED = 2
# Rows that are truly mid-gray look like missing rows, but their data repeat a single code, so that
# the last `_LAST_BYTES` bytes have few distinct values.
_LAST_BYTES = 24
_FEW = 8


@dataclass(frozen=True)
class Scan:
    """The frame and the only scan of a JPEG whose end can be checked.

    `height_at` is the offset of the number of lines in the frame header; `mcu_rows` and
    `mcu_columns` are the size of an MCU in samples of the first component; `restarts` is the
    restart interval in MCUs, or 0 if there is none.
    """

    height_at: int
    rows: int
    columns: int
    bits: int
    lossless: bool
    mcu_rows: int
    mcu_columns: int
    predictor: int
    restarts: int
    data_at: int


def find_scan(frame: bytes) -> Scan | None:
    """Return the only scan of a JPEG.

    Returns None if there are several scans, if the JPEG is progressive, or if its headers are
    damaged.
    """
    offset, restarts, header = 2, 0, None
    while offset + 4 <= len(frame) and frame[offset] == 0xFF:
        marker = frame[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        (length,) = struct.unpack_from(">H", frame, offset + 2)
        if marker == _DRI and length == 4 and offset + 6 <= len(frame):
            (restarts,) = struct.unpack_from(">H", frame, offset + 4)
        if marker in _SOF_SEQUENTIAL or marker == _SOF_LOSSLESS:
            header = offset
        if marker == _SOS:
            try:
                return _scan(frame, header, offset, restarts) if header else None
            except (IndexError, struct.error):
                return None  # a damaged length points beyond the frame
        offset += 2 + length
    return None


def _scan(frame: bytes, header: int, sos: int, restarts: int) -> Scan | None:
    bits, rows, columns, components = struct.unpack_from(">BHHB", frame, header + 4)
    (length,) = struct.unpack_from(">H", frame, sos + 2)
    data_at = sos + 2 + length
    if frame[sos + 4] != components:
        return None  # the other components are in separate scans
    lossless = frame[header + 1] == _SOF_LOSSLESS
    factors = [frame[header + 11 + 3 * n] for n in range(components)]
    # In a scan of one component an MCU is one block, whatever the sampling factors (A.2.2).
    wide = max(f >> 4 for f in factors) if components > 1 else 1
    high = max(f & 15 for f in factors) if components > 1 else 1
    if factors[0] != (wide << 4 | high) and components > 1:
        return None  # the first component is subsampled
    side = 1 if lossless else _BLOCK
    predictor = frame[data_at - 3]
    return Scan(
        header + 5, rows, columns, bits, lossless, high * side, wide * side,
        predictor, restarts, data_at,
    )  # fmt: skip


def extended(frame: bytes, scan: Scan) -> bytes | None:
    """Return the frame with the added rows that the check of its end needs; None if impossible."""
    lines = _extended_rows(scan)
    if lines > _MAX_LINES:
        return None
    at = scan.height_at
    return b"".join((frame[:at], struct.pack(">H", lines), frame[at + 2 :]))


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
    samples: Samples = imagecodecs.jpeg8_decode(
        longer or frame, colorspace=space, outcolorspace=out_space
    )
    if scan is None or longer is None:
        return samples, False
    first = samples if samples.ndim == 2 else samples[..., 0]
    image = first[: scan.rows]
    damaged = (
        _ends_wrong(frame, first, scan)
        or _restarts_wrong(frame, scan)
        # The sum of damaged differences can exceed the range of the samples; DCT samples are
        # clamped to it.
        or (int(image.max()) >> scan.bits > 0 if scan.lossless else has_seam(image, scan.bits))
    )
    return samples[: scan.rows], damaged


def _ends_wrong(frame: bytes, samples: Samples, scan: Scan) -> bool:
    """Return whether the data end before or after the end of the image.

    `samples` (H, W) are the first component of the `extended` frame. Raises `Refused` (`truncated`)
    if rows are missing.
    """
    end = frame.find(b"\xff\xd9", scan.data_at)
    is_flat = len(set(frame[scan.data_at : end][-_LAST_BYTES:])) <= _FEW
    if scan.lossless:
        return _lossless_ends_wrong(samples, scan, is_flat=is_flat)
    return _dct_ends_wrong(samples, scan, is_flat=is_flat)


def _lossless_ends_wrong(samples: Samples, scan: Scan, *, is_flat: bool) -> bool:
    fill = 1 << (scan.bits - 1)
    added = len(samples) - scan.rows
    filled = _filled_rows(samples, fill)
    if filled >= added and is_flat:
        return False
    if filled > added:
        raise Refused(Code.TRUNCATED, f"{filled - added} rows missing")
    if filled != 1:
        # If all added rows are filled, the last row was not decoded to its end; if none is, there
        # were more data to decode. A film that ends in the fill value looks like the former.
        return filled == 0 or samples[scan.rows - 1, 0] != fill
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


def _dct_ends_wrong(samples: Samples, scan: Scan, *, is_flat: bool) -> bool:
    fill = 1 << (scan.bits - 1)
    whole_rows = len(samples) // scan.mcu_rows
    ends = range(whole_rows - 2, whole_rows)
    filled = [_filled_mcus(samples, scan, row, fill) for row in ends]
    last, added = filled if len(filled) == 2 else (np.zeros(1, np.bool_), *filled)
    if not added[0]:  # the MCU in which the data ended
        return not added[1:].all()
    if is_flat:
        return False
    if last.all():
        raise Refused(Code.TRUNCATED, "rows missing")
    if not added.all() or last[-1]:
        return True
    block = samples[-2 * scan.mcu_rows : -scan.mcu_rows, -_BLOCK:]
    # In a film that ends in mid-gray, the data appear to end one MCU too early.
    return abs(float(block.mean()) - fill) > 1


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
    end = frame.find(b"\xff\xd9", scan.data_at)
    data = np.frombuffer(frame[scan.data_at : end], np.uint8)
    after = data[1:][data[:-1] == 0xFF]
    found = after[(after >= 0xD0) & (after <= 0xD7)] - 0xD0
    mcus = -(-scan.rows // scan.mcu_rows) * -(-scan.columns // scan.mcu_columns)
    expected = np.arange(-(-mcus // scan.restarts) - 1) % 8
    return not np.array_equal(found, expected)
