"""A classifier's ONNX graph in torch: every operator in the precision that the graph gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

TYPES = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.FLOAT16: torch.float16}


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **named: Any) -> Tensor:
    top, left, bottom, right = named["pads"]
    if (top, left) != (bottom, right):
        x = functional.pad(x, (left, right, top, bottom))
        top = left = 0
    return functional.conv2d(
        x, weight, bias, named["strides"], (top, left), named["dilations"], named["group"]
    )


def _max_pool(x: Tensor, **named: Any) -> Tensor:
    return functional.max_pool2d(x, named["kernel_shape"], named["strides"], named["pads"][:2])


def _resize(x: Tensor, roi: None, scales: Tensor, **named: Any) -> Tensor:
    """Resize as torch does by default: `nearest`, `floor` and `asymmetric`."""
    assert (named["mode"], named["nearest_mode"]) == (b"nearest", b"floor")
    assert named["coordinate_transformation_mode"] == b"asymmetric"
    return functional.interpolate(x, scale_factor=scales.tolist()[2:], mode="nearest")


def _mean(x: Tensor, axes: list[int], **named: Any) -> Tensor:
    return x.mean(axes, keepdim=bool(named["keepdims"]))


def _max(x: Tensor, axes: list[int], **named: Any) -> Tensor:
    return x.amax(axes, keepdim=bool(named["keepdims"]))


def _sum(x: Tensor, axes: list[int], **named: Any) -> Tensor:
    return x.sum(axes, keepdim=bool(named["keepdims"]))


OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Cast": lambda x, to: x.to(TYPES[to]),
    "Clip": torch.clamp,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Conv": _conv,
    "Div": torch.div,
    "MaxPool": _max_pool,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Relu": torch.relu,
    "Resize": _resize,
    "Sigmoid": torch.sigmoid,
    "Sub": torch.sub,
}


class TorchGraph:
    """The graph of an ONNX file, uint8 `pixels` (N, 1, S, S) to `logits` and `maps`.

    Raises `KeyError` for an operator that no classifier of hipedge has.
    """

    def __init__(self, data: bytes, device: str) -> None:
        graph = onnx.load_model_from_string(data).graph
        self._nodes = [
            (
                OPERATORS[node.op_type],
                list(node.input),
                node.output[0],
                {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute},
            )
            for node in graph.node
        ]
        shapes = {one.name: one.type.tensor_type.shape.dim for one in (*graph.input, *graph.output)}
        self.shapes = {name: [dim.dim_value for dim in dims[1:]] for name, dims in shapes.items()}
        self._constants: dict[str, Any] = {"": None}
        for one in graph.initializer:
            values = numpy_helper.to_array(one)
            # Axes; the scales of a Resize, the only vector of four, are read on the host too.
            on_host = values.dtype == "int64" or values.shape == (4,)
            self._constants[one.name] = (
                values.tolist()
                if values.dtype == "int64"
                else torch.from_numpy(values.copy()).to("cpu" if on_host else device)
            )

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, K) and maps (N, K, h, w)."""
        values = {**self._constants, "pixels": pixels}
        for operator, inputs, output, named in self._nodes:
            values[output] = operator(*(values[name] for name in inputs), **named)
        return values["logits"], values["maps"]
