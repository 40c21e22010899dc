"""Detect incomplete files, for example files that are still being written."""

from __future__ import annotations

import mmap
import struct
import zlib
from pathlib import Path

from hipedge.dicom.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    PREFIX,
    PREFIX_OFFSET,
    has_prefix,
    is_dicom,
)

_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_TRANSFER_SYNTAX_UID = (0x0002, 0x0010)
# No data element of a file has this tag (PS3.10 7.1): nothing has been written at this offset yet.
_NOTHING = (0x0000, 0x0000)

# This many zero bytes at the end of a file may be preallocated space. Black borders of films are
# usually narrower: this is 18 rows of 1760 pixels.
_PREALLOCATED_BYTES = 64 * 1024


def is_whole(path: Path) -> bool:
    """Return whether a file is complete, as far as its format allows to determine.

    A DICOM file is complete if its data elements reach the end of Pixel Data; a file without Pixel
    Data may be truncated before it. Files that are not DICOM, PNG or JPEG, and malformed files,
    count as complete: the reader decides about them. An empty file is never complete. Raises
    `OSError`.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] == b"\x89PNG":
                return data.find(b"IEND", max(0, size - 64)) >= 0
            if data[:3] == b"\xff\xd8\xff":
                return data.rfind(b"\xff\xd9") >= 0
            beginning = data[:4096]
            if not is_dicom(beginning):
                return size >= PREFIX_OFFSET + len(PREFIX)  # or too short to determine the format
            return _is_whole_dicom(data, PREFIX_OFFSET + 4 if has_prefix(beginning) else 0)


def ends_in_zeros(path: Path) -> bool:
    """Return whether a file may be preallocated and not yet written to its end.

    Copying to SMB, and `rsync --preallocate`, set a file's size before writing its content; for
    uncompressed films there is no other sign that they are incomplete. A film whose last rows are
    black looks the same, so this is a reason to wait, not to refuse. Raises `OSError`.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _PREALLOCATED_BYTES:
            return False
        file.seek(size - _PREALLOCATED_BYTES)
        return not any(file.read(_PREALLOCATED_BYTES))


def _is_whole_dicom(data: mmap.mmap, start: int) -> bool:
    syntax, offset = _file_meta(data, start)
    if offset is None:
        return False
    if syntax == DEFLATED_LITTLE:
        return _is_whole_deflate(data, offset)
    if syntax is None and not data[offset + 4 : offset + 6].isalpha():
        syntax = IMPLICIT_LITTLE
    return _ends(data, offset, syntax)


def _file_meta(data: mmap.mmap, offset: int) -> tuple[str | None, int | None]:
    """Return the transfer syntax and the offset of the dataset, None if the file ends before it."""
    syntax = None
    while True:
        head = _header(data, offset, explicit=True, order="<")
        if head is None:
            return syntax, None
        tag, length, value = head
        if tag[0] != 0x0002 or length is None:
            return syntax, offset
        if value + length > len(data):
            return syntax, None
        if tag == _TRANSFER_SYNTAX_UID:
            syntax = data[value : value + length].rstrip(b" \0").decode("ascii", "replace")
        offset = value + length


def _is_whole_deflate(data: mmap.mmap, offset: int) -> bool:
    """Inflate the dataset, discarding the output, to find its end marker (RFC 1951 3.2.3)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    chunk = memoryview(data)[offset:]
    try:
        pending = inflater.decompress(chunk, 1 << 20) and inflater.unconsumed_tail
        while pending and not inflater.eof:
            inflater.decompress(pending, 1 << 20)
            pending = inflater.unconsumed_tail
    except zlib.error:
        return True  # damaged, which the reader reports
    finally:
        chunk.release()
    return inflater.eof


def _ends(data: mmap.mmap, offset: int, syntax: str | None) -> bool:
    """Return whether the data elements (PS3.5 7.1) reach the end of Pixel Data.

    Sequences of undefined length are traversed: their delimiters are elements too (PS3.5 7.5).
    """
    explicit, order = syntax != IMPLICIT_LITTLE, ">" if syntax == EXPLICIT_BIG else "<"
    depth = 0
    while offset < len(data):
        head = _header(data, offset, explicit=explicit, order=order)
        if head is None:
            return False
        tag, length, value = head
        if tag == _NOTHING:
            return False
        if length is None:
            return True  # malformed
        is_pixels = tag == _PIXEL_DATA and depth == 0
        if length == _UNDEFINED_LENGTH:
            if is_pixels:
                return _ends_encapsulated(data, value)
            depth += 1
            offset = value
            continue
        if tag in (_ITEM_END, _SEQUENCE_END):
            depth -= 1
        offset = value + length
        if is_pixels:
            return offset <= len(data)
    return False


def _ends_encapsulated(data: mmap.mmap, offset: int) -> bool:
    """Return whether the fragments (PS3.5 A.4) are complete.

    They are if they end with their delimiter, or the last one with its end marker.
    """
    while offset + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHL", data, offset)
        if (group, element) == _SEQUENCE_END:
            return True
        if (group, element) == _NOTHING:
            return _has_end_marker(data, offset)
        if (group, element) != _ITEM:
            return True  # malformed
        offset += 8 + length
    return offset == len(data) and _has_end_marker(data, offset)


def _has_end_marker(data: mmap.mmap, offset: int) -> bool:
    """Return whether a JPEG or JPEG 2000 codestream ends here, apart from padding."""
    return data[offset - 3 : offset].rstrip(b"\0").endswith(b"\xff\xd9")


def _header(
    data: mmap.mmap, offset: int, *, explicit: bool, order: str
) -> tuple[tuple[int, int], int | None, int] | None:
    """Return a data element's tag, its length (None if malformed) and the offset of its value.

    Returns None if the file ends within the header of the element.
    """
    if offset + 8 > len(data):
        return None
    group, element = struct.unpack_from(order + "HH", data, offset)
    vr = data[offset + 4 : offset + 6]
    if not explicit or group == 0xFFFE:
        return (group, element), struct.unpack_from(order + "L", data, offset + 4)[0], offset + 8
    if vr in _SHORT_VRS:
        return (group, element), struct.unpack_from(order + "H", data, offset + 6)[0], offset + 8
    if vr not in _LONG_VRS:
        return (group, element), None, offset + 8
    if offset + 12 > len(data):
        return None
    return (group, element), struct.unpack_from(order + "L", data, offset + 8)[0], offset + 12
