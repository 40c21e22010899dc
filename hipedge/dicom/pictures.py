"""PNG, JPEG and TIFF files: pixels without a header."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hipedge.dicom import jpeg
from hipedge.dicom.codecs import DECODER_ERRORS
from hipedge.dicom.codestream import describe_jpeg
from hipedge.dicom.jpeg_segments import find_scan
from hipedge.dicom.pixels import MAX_PIXELS
from hipedge.errors import Code, Refused
from hipedge.types import Mark

FORMATS = ("PNG", "JPEG", "TIFF")  # JPEG gives MPO where several pictures are in a file
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
# Modes that Pillow gives to 16-bit gray; older releases open a 16-bit PNG as 32-bit integers.
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
# TIFF 6.0: NewSubfileType, of which bit 0 means a reduced version of another page, and
# PhotometricInterpretation, 0 for WhiteIsZero. EXIF: Orientation.
_SUBFILE_TYPE, _PHOTOMETRIC, _ORIENTATION = 254, 262, 274
_WHITE_IS_ZERO = 0
# Of several pictures in a file, one of so many of the first one's pixels is more than a preview.
_NO_PREVIEW = 0.25
# Pillow's plugins raise these on damaged files, `SyntaxError` among them.
_DAMAGED = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class Picture(NamedTuple):
    """Gray values (H, W), the larger the brighter, and what a person must know about the file."""

    values: NDArray[np.uint16]
    marks: frozenset[Mark] = frozenset()
    damaged: bool = False


def is_picture(data: bytes) -> bool:
    """Return whether `data` starts as a PNG, JPEG or TIFF file does."""
    return data.startswith(MAGIC)


def decode_picture(data: bytes) -> Picture:
    """Return a picture's gray values, turned upright as its EXIF orientation says.

    8 and 16 bits are kept as they are; colour becomes luminance (ITU-R BT.601), transparency is
    ignored. Of several pages of a TIFF, and of a phone's multi-picture JPEG (CIPA DC-007), the
    first is read that is no reduced version of another. Raises `Refused`: `multi_frame` for an
    animation, `too_large`, `unsupported_pixels`, `truncated`, `decode_failed`.
    """
    with warnings.catch_warnings():
        # Pillow warns of sizes that are refused below, and of metadata that is not used.
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                marks = _choose_page(image)
                values, damaged = _gray(image, data)
                return Picture(values, marks, damaged)
        except Image.DecompressionBombError as error:
            raise Refused(Code.TOO_LARGE) from error
        except (*_DAMAGED, *DECODER_ERRORS) as error:
            raise Refused(Code.DECODE_FAILED, type(error).__name__) from error


def _choose_page(image: Image.Image) -> frozenset[Mark]:
    """Seek the page that is read; mark a file with other pictures than previews of it."""
    count = getattr(image, "n_frames", 1)
    if count == 1:
        return frozenset()
    if image.format == "PNG":
        raise Refused(Code.MULTI_FRAME)
    sizes = []
    for page in range(count):
        image.seek(page)
        tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
        reduced = bool(int(tags.get(_SUBFILE_TYPE, 0)) & 1)
        sizes.append(0 if reduced else image.width * image.height)
    chosen = next((page for page, size in enumerate(sizes) if size), 0)
    image.seek(chosen)
    others = [size for page, size in enumerate(sizes) if page != chosen]
    has_more = max(others) >= _NO_PREVIEW * sizes[chosen] > 0
    return frozenset({Mark.MORE_PICTURES}) if has_more else frozenset()


def _gray(image: Image.Image, data: bytes) -> tuple[NDArray[np.uint16], bool]:
    if image.width * image.height > MAX_PIXELS:
        raise Refused(Code.TOO_LARGE, f"{image.height} rows, {image.width} columns")
    if image.mode == "F":
        raise Refused(Code.UNSUPPORTED_PIXELS, "floating-point samples")
    damaged = False
    if image.format in ("JPEG", "MPO") and _has_luminance(data):
        luminance, damaged = jpeg.decode_luminance(data)
        upright = _turned(Image.fromarray(luminance), image)
    else:
        upright = ImageOps.exif_transpose(image)
    if upright.mode not in _SIXTEEN_BIT:
        return np.asarray(upright.convert("L")).astype(np.uint16), damaged
    values = np.asarray(upright)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise Refused(Code.UNSUPPORTED_PIXELS, "more than 16 bits")
    values = values.astype(np.uint16)
    return (0xFFFF - values if _is_white_zero(image) else values), damaged


def _has_luminance(data: bytes) -> bool:
    """Return whether a JPEG's first component is its luminance, and its end can be checked.

    Raises `Refused` (`decode_failed`) where its end marker is missing.
    """
    stream = describe_jpeg(data)
    if not stream.complete:
        raise Refused(Code.DECODE_FAILED, "no end marker")
    is_luminance = stream.components == 1 or (stream.components == 3 and stream.colour != "RGB")
    return is_luminance and stream.bits == 8 and find_scan(data) is not None


def _turned(decoded: Image.Image, image: Image.Image) -> Image.Image:
    """Turn what was decoded as `image` is to be turned."""
    decoded.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    return ImageOps.exif_transpose(decoded)


def _is_white_zero(image: Image.Image) -> bool:
    """Return whether 0 is white. Pillow turns such pages of up to 8 bits over, but not of 16."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    return bool(tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
