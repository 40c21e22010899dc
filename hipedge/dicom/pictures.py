"""PNG, JPEG and TIFF files: pixels without a header."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hipedge.dicom.pixels import MAX_PIXELS
from hipedge.errors import Code, Refused

FORMATS = ("PNG", "JPEG", "TIFF")
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
# Modes that Pillow gives to 16-bit gray; older releases open a 16-bit PNG as 32-bit integers.
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
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


def is_picture(data: bytes) -> bool:
    """Say whether `data` starts as a PNG, JPEG or TIFF file does."""
    return data.startswith(MAGIC)


def decode_picture(data: bytes) -> NDArray[np.uint16]:
    """Return the gray values (H, W) of a picture, turned upright as its EXIF orientation says.

    8 and 16 bits are kept as they are; colour becomes luminance (ITU-R BT.601), transparency is
    ignored. Raises `Refused`: `multi_frame`, `too_large`, `unsupported_pixels`, `decode_failed`.
    """
    with warnings.catch_warnings():
        # Pillow warns of sizes that are refused below, and of metadata that is not used.
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                return _gray(image)
        except Image.DecompressionBombError as error:
            raise Refused(Code.TOO_LARGE) from error
        except _DAMAGED as error:
            raise Refused(Code.DECODE_FAILED, type(error).__name__) from error


def _gray(image: Image.Image) -> NDArray[np.uint16]:
    if image.width * image.height > MAX_PIXELS:
        raise Refused(Code.TOO_LARGE, f"{image.height} rows, {image.width} columns")
    if getattr(image, "n_frames", 1) > 1:
        raise Refused(Code.MULTI_FRAME)
    if image.mode == "F":
        raise Refused(Code.UNSUPPORTED_PIXELS, "floating-point samples")
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in _SIXTEEN_BIT:
        return np.asarray(upright.convert("L")).astype(np.uint16)
    values = np.asarray(upright)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise Refused(Code.UNSUPPORTED_PIXELS, "more than 16 bits")
    return values.astype(np.uint16)
