"""Calls of TensorRT's Python API, which reports failure by a return value or only in its log."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any


class TensorRtError(Exception):
    """A call of TensorRT failed; the reason is in its log."""


def require(succeeded: bool, call: str) -> None:
    """Raise `TensorRtError` unless a call succeeded."""
    if not succeeded:
        raise TensorRtError(f"{call} failed")


def construct(constructor: Callable[[Any], Any], logger: Any) -> Any:
    """Return `constructor(logger)`, a `Runtime` or `Builder`; raise `TensorRtError` if it failed.

    `logger` is that of `open_log`. Where CUDA cannot be initialised, TensorRT 11 returns an object
    around a null pointer, and every call of it, its destructor's too, is a segmentation fault; only
    the log shows it. Versions before that raise `TypeError: factory function returned nullptr`.
    """
    errors_before = len(logger.errors)
    try:
        instance = constructor(logger)
    except TypeError as error:
        raise TensorRtError(f"TensorRT cannot be initialised: {error}") from error
    if len(logger.errors) > errors_before:
        keep_for_ever(instance)
        raise TensorRtError("the initialisation of TensorRT failed")
    return instance


def keep_for_ever(lost: object) -> None:
    """Never destroy `lost`, nor anything that it refers to, not even as the process ends.

    For objects of a context that is broken: their destructors call CUDA, and those of pycuda abort
    the process where the context cannot be made current.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))
