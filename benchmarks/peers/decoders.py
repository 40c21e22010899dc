"""The decoders of the peers' loops: one of a permissive licence for each transfer syntax.

pydicom has its own plugins for pylibjpeg-openjpeg and pylibjpeg-rle (MIT) and pyjpegls (MIT). It
has none of such a licence for JPEG Lossless and 12-bit JPEG, so this module is one, over
imagecodecs (BSD), as pydicom's guide on decoding plugins describes.
"""

from __future__ import annotations

from importlib.metadata import version

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner

JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLosslessSV1)
PLUGINS = {
    uid.RLELossless: ("pylibjpeg", "pylibjpeg-rle"),
    uid.JPEGLSLossless: ("pyjpegls", "pyjpegls"),
    uid.JPEGLSNearLossless: ("pyjpegls", "pyjpegls"),
    uid.JPEG2000Lossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.JPEG2000: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2KLossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    **dict.fromkeys(JPEG, ("imagecodecs", "imagecodecs")),
}
DECODER_DEPENDENCIES = dict.fromkeys(JPEG, ("numpy", "imagecodecs"))


def is_available(_: str) -> bool:
    """Say that this plugin can be used: imagecodecs was imported."""
    return True


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame, as pydicom calls its plugins."""
    samples: np.ndarray = imagecodecs.jpeg8_decode(src)
    runner.set_option("bits_allocated", samples.dtype.itemsize * 8)
    return samples.tobytes()


def use_permissive_decoders() -> dict[str, str]:
    """Leave pydicom one plugin for each syntax; return which package that is, by UID."""
    for syntax, (plugin, _) in PLUGINS.items():
        decoder = get_decoder(syntax)
        if plugin == "imagecodecs" and plugin not in decoder.available_plugins:
            decoder.add_plugin(plugin, (__name__, "decode_frame"))
        for other in set(decoder.available_plugins) - {plugin}:
            decoder.remove_plugin(other)
        if decoder.available_plugins != (plugin,):
            raise ModuleNotFoundError(decoder.missing_dependencies)
    return {
        str(uid.ExplicitVRLittleEndian): f"pydicom {version('pydicom')}",
        **{str(one): f"{name} {version(name)}" for one, (_, name) in PLUGINS.items()},
    }
