"""Parse DICOM files with pydicom, and convert elements to plain values.

Whatever pydicom does on a malformed file (warn, log, raise any of a dozen types) is handled here:
the rest of the package sees a value, None, or `Refused`.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from hipedge.errors import Code, Refused

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

PREFIX_OFFSET = 128
PREFIX = b"DICM"
# The largest film that `pixels` accepts, with 16 bits; 3 MB of deflate can expand to 3 GB of zeros.
MAX_INFLATED_BYTES = 256 * 2**20
# Ten times what any radiograph has; in a file of zeros every eight bytes are an element.
MAX_ELEMENTS = 10_000

# What pydicom raises on malformed files, found by fuzzing. Its own errors derive directly from
# `Exception`; RecursionError and UnicodeError are subclasses of those listed.
MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_PIXEL_TAGS = frozenset(
    tag_for_keyword(keyword) for keyword in ("FloatPixelData", "DoubleFloatPixelData", "PixelData")
)
_PIXEL_DATA = tag_for_keyword("PixelData")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_VRS = (b"OB", b"OW", b"UN", b"OD", b"OF", b"OL", b"OV", b"UC", b"UR", b"UT", b"SQ")
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, eq=False)
class PixelElement:
    """Pixel Data (7FE0,0010): its raw value, shorter than announced if the file is truncated."""

    value: memoryview
    encapsulated: bool
    swapped_words: bool


@dataclass(frozen=True, eq=False)
class Parsed:
    """A file's elements up to Pixel Data, and Pixel Data itself."""

    elements: Dataset
    file_meta: Dataset
    transfer_syntax_uid: str | None
    little_endian: bool
    pixels: PixelElement | None


@contextmanager
def quarantine_pydicom() -> Iterator[None]:
    """Silence pydicom, and raise its errors as `Refused` (`malformed_header`).

    Its warnings and log messages quote the file, so patient data would reach the logs. Validation
    is off. Warning filters and loggers are global to the process: do not use this in threads.
    """
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        except MALFORMED as error:
            raise Refused(Code.MALFORMED_HEADER, type(error).__name__) from error
        finally:
            logger.disabled = was_disabled


def is_dicom(data: bytes) -> bool:
    """Return whether `data` is a DICOM file, or a dataset without preamble and prefix (PS3.10 7.1).

    Such a dataset is recognised by its first element: of group 0002 or 0008, with a known VR or
    (implicit) a length that fits the file.
    """
    return has_prefix(data) or _starts_like_a_dataset(data)


def has_prefix(data: bytes) -> bool:
    """Return whether the prefix DICM follows a preamble of 128 bytes (PS3.10 7.1)."""
    return data[PREFIX_OFFSET : PREFIX_OFFSET + len(PREFIX)] == PREFIX


def _starts_like_a_dataset(data: bytes) -> bool:
    if len(data) < 8:
        return False
    group, element = struct.unpack_from("<HH", data)
    (implicit_length,) = struct.unpack_from("<L", data, 4)
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    if group in (0x0002, 0x0008):
        return element < 0x0100 and (explicit or implicit_length <= len(data) - 8)
    return explicit and group == 0x0800  # big endian


def parse(data: bytes, keywords: Iterable[str], tags: Iterable[int] = ()) -> Parsed:
    """Read the elements named by `keywords` or `tags`, up to Pixel Data, which is not copied.

    Call it within `quarantine_pydicom`.
    """
    stream = BytesIO(data)
    stream.seek(PREFIX_OFFSET + len(PREFIX) if has_prefix(data) else 0)
    # PS3.10 7.1: the File Meta Information is always in Explicit VR Little Endian.
    meta = read_dataset(stream, False, True, stop_when=_StopAt(_is_after_file_meta))
    syntax = uid(meta, "TransferSyntaxUID")
    if syntax == DEFLATED_LITTLE:
        data = _inflate(memoryview(data)[stream.tell() :])
        stream = BytesIO(data)
    implicit, little = _encoding(syntax, data[stream.tell() : stream.tell() + 6])
    wanted: list[BaseTag | int] = [_tag(keyword) for keyword in (*keywords, *tags)]
    elements = read_dataset(
        stream, implicit, little, stop_when=_StopAt(_is_pixel_data), specific_tags=wanted
    )
    pixels = _pixel_element(data, stream.tell(), elements.original_encoding[0], little)
    if syntax is None:
        syntax = _native_syntax(bool(elements.original_encoding[0]), little)
    return Parsed(elements, meta, syntax, little, pixels)


class _StopAt:
    """Stop pydicom at a tag, and refuse a dataset with too many elements."""

    def __init__(self, is_end: Callable[[BaseTag], bool]) -> None:
        self.is_end = is_end
        self.elements = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise Refused(Code.MALFORMED_HEADER, f"more than {MAX_ELEMENTS} elements")
        return self.is_end(tag)


def _is_after_file_meta(tag: BaseTag) -> bool:
    return tag.group != 2


def _is_pixel_data(tag: BaseTag) -> bool:
    return tag in _PIXEL_TAGS


def _encoding(transfer_syntax_uid: str | None, start: bytes) -> tuple[bool, bool]:
    """Return (implicit VR, little endian); `start` is the first six bytes of the dataset.

    PS3.5 A.1 to A.5: every syntax but these two is Explicit VR Little Endian. Where none is
    named, a first element with a VR is explicit, and one of group 0008 read as 0800 big endian.
    """
    if transfer_syntax_uid is None:
        explicit = start[4:6].isalpha() and start[4:6].isupper()
        return not explicit, not (explicit and start[:2] == b"\x00\x08")
    return transfer_syntax_uid == IMPLICIT_LITTLE, transfer_syntax_uid != EXPLICIT_BIG


def _native_syntax(implicit: bool, little_endian: bool) -> str:
    if implicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_LITTLE if little_endian else EXPLICIT_BIG


def _inflate(deflated: memoryview) -> bytes:
    """Inflate a dataset (PS3.5 A.5), which has no zlib header, up to a bound."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated, MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise Refused(Code.TOO_LARGE, f"inflates to more than {MAX_INFLATED_BYTES} bytes")
    return inflated


def _pixel_element(
    data: bytes, offset: int, implicit: bool | None, little_endian: bool
) -> PixelElement | None:
    """Return Pixel Data where it starts at `offset`, or None (PS3.5 7.1)."""
    order = "<" if little_endian else ">"
    header = data[offset : offset + 12]
    if len(header) < (8 if implicit else 12):
        return None
    group, element = struct.unpack_from(order + "HH", header)
    if group << 16 | element != _PIXEL_DATA:
        return None
    vr = None if implicit else header[4:6]
    if vr is not None and vr not in _LONG_VRS:
        raise Refused(Code.MALFORMED_HEADER, "VR of PixelData")
    size = 8 if implicit else 12
    (length,) = struct.unpack_from(order + "L", header, size - 4)
    value = memoryview(data)[offset + size :]
    encapsulated = length == _UNDEFINED_LENGTH
    # PS3.5 8.1.1, 8.2: values of VR OW are 16-bit words, swapped in big endian, even of 8 bits.
    swapped = not little_endian and vr == b"OW"
    return PixelElement(value if encapsulated else value[:length], encapsulated, swapped)


def _value(elements: Dataset, keyword: str | int) -> object:
    """Return an element's value, or None where it is absent, empty or cannot be converted."""
    tag = _tag(keyword)
    if tag not in elements:
        return None
    try:
        return elements[tag].value
    except MALFORMED:
        return None


@cache
def _tag(keyword: str | int) -> BaseTag:
    return Tag(keyword)


def texts(elements: Dataset, keyword: str) -> tuple[str, ...]:
    """Return an element's values as stripped text, those that are not empty."""
    value = _value(elements, keyword)
    values = value if isinstance(value, MultiValue) else [value]
    return tuple(text for v in values if isinstance(v, str) and (text := v.strip(" \0")))


def text(elements: Dataset, keyword: str) -> str | None:
    """Return an element's first value as printable text of at most 64 characters, or None.

    Longer text is no name or code (PS3.5 6.2: CS 16, LO and UI 64): a damaged length has included
    the elements that follow.
    """
    first = next(iter(texts(elements, keyword)), None)
    return first if first and len(first) <= 64 and first.isprintable() else None


def uid(elements: Dataset, keyword: str) -> str | None:
    """Return an element's value if it has the form of a UID (PS3.5 9.1), else None."""
    value = text(elements, keyword)
    return value if value and _UID.fullmatch(value) else None


def numbers(elements: Dataset, keyword: str) -> tuple[float, ...]:
    """Return an element's values as floats, or () if one of them is not a number."""
    value = _value(elements, keyword)
    values = list(value) if isinstance(value, MultiValue | list) else [value]
    floats = [float(v) for v in values if isinstance(v, int | float)]  # of IS, DS, US, FL, …
    return tuple(floats) if len(floats) == len(values) else ()


def number(elements: Dataset, keyword: str) -> float | None:
    """Return an element's first value as a float, or None."""
    return next(iter(numbers(elements, keyword)), None)


def integer(elements: Dataset, keyword: str | int) -> int | None:
    """Return an element's value if it is a single whole number of at most 31 bits, else None."""
    value = _value(elements, keyword)
    return int(value) if isinstance(value, int) and 0 <= value < 1 << 31 else None


def items(elements: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence, () where it is absent or cannot be read."""
    value = _value(elements, keyword)
    return tuple(value) if isinstance(value, Sequence) else ()


def codes(elements: Dataset, keyword: str) -> tuple[tuple[str, str], ...]:
    """Return a code sequence's (Code Value, Coding Scheme Designator) pairs (PS3.3 8.8)."""
    pairs = (
        (text(i, "CodeValue"), text(i, "CodingSchemeDesignator")) for i in items(elements, keyword)
    )
    return tuple((value, scheme) for value, scheme in pairs if value and scheme)


def words(elements: Dataset, keyword: str, *, little_endian: bool) -> NDArray[np.uint16]:
    """Return an element of VR US, SS or OW as unsigned 16-bit words (N,), empty where absent."""
    value = _value(elements, keyword)
    if isinstance(value, bytes):
        return np.frombuffer(value[: len(value) & ~1], "<u2" if little_endian else ">u2").astype(
            np.uint16
        )
    values = list(value) if isinstance(value, MultiValue | list) else [value]
    if not all(isinstance(v, int) for v in values):
        return np.empty(0, np.uint16)
    return (np.array(values, np.int64) & 0xFFFF).astype(np.uint16)
