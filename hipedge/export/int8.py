"""Explicit quantization of `classifier.onnx`: 8-bit convolutions as Q/DQ, the rest in FP32.

Weights have a scale per output channel and 7 bits: without VNNI a processor adds two products of 8
bits into 16 with saturation, which 7 bits cannot reach. Activations have a scale per tensor, of
least squared error on the calibration samples. What rounding the weights changes in a channel's
mean is taken back from its bias (Nagel et al., 2019, arXiv:1906.04721, section 4.2).
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from hipedge.onnx_session import open_session

Floats = NDArray[np.float32]

MOST_WEIGHT = 64  # of 7 bits, symmetric
MOST_BIAS = 2**30  # half of what 32 bits hold
LEVELS = 255
CALIBRATION_BATCH = 8
# Values of a tensor that are kept of each batch; its extremes and means are of all values.
KEPT_VALUES = 20_000
# Clipped ranges that are tried, as fractions of the whole one.
RANGES = np.linspace(0.35, 1.0, 27)
ACTIVATIONS = ("Clip", "Relu")
# Where the way back from a gate's Sigmoid ends: at what the gate looks at.
POOLING = ("ReduceMean", "ReduceMax")


def quantize(path: Path, samples: NDArray[np.uint8]) -> bytes:
    """Return the quantized ONNX file of a classifier, calibrated on samples uint8 (N, 1, S, S).

    Convolutions with weights in half precision become 8-bit, but for the first and for those of
    attention gates. What the file keeps in single precision, stem and first block of
    EfficientNet-lite0, pooling and head, stays so: a logit stays the sum of its heat map plus a
    bias. Raises `BackendError` where ONNX Runtime cannot run the file.
    """
    model = onnx.load(path)
    chosen = _quantizable(model)
    _widen(model)
    tensors = _tensors(model, chosen)
    statistics = _calibrate(model, tensors, samples)
    _insert(model, chosen, {name: statistics[name] for name in tensors})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _initializers(model: ModelProto) -> dict[str, TensorProto]:
    return {one.name: one for one in model.graph.initializer}


def _quantizable(model: ModelProto) -> frozenset[str]:
    """Return the names of the convolutions to quantize."""
    weights = _initializers(model)
    gates = _gates(model)
    return frozenset(
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and node.name not in gates
        and weights[node.input[1]].data_type == TensorProto.FLOAT16
        and not _sees_pixels(node, weights)
    )


def _sees_pixels(conv: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Whether a convolution has one input channel in all: the first of a network."""
    groups = next((one.i for one in conv.attribute if one.name == "group"), 1)
    return int(groups * weights[conv.input[1]].dims[1]) == 1


def _gates(model: ModelProto) -> frozenset[str]:
    """Return the nodes between the pooling of each attention gate and its Sigmoid."""
    producers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    ahead = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    while ahead:
        node = ahead.pop()
        if node.op_type in POOLING or node.name in found:
            continue
        found.add(node.name)
        ahead.extend(producers[name] for name in node.input if name in producers)
    return frozenset(found)


def _widen(model: ModelProto) -> None:
    """Make a graph in half precision one in single: constants are converted, casts dropped."""
    graph = model.graph
    for one in graph.initializer:
        if one.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(one).astype(np.float32)
            one.CopyFrom(numpy_helper.from_array(wide, one.name))
    inputs = {one.name for one in graph.input}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        _rename_inputs(node, renamed)
        if node.op_type != "Cast":
            kept.append(node)
        elif node.input[0] in inputs:
            kept.append(helper.make_node("Cast", node.input, node.output, node.name, to=1))
        else:
            renamed[node.output[0]] = node.input[0]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)


def _rename_inputs(node: NodeProto, renamed: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        node.input[index] = renamed.get(name, name)


def _tensors(model: ModelProto, chosen: Collection[str]) -> frozenset[str]:
    """Return the tensors to quantize: inputs and outputs of the chosen, and sums of these.

    A convolution's output is that of the activation behind it, which becomes part of the rounding.
    """
    consumers = defaultdict[str, list[NodeProto]](list)
    for node in model.graph.node:
        for name in node.input:
            consumers[name].append(node)
    found: set[str] = set()
    for node in model.graph.node:
        if node.name in chosen:
            behind = consumers[node.output[0]]
            is_activated = len(behind) == 1 and behind[0].op_type in ACTIVATIONS
            found |= {node.input[0], (behind[0] if is_activated else node).output[0]}
        elif node.op_type == "Add" and set(node.input) <= found:
            found.add(node.output[0])
    return frozenset(found)


@dataclass
class _Statistics:
    """A tensor on the calibration samples: extremes, mean of each channel, some of its values."""

    low: float = np.inf
    high: float = -np.inf
    values: list[Floats] = field(default_factory=list)
    means: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, batch: Floats) -> None:
        """Add a batch (N, C, h, w)."""
        self.low, self.high = min(self.low, batch.min()), max(self.high, batch.max())
        flat = batch.ravel()
        # An odd step, lest it hits the same columns of every row.
        self.values.append(flat[:: flat.size // KEPT_VALUES | 1].copy())
        self.means.append(batch.mean((0, 2, 3), dtype=np.float64))

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of each channel (C,)."""
        return np.asarray(np.mean(self.means, axis=0))

    def scale(self) -> tuple[np.float32, np.uint8]:
        """Return the scale and the zero point of least squared error."""
        values = np.concatenate(self.values)
        low, high = min(self.low, 0.0), max(self.high, 1e-6)
        errors = []
        for fraction in RANGES:
            scale = np.float32((high - low) * fraction / LEVELS)
            zero = np.uint8(round(-low * fraction / float(scale)))
            steps = np.clip(np.round(values / scale) + zero, 0, LEVELS) - zero
            errors.append((float(np.mean((values - steps * scale) ** 2)), scale, zero))
        return min(errors, key=lambda one: one[0])[1:]


def _calibrate(
    model: ModelProto, tensors: Collection[str], samples: NDArray[np.uint8]
) -> Mapping[str, _Statistics]:
    """Run the samples through the graph and return the statistics of each tensor."""
    names = sorted(tensors)
    watched = ModelProto.FromString(model.SerializeToString())
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    found = defaultdict[str, _Statistics](_Statistics)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "watched.onnx")
        onnx.save_model(watched, path)
        session = open_session(path, threads=1)
    for start in range(0, len(samples), CALIBRATION_BATCH):
        batch = {"pixels": samples[start : start + CALIBRATION_BATCH]}
        for name, values in zip(names, session.run(names, batch), strict=True):
            found[name].add(values)
    return found


def _insert(
    model: ModelProto, chosen: Collection[str], statistics: Mapping[str, _Statistics]
) -> None:
    """Insert Q/DQ behind each tensor of `statistics`, and quantize the weights of the chosen."""
    graph = model.graph
    weights = _initializers(model)
    scales = {name: one.scale() for name, one in statistics.items()}
    dequantized = {name: f"{name}_dequantized" for name in scales}
    nodes: list[NodeProto] = []
    for node in graph.node:
        source = node.input[0]
        _rename_inputs(node, dequantized)
        if node.name in chosen:
            arrays = [numpy_helper.to_array(weights[name]) for name in node.input[1:]]
            constants, added = _convolution(
                node.name, arrays, statistics[source].mean, scales[source][0]
            )
            del node.input[1:]
            node.input.extend(one.output[0] for one in added)
            graph.initializer.extend(constants)
            nodes += added
        nodes.append(node)
        for name in (one for one in node.output if one in scales):
            parameters = [f"{name}_scale", f"{name}_zero_point"]
            for parameter, value in zip(parameters, scales[name], strict=True):
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), parameter))
            rounded = f"{name}_quantized"
            nodes += [
                _node("QuantizeLinear", [name, *parameters], rounded),
                _node("DequantizeLinear", [rounded, *parameters], dequantized[name]),
            ]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(model)


def _convolution(
    name: str, arrays: Sequence[Floats], mean: NDArray[np.float64], input_scale: np.float32
) -> tuple[list[TensorProto], list[NodeProto]]:
    """Return the constants and the two DequantizeLinear of a convolution's weights and bias.

    `arrays` are its weights (O, I, h, w) and, where it has one, its bias (O,); `mean` (C,) is of
    its input's channels.
    """
    weights, bias = arrays[0], arrays[1] if len(arrays) > 1 else np.zeros(len(arrays[0]))
    scale = np.abs(weights).reshape(len(weights), -1).max(1) / MOST_WEIGHT
    # A channel of next to no weight has its bias left, which must fit into its 32 bits.
    fits = np.abs(bias) / (float(input_scale) * MOST_BIAS)
    scale = np.maximum(np.maximum(scale, fits), np.finfo(np.float32).eps).astype(np.float32)
    steps = np.round(weights / scale[:, None, None, None])
    lost = (weights - steps * scale[:, None, None, None]).sum((2, 3))  # (O, I)
    groups = len(mean) // weights.shape[1]
    inputs = np.repeat(mean.reshape(groups, -1), len(weights) // groups, 0)  # (O, I)
    whole = np.asarray(input_scale * scale, np.float32)
    shifted = np.round((bias + (lost * inputs).sum(1)) / whole)
    constants, nodes = [], []
    for part, values, its_scale in (
        ("weight", steps.astype(np.int8), scale),
        ("bias", shifted.astype(np.int32), whole),
    ):
        stem = f"{name}_{part}"
        parameters = [f"{stem}_quantized", f"{stem}_scale", f"{stem}_zero_point"]
        zeros = np.zeros(len(scale), values.dtype)
        constants += [
            numpy_helper.from_array(array, parameter)
            for array, parameter in zip((values, its_scale, zeros), parameters, strict=True)
        ]
        nodes.append(_node("DequantizeLinear", parameters, f"{stem}_dequantized", axis=0))
    return constants, nodes


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes)


def _drop_unused(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
