"""Transfer syntax to decoder, as a table.

JPEG 2000 and HTJ2K are decoded by OpenJPEG, which also decodes parts of a frame; where that library
is missing, and for all other syntaxes, by imagecodecs, which decodes whole frames. No other syntax
is worth decoding in part: an 8-bit JPEG at an eighth of its resolution takes 0.85 of the time,
since all its entropy-coded data must be decoded.
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

# imagecodecs raises its codecs' own errors, all RuntimeError, and these on nonsensical streams.
DECODER_ERRORS = (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError)

Samples = NDArray[np.integer[Any]]

_RLE_HEADER_BYTES = 64
_PREDICTABLE_TERMINATION = 0x10  # of the code-blocks' style, T.800 table A.19


class DecodedFrame(NamedTuple):
    """Samples (H, W) or (H, W, 3), and whether the decoder noticed that the frame is damaged."""

    samples: Samples
    damaged: bool = False


@dataclass(frozen=True)
class Codec:
    """How to describe a frame, and how to decode it.

    `decode_area` decodes a part of a frame with one component at a lower resolution.
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
    # OpenJPEG, for HTJ2K too, which it decodes exactly. OpenJPH (`imagecodecs.htj2k_decode`) takes
    # a third of the time, but fills what is missing of a frame in silence, and the one in
    # imagecodecs 2026.3.6 ends the process, or never returns, on some damaged frames.
    if openjpeg.library() and not stream.wrapped:
        decoded = openjpeg.decode(checkable(frame, stream))
        return DecodedFrame(decoded.samples, decoded.damaged or ends_in_data(frame, stream))
    return DecodedFrame(imagecodecs.jpeg2k_decode(frame))


def checkable(frame: bytes, stream: Codestream) -> bytes:
    """Return a JPEG 2000 codestream as OpenJPEG can check it.

    With an end marker, whose absence it takes for a truncated frame; and with predictable
    termination in the style of its code-blocks (T.800 D.4.2), for which OpenJPEG warns where one
    ends long before its data or goes on long after them, as damaged ones do. Nothing else depends
    on that flag.
    """
    body = frame[: stream.end]
    at = stream.style_at
    if at and not stream.high_throughput:
        body = body[:at] + bytes([body[at] | _PREDICTABLE_TERMINATION]) + body[at + 1 :]
    return body + END_MARKER


def ends_in_data(frame: bytes, stream: Codestream) -> bool:
    """Return whether the last tile-part is followed by data instead of the end marker.

    Then bytes were inserted before its end. A missing end marker is common and harmless.
    """
    rest = frame[stream.end :]
    return not rest.startswith(END_MARKER) and bool(rest.strip(b"\0"))


def decode_rle(frame: bytes, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    """Decode RLE segments (PS3.5 G) to at most `size` samples, in the planes' order (PS3.5 G.2).

    Returns fewer samples where the segments hold fewer.
    """
    samples = bytearray(size * dtype.itemsize)
    decoded = imagecodecs.dicomrle_decode(frame, dtype, out=samples)
    return np.frombuffer(decoded, dtype)


def rle_segment_sizes(frame: bytes) -> tuple[int, ...]:
    """Return how many bytes each segment of an RLE frame decodes to, but the last (PS3.5 G.5).

    Raises imagecodecs' errors, and `ValueError` where the header of the segments is damaged.
    """
    if len(frame) < _RLE_HEADER_BYTES:
        raise ValueError("no RLE header")
    count, *offsets = struct.unpack_from("<16L", frame)
    bounds = offsets[:count]
    if not 1 <= count <= len(offsets) or bounds[0] != _RLE_HEADER_BYTES or sorted(bounds) != bounds:
        raise ValueError("damaged RLE header")
    header = struct.pack("<16L", 1, _RLE_HEADER_BYTES, *[0] * 14)
    byte = np.dtype(np.uint8)
    return tuple(
        len(imagecodecs.dicomrle_decode(header + frame[start:stop], byte))
        for start, stop in pairwise(bounds)
    )


_area = openjpeg.decode_area if openjpeg.library() else None

# PS3.5 A.4, PS3.6 A. "lossy" is what the syntax allows, not what a file did.
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


def decoder_versions() -> dict[str, str]:
    """Return which library decodes for each codec of imagecodecs that is used, and for areas."""
    versions = {
        name: str(getattr(imagecodecs, f"{name}_version")())
        for name in ("dicomrle", "jpeg8", "jpegls", "jpeg2k")
    }
    return versions | {"areas of jpeg2k": f"openjpeg {openjpeg.version() or 'not found'}"}
