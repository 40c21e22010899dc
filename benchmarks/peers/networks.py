"""The network behind a loop: its ONNX file in ONNX Runtime, or its PyTorch module, eager."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx
import onnxruntime
import torch

from benchmarks.peers.loops import Crops
from hipedge.model import ModelFolder
from hipedge.train.network import HipNet

# Normalisation is folded into convolutions when a model is exported.
MOST_WEIGHTS_APART = 0.05

Infer = Callable[[Crops], Any]


def onnx_runtime(model: ModelFolder) -> Infer:
    """Return the model's own file in a session with the defaults: all cores, all optimisations."""
    session = onnxruntime.InferenceSession(model.classifier, providers=["CPUExecutionProvider"])
    return lambda crops: session.run(["logits", "maps"], {"pixels": crops})


def torch_eager(model: ModelFolder, backbone: str) -> Infer:
    """Return the model's architecture in PyTorch, float32, all cores.

    Its weights are random: a model folder has none for PyTorch, and they cost the same. Raises
    `ValueError` if the model has another number of weights than a network with this backbone.
    """
    network = HipNet(backbone, size_px=model.card.input.size_px).eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    stored = sum(math.prod(values.dims) for values in onnx.load(model.classifier).graph.initializer)
    if abs(stored / count - 1) > MOST_WEIGHTS_APART:
        raise ValueError(f"the model has {stored:,} weights, a {backbone} {count:,}")

    @torch.inference_mode()
    def infer(crops: Crops) -> Any:
        return network(torch.from_numpy(crops))

    return infer
