"""What the first bytes of a compressed frame say of it: enough to refuse it before decoding.

Decoders allocate what the codestream asks for, whatever the DICOM header says.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hipedge.errors import Code, Refused

_SOI, _EOI, _SOS, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
# ITU-T T.81 table B.1 (C4, C8 and CC are no frames), and T.87 for JPEG-LS (F7).
_SOF = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


@dataclass(frozen=True)
class Codestream:
    """A frame's own account of itself; `colour` is "RGB", "YBR" or None where it is silent."""

    rows: int
    columns: int
    components: int
    bits: int
    colour: str | None = None
    complete: bool = True


def describe_jpeg(frame: bytes) -> Codestream:
    """Read the frame header of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2, T.87 C.2.2).

    Raises `Refused` (`decode_failed`) where there is none.
    """
    colour = None
    offset = 2
    if frame[:2] != b"\xff\xd8":
        raise Refused(Code.DECODE_FAILED, "no SOI marker")
    while offset + 4 <= len(frame):
        if frame[offset] != 0xFF:
            break
        marker = frame[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        (length,) = struct.unpack_from(">H", frame, offset + 2)
        segment = frame[offset + 4 : offset + 2 + length]
        if marker in _SOF:
            return _jpeg_frame(segment, colour, complete=frame.rfind(b"\xff\xd9", offset) > 0)
        if marker == _APP0 and segment[:5] == b"JFIF\0":
            colour = "YBR"
        if marker == _APP14 and segment[:5] == b"Adobe" and len(segment) >= 12:
            colour = "YBR" if segment[11] else "RGB"
        if marker == _SOS:
            break
        offset += 2 + length
    raise Refused(Code.DECODE_FAILED, "no frame header")


def _jpeg_frame(segment: bytes, colour: str | None, *, complete: bool) -> Codestream:
    if len(segment) < 6:
        raise Refused(Code.DECODE_FAILED, "no frame header")
    bits, rows, columns, components = struct.unpack_from(">BHHB", segment)
    if segment[6::3][:3] == b"RGB":  # component identifiers
        colour = "RGB"
    return Codestream(rows, columns, components, bits, colour, complete)


def describe_jpeg2000(frame: bytes) -> Codestream:
    """Read the SIZ and COD segments of a JPEG 2000 codestream (ITU-T T.800 A.5.1, A.6.1).

    A stream inside a JP2 file, which PS3.5 A.4.4 forbids and some write, is found too.
    Raises `Refused` (`decode_failed`) where there is none.
    """
    start = frame.find(b"\xff\x4f\xff\x51") if frame[:8] == _JP2_SIGNATURE else 0
    if start < 0 or frame[start : start + 4] != b"\xff\x4f\xff\x51" or len(frame) < start + 43:
        raise Refused(Code.DECODE_FAILED, "no SIZ marker")
    x1, y1, x0, y0 = struct.unpack_from(">4L", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    bits = (frame[start + 42] & 0x7F) + 1
    colour = "RGB" if _has_multiple_component_transform(frame, start + 4) else None
    return Codestream(y1 - y0, x1 - x0, components, bits, colour)


def _has_multiple_component_transform(frame: bytes, offset: int) -> bool:
    """Walk the main header from SIZ to COD, whose decoder turns Y, Cb, Cr back to R, G, B."""
    while offset + 4 <= len(frame):
        (length,) = struct.unpack_from(">H", frame, offset)
        offset += length
        marker = frame[offset : offset + 2]
        if marker == b"\xff\x52":
            return frame[offset + 8 : offset + 9] == b"\x01"
        if marker[:1] != b"\xff" or marker == b"\xff\x90" or length < 2:
            return False
        offset += 2
    return False
