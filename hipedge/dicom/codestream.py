"""Parse the headers of compressed frames, so that a frame can be refused before it is decoded.

Decoders allocate what the codestream asks for, whatever the DICOM header says.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from enum import Enum

from hipedge.errors import Code, Refused

_SOS, _APP0, _APP14 = 0xDA, 0xE0, 0xEE
# ITU-T T.81 table B.1 (C4, C8 and CC are no frames), and T.87 for JPEG-LS (F7).
_SOF = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
END_MARKER = b"\xff\xd9"
_SOC_SIZ, _SOT, _SOD = b"\xff\x4f\xff\x51", b"\xff\x90", b"\xff\x93"
_COD, _COC = b"\xff\x52", b"\xff\x53"
_HIGH_THROUGHPUT = 0x40  # of the code-blocks' style, T.814 A.4
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


@dataclass(frozen=True)
class Codestream:
    """What a frame says about itself; `colour` is "RGB", "YBR" or None where it says nothing.

    Of JPEG 2000, `halvings` is how often the image may be halved by leaving data out, 0 where it
    may not be; `origin` is where its first pixel (x, y) lies on the grid that is halved; `tiled`
    says that it has several tiles, `wrapped` that it lies in a JP2 file, `high_throughput` that it
    is HTJ2K, by its code-blocks and not by its name. `end` is where its last tile-part ends, with
    the end marker or without; `style_at` is where the code-blocks' style stands, 0 where nowhere.
    """

    rows: int
    columns: int
    components: int
    bits: int
    signed: bool = False
    colour: str | None = None
    complete: bool = True
    halvings: int = 0
    origin: tuple[int, int] = (0, 0)
    tiled: bool = False
    wrapped: bool = False
    high_throughput: bool = False
    end: int = 0
    style_at: int = 0


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
    return Codestream(rows, columns, components, bits, colour=colour, complete=complete)


def describe_jpeg2000(frame: bytes) -> Codestream:
    """Read the main header and the tile-parts' of a JPEG 2000 codestream (ITU-T T.800 A.4 to A.6).

    A stream inside a JP2 file, which PS3.5 A.4.4 forbids and some write, is found too.
    Raises `Refused` (`decode_failed`) where there is none.
    """
    wrapped = frame[:8] == _JP2_SIGNATURE
    start = frame.find(_SOC_SIZ) if wrapped else 0
    if start < 0 or frame[start : start + 4] != _SOC_SIZ or len(frame) < start + 43:
        raise Refused(Code.DECODE_FAILED, "no SIZ marker")
    x1, y1, x0, y0 = struct.unpack_from(">4L", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    depth = frame[start + 42]
    header = _main_header(frame, start + 4, components)
    tiles = _tiles(frame, start)
    parts, end = _tile_parts(frame, header.end, tiles)
    return Codestream(
        rows=y1 - y0,
        columns=x1 - x0,
        components=components,
        bits=(depth & 0x7F) + 1,
        signed=depth > 0x7F,
        colour="RGB" if header.component_transform else None,
        complete=parts is not _Parts.MISSING,
        # A JP2 file may change its codestream's values. If a codestream does not give its length,
        # missing data are noticed only when all of it is decoded.
        halvings=header.levels if parts is _Parts.ALL and not wrapped else 0,
        origin=(x0, y0),
        tiled=tiles > 1,
        wrapped=wrapped,
        high_throughput=header.high_throughput,
        end=end,
        style_at=header.style_at,
    )


@dataclass(frozen=True)
class _MainHeader:
    end: int
    component_transform: bool = False
    levels: int = 0
    high_throughput: bool = False
    style_at: int = 0


def _main_header(frame: bytes, offset: int, components: int) -> _MainHeader:
    """Walk the main header from SIZ's length to the first tile-part: COD and COC (A.6.1, A.6.2)."""
    component_transform, levels, styles, style_at = False, b"", b"", 0
    while offset + 4 <= len(frame):
        (length,) = struct.unpack_from(">H", frame, offset)
        offset += length
        marker = frame[offset : offset + 2]
        if marker[:1] != b"\xff" or length < 2:
            break
        if marker == _SOT:
            high_throughput = any(style & _HIGH_THROUGHPUT for style in styles)
            return _MainHeader(
                offset, component_transform, min(levels, default=0), high_throughput, style_at
            )
        if marker in (_COD, _COC):
            if marker == _COD:
                component_transform = frame[offset + 8 : offset + 9] == b"\x01"
                style_at = offset + 12
            at = offset + (9 if marker == _COD else 6 if components < 257 else 7)
            levels += frame[at : at + 1]
            styles += frame[at + 3 : at + 4]
        offset += 2
    return _MainHeader(len(frame), component_transform)


def _tiles(frame: bytes, start: int) -> int:
    """Return how many tiles the grid has (T.800 B.3)."""
    x1, y1, _, _, width, height, x0, y0 = struct.unpack_from(">8L", frame, start + 8)
    if not width or not height:
        raise Refused(Code.DECODE_FAILED, "tiles without a size")
    return int(-(-(x1 - x0) // width) * -(-(y1 - y0) // height))


class _Parts(Enum):
    """Whether all tile-parts are there."""

    ALL = "all"
    MISSING = "missing"
    UNKNOWN = "unknown"


def _tile_parts(frame: bytes, offset: int, tiles: int) -> tuple[_Parts, int]:
    """Walk the tile-parts by their lengths (T.800 A.4.2); return where the last one ends, too.

    A tile may have other levels than the main header says: then the result is `UNKNOWN`.
    """
    seen, promised = Counter[int](), dict[int, int]()
    plain = True
    while frame[offset : offset + 2] == _SOT and offset + 12 <= len(frame):
        tile, length, _, parts = struct.unpack_from(">HLBB", frame, offset + 4)
        plain = plain and _is_plain(frame, offset + 12)
        if length == 0:  # to the end marker
            return _Parts.UNKNOWN, len(frame)
        seen[tile] += 1
        promised[tile] = max(parts, promised.get(tile, 0))
        offset += max(length, 12)
    if offset > len(frame) or len(seen) < tiles or any(seen[t] < n for t, n in promised.items()):
        return _Parts.MISSING, offset
    ended = all(promised.values()) or frame[offset : offset + 2] == END_MARKER
    return _Parts.ALL if plain and ended else _Parts.UNKNOWN, offset


def _is_plain(frame: bytes, offset: int) -> bool:
    """Return whether a tile-part's header has neither COD nor COC."""
    while offset + 4 <= len(frame):
        marker = frame[offset : offset + 2]
        if marker in (_SOD, _COD, _COC):
            return marker == _SOD
        offset += 2 + int.from_bytes(frame[offset + 2 : offset + 4], "big")
    return False
