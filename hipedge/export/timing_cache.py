"""TensorRT's timing cache: measured tactics, which make the next build of a model faster."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hipedge.errors import ConfigError
from hipedge.files import write_atomically

if TYPE_CHECKING:
    import tensorrt

log = logging.getLogger("hipedge.tensorrt")


def read_timing_cache(config: tensorrt.IBuilderConfig, path: Path | None) -> None:
    """Give a build the timings in a file, which need not exist; do nothing without a path.

    Timings of another device or version are not used. Raises `ConfigError` where the file cannot be
    read.
    """
    if path is None:
        return
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise ConfigError(f"timing cache {path} cannot be read: {error.strerror}") from error
    cache = config.create_timing_cache(data)
    # TensorRT rejects a cache of another device or version, and may return None for a damaged one.
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        log.warning("timing cache %s is of another device or version: it is replaced", path)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def write_timing_cache(config: tensorrt.IBuilderConfig, path: Path | None) -> None:
    """Save the timings; a failure is only logged, so that the engine itself is not lost."""
    if path is None:
        return
    # Both may be None, unlike in TensorRT's stubs.
    cache: Any = config.get_timing_cache()
    data = None if cache is None else cache.serialize()
    if data is None:
        log.warning("the timings are not saved: TensorRT returned none")
        return
    try:
        write_atomically(path, bytes(data))
    except OSError as error:
        log.warning("the timings are not saved: %s: %s", path, error.strerror)
