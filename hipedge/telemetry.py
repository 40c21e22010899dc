"""Telemetry of the libraries that hipedge uses: all of it is switched off.

A radiograph tool in a clinic must not contact anybody. These libraries would:

- ONNX Runtime from 1.29 writes a device identifier below the home folder when it is imported and
  uploads events to Microsoft. `ORT_DISABLE_TELEMETRY` is read once, at that import
  (onnxruntime's docs/Privacy.md).
- OpenVINO's converter, which `import openvino` imports, sends an event to Google Analytics through
  the package `openvino-telemetry`. Without that package it uses a stub, and it reads no
  environment variable.
- `huggingface_hub`, through which timm may fetch ImageNet weights for training, reports its caller.
- Ray's head node reports the cluster's use once an hour. One that others have started obeys their
  setting (`ray disable-usage-stats`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Inherited by child processes: worker processes, the fork server and the loaders of a training.
OPT_OUT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
OPENVINO_TELEMETRY = "openvino_telemetry"


def disable_telemetry() -> None:
    """Set the opt-out variables, for this process and for those that it starts.

    `import hipedge` calls this, so that it comes before the first import of any of these libraries
    in hipedge. Values that are set already are overridden.
    """
    os.environ.update(OPT_OUT)


@contextmanager
def without_openvino_telemetry() -> Iterator[None]:
    """Hide the package `openvino-telemetry` from imports inside the block."""
    hidden = sys.modules.get(OPENVINO_TELEMETRY)
    sys.modules[OPENVINO_TELEMETRY] = None  # type: ignore[assignment]  # `import` then raises
    try:
        yield
    finally:
        del sys.modules[OPENVINO_TELEMETRY]
        if hidden is not None:
            sys.modules[OPENVINO_TELEMETRY] = hidden
