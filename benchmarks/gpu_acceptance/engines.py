"""What computes on this GPU: TensorRT, or where there is none for it, a stand-in for it."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from hipedge.backends.tensorrt.cuda_graphs import CudaGraphs
from hipedge.backends.tensorrt.engine_cache import read_engine
from hipedge.backends.tensorrt.flavours import FLAVOURS, Flavour, loadable
from hipedge.backends.tensorrt.gpu import Gpu, first_gpu
from hipedge.backends.tensorrt.lookup import find_engine_of, supports
from hipedge.backends.tensorrt.runtime import TensorRtBackend
from hipedge.errors import InstallationError
from hipedge.model import ModelFolder


def builder_here() -> tuple[Flavour | None, str]:
    """Return the flavour of TensorRT that builds for this GPU, or None and why there is none."""
    gpu = first_gpu()
    try:
        found = [flavour for flavour, _ in loadable() if flavour.builds]
    except InstallationError as error:
        return None, str(error)
    fitting = [flavour for flavour in found if supports(flavour, gpu)]
    if not fitting:
        return None, f"{', '.join(flavour.name for flavour in found)} does not support {gpu}"
    return fitting[0], ""


def open_engine(model: ModelFolder, stand_in: str, *, graphs: bool = True) -> TensorRtBackend:
    """Open the backend without its proof, by TensorRT or by the module `stand_in`.

    Raises `BackendError` where there is no engine, and `InstallationError` without a GPU.
    """
    flavour, _ = builder_here()
    if flavour is None:
        row = replace(FLAVOURS["tensorrt"], name="stand-in")
        module, data = import_module(stand_in), model.classifier.read_bytes()
    else:
        row, module, path = find_engine_of(model, first_gpu())
        data, _ = read_engine(path)
    captures = graphs and not row.has_runtime_config
    return TensorRtBackend(
        model.card.input.size_px,
        data,
        gpu=Gpu.open(),
        flavour=row,
        module=module,
        graphs=CudaGraphs.if_installed() if captures else None,
    )
