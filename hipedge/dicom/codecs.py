"""Table of the decoders of transfer syntaxes.

JPEG 2000 and HTJ2K are decoded by OpenJPEG, which can also decode parts of a frame. If that library
is missing, and for all other syntaxes, imagecodecs decodes whole frames. Partial decoding is not
worthwhile for any other syntax: an 8-bit JPEG at an eighth of its resolution takes 0.85 of the
time, since all its entropy-coded data must be decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from hipedge.dicom import jpeg, openjpeg
from hipedge.dicom.codestream import END_MARKER, Codestream, describe_jpeg, describe_jpeg2000

# imagecodecs raises codec-specific errors, all RuntimeError, and these for malformed streams.
DECODER_ERRORS = (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError)

Samples = NDArray[np.integer[Any]]

_RLE_HEADER_BYTES = 64
_PREDICTABLE_TERMINATION = 0x10  # flag of the code-block style, T.800 table A.19


class DecodedFrame(NamedTuple):
    """Samples (H, W) or (H, W, 3), and whether the decoder detected damage in the frame."""

    samples: Samples
    damaged: bool = False


@dataclass(frozen=True)
class Codec:
    """Functions that describe and decode a frame.

    `decode_area` decodes a part of a single-component frame at a reduced resolution.
    """

    describe: Callable[[bytes], Codestream]
    decode: Callable[[bytes, Codestream], DecodedFrame]
    lossy: bool
    decode_area: Callable[[bytes, int, slice, slice], openjpeg.Decoded] | None = None


def _jpeg8(frame: bytes, stream: Codestream) -> DecodedFrame:
    return DecodedFrame(*jpeg.decode(frame, stream.components))


def _jpegls(frame: bytes, _: Codestream) -> DecodedFrame:
    return DecodedFrame(imagecodecs.jpegls_decode(frame))  # CharLS raises on damaged data


def _jpeg2k(frame: bytes, stream: Codestream) -> DecodedFrame:
    # OpenJPEG also decodes HTJ2K, and does so exactly. OpenJPH (`imagecodecs.htj2k_decode`) takes a
    # third of the time, but silently fills in missing parts of a frame, and the version in
    # imagecodecs 2026.3.6 terminates the process or hangs on some damaged frames.
    if openjpeg.library() and not stream.wrapped:
        decoded = openjpeg.decode(checkable(frame, stream))
        return DecodedFrame(decoded.samples, decoded.damaged or ends_in_data(frame, stream))
    return DecodedFrame(imagecodecs.jpeg2k_decode(frame))


def checkable(frame: bytes, stream: Codestream) -> bytes:
    """Return a JPEG 2000 codestream modified so that OpenJPEG can check it.

    An end marker is added if it is missing, since OpenJPEG treats its absence as truncation. The
    predictable termination flag is set in the code-block style (T.800 D.4.2): OpenJPEG then warns
    if a code-block ends long before its data or continues long after them, as damaged code-blocks
    do. The flag has no other effect.
    """
    at, end = stream.style_at, stream.end
    if at and not stream.high_throughput:
        style = bytes([frame[at] | _PREDICTABLE_TERMINATION])
        view = memoryview(frame)  # a frame has megabytes: they are copied once
        return b"".join((view[:at], style, view[at + 1 : end], END_MARKER))
    if frame[end:] == END_MARKER:
        return frame
    return frame[:end] + END_MARKER


def ends_in_data(frame: bytes, stream: Codestream) -> bool:
    """Return whether the last tile-part is followed by data instead of the end marker.

    If so, bytes were inserted before its end. A missing end marker is common and harmless.
    """
    rest = frame[stream.end :]
    return not rest.startswith(END_MARKER) and bool(rest.strip(b"\0"))


def decode_rle(frame: bytes, size: int) -> list[NDArray[np.uint8]]:
    """Decode each RLE segment (PS3.5 G) to at most `size` bytes: one byte of every sample.

    Returns fewer bytes where a segment has fewer. Raises imagecodecs' errors, and `ValueError` if
    the RLE header is damaged.
    """
    if len(frame) < _RLE_HEADER_BYTES:
        raise ValueError("no RLE header")
    count, *offsets = struct.unpack_from("<16L", frame)
    bounds = offsets[:count]
    if not 1 <= count <= len(offsets) or bounds[0] != _RLE_HEADER_BYTES or sorted(bounds) != bounds:
        raise ValueError("damaged RLE header")
    return [
        np.frombuffer(imagecodecs.packbits_decode(frame[start:stop], out=bytearray(size)), np.uint8)
        for start, stop in pairwise((*bounds, len(frame)))
    ]


_area = openjpeg.decode_area if openjpeg.library() else None

# PS3.5 A.4, PS3.6 A. "lossy" means that the syntax allows lossy compression, not that a file uses
# it.
CODECS: Mapping[str, Codec] = {
    "1.2.840.10008.1.2.4.50": Codec(describe_jpeg, _jpeg8, lossy=True),  # Baseline (1)
    "1.2.840.10008.1.2.4.51": Codec(describe_jpeg, _jpeg8, lossy=True),  # Extended (2, 4)
    "1.2.840.10008.1.2.4.57": Codec(describe_jpeg, _jpeg8, lossy=False),  # Lossless (14)
    "1.2.840.10008.1.2.4.70": Codec(describe_jpeg, _jpeg8, lossy=False),  # Lossless (14, SV1)
    "1.2.840.10008.1.2.4.80": Codec(describe_jpeg, _jpegls, lossy=False),  # JPEG-LS
    "1.2.840.10008.1.2.4.81": Codec(describe_jpeg, _jpegls, lossy=True),  # JPEG-LS near
    "1.2.840.10008.1.2.4.90": Codec(
        describe_jpeg2000, _jpeg2k, lossy=False, decode_area=_area
    ),  # JPEG 2000
    "1.2.840.10008.1.2.4.91": Codec(describe_jpeg2000, _jpeg2k, lossy=True, decode_area=_area),
    "1.2.840.10008.1.2.4.201": Codec(
        describe_jpeg2000, _jpeg2k, lossy=False, decode_area=_area
    ),  # HTJ2K
    "1.2.840.10008.1.2.4.202": Codec(
        describe_jpeg2000, _jpeg2k, lossy=False, decode_area=_area
    ),  # HTJ2K RPCL
    "1.2.840.10008.1.2.4.203": Codec(describe_jpeg2000, _jpeg2k, lossy=True, decode_area=_area),
}
RLE = "1.2.840.10008.1.2.5"
