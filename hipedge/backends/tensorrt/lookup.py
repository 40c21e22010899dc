"""Which cached engine runs a model on a device, with which flavour of TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hipedge.backends.tensorrt.engine_cache import (
    RTX_CAPABILITIES,
    Device,
    engines_folder,
    find_engine,
)
from hipedge.backends.tensorrt.flavours import Flavour, loadable
from hipedge.errors import BackendError
from hipedge.model.card import CLASSIFIER
from hipedge.model.folder import ModelFolder

RTX_CURE = "install TensorRT (pip install 'hipedge[tensorrt]'), or use --backend onnxruntime"


def supports(flavour: Flavour, device: Device) -> bool:
    """Whether a flavour runs on a GPU; TensorRT for RTX refuses some when it loads an engine."""
    return flavour.name != "rtx" or device.compute_capability in RTX_CAPABILITIES


def find_engine_of(model: ModelFolder, device: Device) -> tuple[Flavour, Any, Path]:
    """Return the first installed flavour with an engine of `model` for `device`.

    Returns the flavour, its Python module and the path of the engine. Raises `BackendError`, with
    the cure, where no flavour has one, and `InstallationError` where no flavour can be loaded.
    """
    errors: list[BackendError] = []
    for flavour, module in loadable():
        if not supports(flavour, device):
            errors.append(BackendError(f"TensorRT for RTX does not support {device}: {RTX_CURE}"))
            continue
        try:
            path = find_engine(
                engines_folder(),
                onnx_sha256=model.card.files[CLASSIFIER],
                flavour=flavour.name,
                version=module.__version__,
                device=device,
                cure=_cure(model, flavour),
            )
            return flavour, module, path
        except BackendError as error:
            errors.append(error)
    raise errors[0]


def _cure(model: ModelFolder, flavour: Flavour) -> str:
    where = (
        "" if flavour.builds else ", on a machine with TensorRT and such a GPU, and copy it here"
    )
    return f"run `hipedge export engine {model.path} {flavour.build_options}`{where}"
