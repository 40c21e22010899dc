"""The decoders of the peers' loops: pydicom's usual ones, and the fastest of a permissive licence.

The usual ones are those of `pip install pylibjpeg[all]`, as pydicom's guide installs them. Of
these pylibjpeg-libjpeg, for JPEG and JPEG-LS, is under the GPL: it is measured here, and hipedge
neither needs nor ships it. pyjpegls (MIT) decodes JPEG-LS faster; for JPEG pydicom has no faster
plugin, so this module is one, over imagecodecs (BSD), as pydicom's guide on plugins describes.
"""

from __future__ import annotations

from importlib.metadata import version

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner

JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
# The package behind pydicom's plugin pylibjpeg.
USUAL = {
    **dict.fromkeys((*JPEG, *JPEG_LS), "pylibjpeg-libjpeg"),
    **dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless), "pylibjpeg-openjpeg"),
    uid.RLELossless: "pylibjpeg-rle",
}
# A plugin by the name of its package, where there is a faster one.
FASTEST = {**dict.fromkeys(JPEG, "imagecodecs"), **dict.fromkeys(JPEG_LS, "pyjpegls")}
MODULES = {"imagecodecs": __name__, "pyjpegls": "pydicom.pixels.decoders.pyjpegls"}
FUNCTIONS = {"imagecodecs": "decode_frame", "pyjpegls": "_decode_frame"}

DECODER_DEPENDENCIES = dict.fromkeys(JPEG, ("numpy", "imagecodecs"))


def is_available(_: str) -> bool:
    """Say that this plugin can be used: imagecodecs was imported."""
    return True


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame, as pydicom calls its plugins."""
    samples: np.ndarray = imagecodecs.jpeg8_decode(src)
    runner.set_option("bits_allocated", samples.dtype.itemsize * 8)
    return samples.tobytes()


def use_decoders() -> None:
    """Leave pydicom the usual plugin for each syntax, and after it the fastest."""
    for syntax in USUAL:
        decoder = get_decoder(syntax)
        for other in set(decoder.available_plugins) - {"pylibjpeg"}:
            decoder.remove_plugin(other)
        if fastest := FASTEST.get(syntax):
            decoder.add_plugin(fastest, (MODULES[fastest], FUNCTIONS[fastest]))
        if "pylibjpeg" not in decoder.available_plugins:
            raise ModuleNotFoundError(decoder.missing_dependencies)


def decoders(syntax: str) -> dict[str, str]:
    """Return which packages decode a transfer syntax for the loops, and their versions."""
    usual = USUAL.get(uid.UID(syntax), "pydicom")
    packages = {"usual": usual, "fastest": FASTEST.get(uid.UID(syntax), usual)}
    return {name: f"{package} {version(package)}" for name, package in packages.items()}
