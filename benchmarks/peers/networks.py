"""The network behind a loop: its ONNX file in ONNX Runtime, or its PyTorch module, eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnxruntime
import torch

from benchmarks.peers.loops import Crops
from hipedge.model import ModelFolder
from hipedge.train.network import HipNet

Infer = Callable[[Crops], Any]


def onnx_runtime(model: ModelFolder) -> Infer:
    """Return the model's own file in a session with the defaults: all cores, all optimisations."""
    session = onnxruntime.InferenceSession(model.classifier, providers=["CPUExecutionProvider"])
    return lambda crops: session.run(["logits", "maps"], {"pixels": crops})


def torch_eager() -> Infer:
    """Return the model's architecture in PyTorch, float32, all cores.

    Its weights are random: a model folder has none for PyTorch, and they cost the same.
    """
    network = HipNet().eval()

    @torch.inference_mode()
    def infer(crops: Crops) -> Any:
        return network(torch.from_numpy(crops))

    return infer
