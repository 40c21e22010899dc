"""Transfer syntax to decoder, as a table.

Every decoder of whole frames is imagecodecs': exact, and off the GIL. Of JPEG 2000 and HTJ2K a part
can be decoded, by OpenJPEG; where that library is not there, and for what it cannot do, the frame
is decoded whole. No other syntax has a shortcut that is worth its code: of an 8-bit JPEG an eighth
of the resolution takes 0.85 of the time, for the entropy code is decoded all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from hipedge.dicom import openjpeg
from hipedge.dicom.codestream import Codestream, describe_jpeg, describe_jpeg2000
from hipedge.dicom.grayscale import StoredValues

# imagecodecs raises its codecs' own errors, all RuntimeError, and these on nonsensical streams.
DECODER_ERRORS = (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError)

Samples = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Codec:
    """How to look into a frame, and how to decode it to samples (H, W) or (H, W, 3).

    `decode_area` decodes a part of a frame with one component, halved as often as said; its rows
    and columns are those of the grid that is halved.
    """

    describe: Callable[[bytes], Codestream]
    decode: Callable[[bytes, Codestream], Samples]
    lossy: bool
    decode_area: Callable[[bytes, int, slice, slice], StoredValues] | None = None


def _jpeg8(frame: bytes, stream: Codestream) -> Samples:
    # Equal colour spaces in and out: the components as they are stored, not converted.
    space = "RGB" if stream.components == 3 else None
    samples: Samples = imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=space)
    return samples


def _jpegls(frame: bytes, _: Codestream) -> Samples:
    samples: Samples = imagecodecs.jpegls_decode(frame)
    return samples


def _jpeg2k(frame: bytes, _: Codestream) -> Samples:
    # OpenJPEG, for HTJ2K too, which it decodes exactly. OpenJPH (`imagecodecs.htj2k_decode`) takes
    # a third of the time, but fills what is missing of a frame in silence, and the one in
    # imagecodecs 2026.3.6 ends the process, or never returns, on some damaged frames.
    samples: Samples = imagecodecs.jpeg2k_decode(frame)
    return samples


def decode_rle(frame: bytes, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    """Decode RLE segments (PS3.5 G) to at most `size` samples, in the planes' order (PS3.5 G.2).

    Returns fewer samples where the segments hold fewer.
    """
    samples = bytearray(size * dtype.itemsize)
    decoded = imagecodecs.dicomrle_decode(frame, dtype, out=samples)
    return np.frombuffer(decoded, dtype)


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
