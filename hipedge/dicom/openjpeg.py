"""Decode JPEG 2000 and HTJ2K codestreams with OpenJPEG through ctypes.

imagecodecs uses OpenJPEG too, but decodes only whole frames and exposes neither strict mode nor the
decoder's warnings. The library in Pillow's wheel is preferred to that of the system: the one of
Debian 12 (2.5.0) is built with assertions, which abort the process on damaged HTJ2K. The structure
layouts are those of openjpeg.h, which are the same in all 2.x releases.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, byref, c_int, c_int32, c_int64, c_size_t, c_uint16, c_uint32
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SONAME = "libopenjp2.so.7"
# The first version that decodes HTJ2K and can refuse incomplete streams.
OLDEST = (2, 5)

_J2K = 0  # OPJ_CODEC_J2K
_CHUNK_BYTES = 1 << 20
# More than the size of opj_dparameters_t in any release; only its first field, cp_reduce, is set.
_PARAMETERS_BYTES = 1 << 15
_END = c_size_t(-1).value
_FILLED_IN = re.compile(rb"(\d+) synthesized")
# Bytes filled in at the end of a code-block that an encoder may have omitted: undamaged lossless
# frames need up to 4, and one lossy frame in 350, of a film with little in it, needed 205.
_MOST_FILLED_IN = 400


class OpenJpegError(RuntimeError):
    """OpenJPEG cannot decode a codestream."""


class Decoded(NamedTuple):
    """Samples (H, W) or (H, W, C), and whether OpenJPEG warned that the codestream is damaged."""

    samples: NDArray[Any]
    damaged: bool


class _Component(ctypes.Structure):
    """opj_image_comp_t."""

    _fields_ = (
        *((name, c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd")),
        ("resno_decoded", c_uint32),
        ("factor", c_uint32),
        ("data", POINTER(c_int32)),
        ("alpha", c_uint16),
    )


class _Image(ctypes.Structure):
    """opj_image_t."""

    _fields_ = (
        *((name, c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", c_int),
        ("comps", POINTER(_Component)),
        ("icc_profile_buf", ctypes.c_void_p),
        ("icc_profile_len", c_uint32),
    )


_Read = CFUNCTYPE(c_size_t, ctypes.c_void_p, c_size_t, ctypes.c_void_p)
_Skip = CFUNCTYPE(c_int64, c_int64, ctypes.c_void_p)
_Seek = CFUNCTYPE(c_int, c_int64, ctypes.c_void_p)
_Message = CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Load OpenJPEG 2.5 or later; return None if it is not available."""
    for name in (*_in_pillow(), SONAME):
        try:
            opened = ctypes.CDLL(name)
        except OSError:
            continue
        _declare(opened)
        if tuple(int(part) for part in _version(opened).split(".")[:2]) >= OLDEST:
            return opened
    return None


def version() -> str | None:
    """Return the version of OpenJPEG, or None if it is not available."""
    opened = library()
    return _version(opened) if opened else None


def _version(opened: ctypes.CDLL) -> str:
    return str(opened.opj_version().decode())


def _in_pillow() -> Iterator[str]:
    """Yield the path of the library that Pillow's wheels bundle next to the package."""
    spec = importlib.util.find_spec("PIL")
    if spec and spec.origin:
        folder = Path(spec.origin).parents[1] / "pillow.libs"
        yield from (str(path) for path in folder.glob("libopenjp2-*.so*"))


def _declare(opened: ctypes.CDLL) -> None:
    pointer = ctypes.c_void_p
    signatures = {
        "opj_version": (ctypes.c_char_p, []),
        "opj_create_decompress": (pointer, [c_int]),
        "opj_set_default_decoder_parameters": (None, [pointer]),
        "opj_setup_decoder": (c_int, [pointer, pointer]),
        "opj_decoder_set_strict_mode": (c_int, [pointer, c_int]),
        "opj_set_warning_handler": (c_int, [pointer, _Message, pointer]),
        "opj_stream_create": (pointer, [c_size_t, c_int]),
        "opj_stream_set_read_function": (None, [pointer, _Read]),
        "opj_stream_set_skip_function": (None, [pointer, _Skip]),
        "opj_stream_set_seek_function": (None, [pointer, _Seek]),
        "opj_stream_set_user_data_length": (None, [pointer, ctypes.c_uint64]),
        "opj_read_header": (c_int, [pointer, pointer, POINTER(POINTER(_Image))]),
        "opj_set_decode_area": (c_int, [pointer, POINTER(_Image), *[c_int32] * 4]),
        "opj_decode": (c_int, [pointer, pointer, POINTER(_Image)]),
        "opj_end_decompress": (c_int, [pointer, pointer]),
        "opj_image_destroy": (None, [POINTER(_Image)]),
        "opj_stream_destroy": (None, [pointer]),
        "opj_destroy_codec": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(opened, name, None)
        if function is not None:  # 2.4 has no opj_decoder_set_strict_mode
            function.restype, function.argtypes = result, arguments


def decode(frame: bytes) -> Decoded:
    """Decode all components of a codestream at full resolution. Raises `OpenJpegError`."""
    return _decode(frame, 0, None)


def decode_area(frame: bytes, halvings: int, rows: slice, columns: slice) -> Decoded:
    """Decode an area of a single-component codestream, each side halved `halvings` times.

    Returns the values of the low-pass band at the multiples of 2^halvings that lie in `rows` and
    `columns`. Raises `OpenJpegError`.
    """
    return _decode(frame, halvings, (columns.start, rows.start, columns.stop, rows.stop))


def _decode(frame: bytes, halvings: int, window: tuple[int, int, int, int] | None) -> Decoded:
    opj = library()
    if opj is None:
        raise OpenJpegError("no library")
    warnings: list[bytes] = []
    with _codec(opj, halvings, warnings) as codec, _stream(opj, frame) as stream:
        image = POINTER(_Image)()
        try:
            _check(opj.opj_read_header(stream, codec, byref(image)))
            if window is not None:
                _check(opj.opj_set_decode_area(codec, image, *window))
            _check(opj.opj_decode(codec, stream, image))
            _check(opj.opj_end_decompress(codec, stream))
            return Decoded(_samples(image.contents), any(map(_tells_damage, warnings)))
        finally:
            opj.opj_image_destroy(image)


@contextmanager
def _codec(opj: ctypes.CDLL, halvings: int, warnings: list[bytes]) -> Iterator[int]:
    """Create a strict decoder, which refuses incomplete streams and appends to `warnings`."""
    handler = _Message(lambda message, _: warnings.append(message))
    codec = opj.opj_create_decompress(_J2K)
    try:
        parameters = (c_uint32 * (_PARAMETERS_BYTES // 4))()
        opj.opj_set_default_decoder_parameters(parameters)
        parameters[0] = halvings
        _check(opj.opj_set_warning_handler(codec, handler, None))
        _check(opj.opj_setup_decoder(codec, parameters))
        _check(opj.opj_decoder_set_strict_mode(codec, 1))
        yield codec
    finally:
        opj.opj_destroy_codec(codec)


@contextmanager
def _stream(opj: ctypes.CDLL, frame: bytes) -> Iterator[int]:
    """Create a stream that reads directly from a frame in memory, without an extra copy of it."""
    start = ctypes.cast(ctypes.c_char_p(frame), ctypes.c_void_p).value or 0
    position = 0

    def read(target: int, count: int, _: object) -> int:
        nonlocal position
        count = min(count, len(frame) - position)
        if count <= 0:
            return _END
        ctypes.memmove(target, start + position, count)
        position += count
        return count

    def skip(count: int, _: object) -> int:
        nonlocal position
        count = max(-position, min(count, len(frame) - position))
        position += count
        return count or -1

    def seek(where: int, _: object) -> bool:
        nonlocal position
        position = where
        return 0 <= where <= len(frame)

    callbacks = _Read(read), _Skip(skip), _Seek(seek)
    stream = opj.opj_stream_create(_CHUNK_BYTES, 1)
    try:
        opj.opj_stream_set_read_function(stream, callbacks[0])
        opj.opj_stream_set_skip_function(stream, callbacks[1])
        opj.opj_stream_set_seek_function(stream, callbacks[2])
        opj.opj_stream_set_user_data_length(stream, len(frame))
        yield stream
    finally:
        opj.opj_stream_destroy(stream)


def _samples(image: _Image) -> NDArray[Any]:
    components = [image.comps[n] for n in range(image.numcomps)]
    shapes = {(component.h, component.w) for component in components}
    if len(shapes) != 1 or not all(c.data and c.prec <= 16 for c in components):
        raise OpenJpegError("no values")
    planes = [
        np.ctypeslib.as_array(c.data, (c.h, c.w)).astype(np.int16 if c.sgnd else np.uint16)
        for c in components
    ]
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def _tells_damage(warning: bytes) -> bool:
    """Return whether a warning indicates damage.

    All warnings do, except those of code-blocks that end early: an encoder may omit the last bytes
    of a code-block if a decoder fills them in as 0xFF.
    """
    filled_in = _FILLED_IN.search(warning)
    return filled_in is None or int(filled_in[1]) > _MOST_FILLED_IN


def _check(succeeded: int) -> None:
    if not succeeded:
        raise OpenJpegError("refused")
