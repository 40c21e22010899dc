"""Decode Pixel Data to stored values: native or compressed, 1 to 16 bits, 1 or 3 components."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.codecs import (
    CODECS,
    DECODER_ERRORS,
    RLE,
    Codec,
    Samples,
    decode_rle,
)
from hipedge.dicom.codestream import Codestream
from hipedge.dicom.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PixelElement,
)
from hipedge.dicom.displaced import is_displaced
from hipedge.dicom.grayscale import StoredValues, luminance
from hipedge.dicom.header import ImagePixel
from hipedge.dicom.ripples import has_ripples
from hipedge.errors import Code, Refused

# A frame of any compressed syntax begins with so many bytes that none of its other fragments begins
# with: JPEG's and JPEG 2000's first two markers, the number of RLE segments and where they begin.
_BEGINNING_BYTES = 8
_WORDS_AT_ONCE = 1 << 16
# A whole leg, stitched, at 0.1 mm is 60 megapixels.
MAX_PIXELS = 100_000_000
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE})

SAMPLES_PER_PIXEL = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
# Their first component is the luminance itself (PS3.3 C.7.6.3.1.2). Of YBR_ICT and YBR_RCT the
# JPEG 2000 decoder makes RGB.
LUMINANCE_FIRST = frozenset({"YBR_FULL", "YBR_FULL_422"})


@dataclass(frozen=True)
class PixelFormat:
    """A validated Image Pixel Module (PS3.3 C.7.6.3.1)."""

    rows: int
    columns: int
    samples_per_pixel: int
    photometric: str
    planar: bool
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stored values: (H, W) or (H, W, 3)."""
        plane = (self.rows, self.columns)
        return plane if self.samples_per_pixel == 1 else (*plane, self.samples_per_pixel)

    @property
    def shift(self) -> int:
        """How many bits lie below the stored ones (PS3.5 8.1.1)."""
        return self.high_bit + 1 - self.bits_stored

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value that can be stored."""
        count = 1 << self.bits_stored
        return (-count // 2, count // 2 - 1) if self.signed else (0, count - 1)


def checked_format(module: ImagePixel) -> PixelFormat:
    """Validate the module: all values present, consistent, and within bounds.

    Raises `Refused`: `malformed_header` where one is missing, `unsupported_pixels`, `too_large`.
    """
    rows, columns = _required(module.rows, "Rows"), _required(module.columns, "Columns")
    allocated = _required(module.bits_allocated, "BitsAllocated")
    stored = _required(module.bits_stored, "BitsStored")
    samples = _required(module.samples_per_pixel, "SamplesPerPixel")
    high_bit = stored - 1 if module.high_bit is None else module.high_bit
    photometric = module.photometric or ""
    if rows < 1 or columns < 1:
        raise Refused(Code.UNSUPPORTED_PIXELS, f"{rows} rows, {columns} columns")
    if rows * columns > MAX_PIXELS:
        raise Refused(Code.TOO_LARGE, f"{rows} rows, {columns} columns")
    if SAMPLES_PER_PIXEL.get(photometric) != samples:
        raise Refused(Code.UNSUPPORTED_PIXELS, "PhotometricInterpretation")
    if allocated not in (8, 16) or not 1 <= stored <= high_bit + 1 <= allocated:
        raise Refused(
            Code.UNSUPPORTED_PIXELS,
            f"{allocated} bits allocated, {stored} stored, high bit {high_bit}",
        )
    return PixelFormat(
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        photometric=photometric,
        planar=module.planar_configuration == 1,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=module.pixel_representation == 1 and samples == 1,
    )


def _required(value: int | None, keyword: str) -> int:
    if value is None:
        raise Refused(Code.MALFORMED_HEADER, keyword)
    return value


@dataclass(frozen=True, eq=False)
class CodedFrame:
    """The only frame of a compressed film, checked against the header but not decoded yet."""

    data: bytes
    form: PixelFormat
    codec: Codec
    stream: Codestream


def open_codestream(
    pixels: PixelElement, form: PixelFormat, transfer_syntax_uid: str | None
) -> CodedFrame | None:
    """Return the film's frame if it is a codestream, checked; None if it is native or RLE.

    Raises `Refused`: `unsupported_transfer_syntax`, `unsupported_pixels`, `truncated`,
    `decode_failed`.
    """
    if transfer_syntax_uid in NATIVE:
        if pixels.encapsulated:
            raise Refused(Code.UNSUPPORTED_PIXELS, "encapsulated in a native transfer syntax")
        return None
    codec = CODECS.get(transfer_syntax_uid or "")
    if codec is None and transfer_syntax_uid != RLE:
        raise Refused(Code.UNSUPPORTED_TRANSFER_SYNTAX)
    if not pixels.encapsulated:
        raise Refused(Code.UNSUPPORTED_PIXELS, "not encapsulated in a compressed transfer syntax")
    if codec is None:
        return None
    frame = single_frame(pixels.value)
    stream = codec.describe(frame)
    _check_codestream(stream, form)
    return CodedFrame(frame, form, codec, stream)


class Decoded(NamedTuple):
    """A film's stored values (PS3.5 8.1.1): (H, W) or (H, W, 3), and their gray (H, W).

    They are uint16, or int16 for Pixel Representation 1, whatever the encoding: the same film has
    the same ones in each lossless syntax. `damaged` says that the decoder noticed damage.
    """

    values: StoredValues
    gray: StoredValues
    damaged: bool = False


def decode(pixels: PixelElement, form: PixelFormat, transfer_syntax_uid: str | None) -> Decoded:
    """Decode the only frame of a film.

    Raises `Refused`: `unsupported_transfer_syntax`, `unsupported_pixels`, `truncated`,
    `decode_failed`.
    """
    coded = open_codestream(pixels, form, transfer_syntax_uid)
    if coded is not None:
        return decode_codestream(coded)
    if transfer_syntax_uid == RLE:
        samples, damaged = _rle(single_frame(pixels.value), form), False
    else:
        samples = _native(pixels, form, transfer_syntax_uid)
        damaged = form.samples_per_pixel == 1 and is_displaced(samples)
    values = _stored_values(samples, form)
    gray = _gray(values, form, luminance_first=form.photometric in LUMINANCE_FIRST)
    return Decoded(values, gray, damaged)


def decode_codestream(coded: CodedFrame) -> Decoded:
    """Decode all of a codestream. Raises `Refused`: `decode_failed`, `truncated`."""
    form, stream = coded.form, coded.stream
    try:
        samples, damaged = coded.codec.decode(coded.data, stream)
    except DECODER_ERRORS as error:
        raise Refused(Code.DECODE_FAILED, type(error).__name__) from error
    if samples.shape != form.shape:
        raise Refused(Code.DECODE_FAILED, "shape")
    values = _stored_values(samples, form, lossy=coded.codec.lossy)
    luminance_first = form.photometric in LUMINANCE_FIRST
    if stream.colour is not None:  # the stream knows better than the header
        luminance_first = stream.colour == "YBR"
    gray = _gray(values, form, luminance_first=luminance_first)
    return Decoded(values, gray, damaged or (stream.high_throughput and has_ripples(gray)))


def single_frame(value: memoryview) -> bytes:
    """Join the fragments of the only frame (PS3.5 A.4).

    The sequence delimiter may be missing. Raises `Refused`: `truncated` where a fragment is,
    `malformed_header` where something else than a fragment is found, `unsupported_pixels` where
    the fragments hold several frames, `no_pixels` where there is no fragment.
    """
    items: list[memoryview] = []
    offset = 0
    while offset + 8 <= len(value):
        group, element, length = struct.unpack_from("<HHL", value, offset)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            raise Refused(Code.MALFORMED_HEADER, "fragment")
        offset += 8 + length
        if offset > len(value):
            raise Refused(Code.TRUNCATED, f"{offset - len(value)} bytes of a fragment missing")
        items.append(value[offset - length : offset])
    if len(items) < 2:
        raise Refused(Code.NO_PIXELS, "no fragment")
    offset_table, *fragments = items
    if len(offset_table) > 4 and _frames(fragments) > 1:
        raise Refused(Code.UNSUPPORTED_PIXELS, "offsets of several frames")
    return b"".join(fragments)


def _frames(fragments: list[memoryview]) -> int:
    """Count the fragments that begin a frame: those that begin as the first one does.

    The Basic Offset Table has one offset a frame (PS3.5 A.4), but some writers add one for the end
    of the frame, or give one for each fragment.
    """
    beginning = bytes(fragments[0][:_BEGINNING_BYTES])
    return sum(bytes(f[:_BEGINNING_BYTES]) == beginning for f in fragments)


def _native(pixels: PixelElement, form: PixelFormat, transfer_syntax_uid: str | None) -> Samples:
    """Return uncompressed samples as a view of the file (PS3.5 8.2, A.1 to A.3, A.5)."""
    order = ">" if transfer_syntax_uid == EXPLICIT_BIG else "<"
    dtype = np.dtype(f"{order}u{form.bits_allocated // 8}")
    count = form.rows * form.columns * form.samples_per_pixel
    if form.photometric == "YBR_FULL_422" and len(pixels.value) < count * dtype.itemsize:
        return _native_422(pixels.value, form, dtype)
    if pixels.swapped_words and dtype.itemsize == 1:
        words = _samples(pixels.value, np.dtype(">u2"), (count + 1) // 2)
        flat: Samples = words.astype("<u2").view(np.uint8)[:count]
    else:
        flat = _samples(pixels.value, dtype, count)
    return _interleaved(flat, form, planar=form.planar)


def _native_422(value: memoryview, form: PixelFormat, dtype: np.dtype[Any]) -> Samples:
    """Return the luminance of Y1 Y2 Cb Cr, once for each two pixels (PS3.3 C.7.6.3.1.2)."""
    if form.columns % 2:
        raise Refused(Code.UNSUPPORTED_PIXELS, "an odd number of columns in pairs")
    pairs = _samples(value, dtype, form.rows * form.columns * 2).reshape(-1, 4)
    luma = pairs[:, :2].reshape(form.rows, form.columns, 1)
    return np.broadcast_to(luma, form.shape)


def _samples(value: memoryview, dtype: np.dtype[Any], count: int) -> Samples:
    promised = count * dtype.itemsize
    if len(value) < promised:
        raise Refused(Code.TRUNCATED, f"{promised} bytes promised, {len(value)} found")
    samples: Samples = np.frombuffer(value, dtype, count)
    return samples


def _rle(frame: bytes, form: PixelFormat) -> Samples:
    """Decode an RLE frame, each of whose segments must hold one byte of every sample (PS3.5 G.2).

    A segment that is too long and one that is too short would shift the bytes of all samples
    between them, though their sum is right.
    """
    bytes_each = form.bits_allocated // 8
    pixels = form.rows * form.columns
    count = pixels * form.samples_per_pixel
    try:
        segments = decode_rle(frame, pixels)
    except DECODER_ERRORS as error:
        raise Refused(Code.DECODE_FAILED, type(error).__name__) from error
    if len(segments) != bytes_each * form.samples_per_pixel:
        raise Refused(Code.DECODE_FAILED, f"{len(segments)} RLE segments")
    found = sum(map(len, segments)) // bytes_each
    if found < count:
        raise Refused(Code.TRUNCATED, f"{count} samples promised, {found} found")
    planes: list[Samples] = [*segments]
    if bytes_each == 2:
        planes = [_words(*pair) for pair in zip(segments[::2], segments[1::2], strict=True)]
    samples = planes[0] if len(planes) == 1 else np.concatenate(planes)
    return _interleaved(samples, form, planar=True)


def _words(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Join the high and the low bytes of samples (N,), part by part in the processor's cache."""
    words = np.empty(len(high), np.uint16)
    for start in range(0, len(words), _WORDS_AT_ONCE):
        part = slice(start, start + _WORDS_AT_ONCE)
        words[part] = high[part]
        words[part] <<= 8
        words[part] |= low[part]
    return words


def _interleaved(samples: Samples, form: PixelFormat, *, planar: bool) -> Samples:
    """Reshape a flat array of planes or pixels to (H, W) or (H, W, 3)."""
    if planar and form.samples_per_pixel > 1:
        planes = samples.reshape(form.samples_per_pixel, form.rows, form.columns)
        return np.moveaxis(planes, 0, -1)
    return samples.reshape(form.shape)


def _check_codestream(stream: Codestream, form: PixelFormat) -> None:
    """Refuse a codestream that is not what the header says (PS3.5 8.2.1 to 8.2.4).

    More bits than Bits Stored are common and harmless; more than Bits Allocated are not. Nor can
    the sign be found where the stream has fewer bits than are stored.
    """
    size = (stream.rows, stream.columns, stream.components)
    if size != (form.rows, form.columns, form.samples_per_pixel):
        raise Refused(Code.UNSUPPORTED_PIXELS, "the codestream's size is not the header's")
    if (
        stream.bits > form.bits_allocated
        or (form.signed and stream.bits < form.bits_stored)
        or (form.shift > 0 and stream.bits <= form.high_bit)
    ):
        raise Refused(Code.UNSUPPORTED_PIXELS, "the codestream's depth is not the header's")
    if not stream.complete:
        raise Refused(Code.TRUNCATED, "no end marker")


def _stored_values(samples: Samples, form: PixelFormat, *, lossy: bool = False) -> StoredValues:
    """Cut the stored bits out of the allocated ones (PS3.5 8.1.1), as uint16 or int16.

    The bits above the high bit are dropped: they may hold an overlay. Not so where a lossy
    decoder has overshot the range: there they are part of the value, which is limited.
    """
    limit = 1 << form.bits_stored
    if lossy and form.shift == 0 and (samples.dtype.kind == "i") == form.signed:
        limited = _limited(samples, *form.range)
        return limited.astype(np.int16 if form.signed else np.uint16, copy=False)
    words = samples.astype(np.uint16, copy=False)
    if form.shift:
        words = words >> np.uint16(form.shift)
    if form.signed:
        unused = 16 - form.bits_stored
        extended: NDArray[np.int16] = (words << np.uint16(unused)).view(np.int16)
        extended >>= np.int16(unused)
        return extended
    if form.bits_stored < 16 and words.max() >= limit:
        words = words & np.uint16(limit - 1)
    return words


def _limited(samples: Samples, low: int, high: int) -> Samples:
    """Limit samples to the values from `low` to `high`, without a copy where they already are."""
    if low <= np.iinfo(samples.dtype).min and np.iinfo(samples.dtype).max <= high:
        return samples
    if int(samples.min()) >= low and int(samples.max()) <= high:
        return samples
    return np.clip(samples, low, high)


def _gray(values: StoredValues, form: PixelFormat, *, luminance_first: bool) -> StoredValues:
    if form.samples_per_pixel == 1:
        return values
    if luminance_first:
        return values[..., 0]
    return luminance(values.astype(np.uint16, copy=False))
