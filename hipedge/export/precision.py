"""The precision of reductions in a classifier's ONNX graph, which torch's exporter decides badly.

It computes maxima of half-precision values in single precision, which changes nothing, and sums
them in half precision, whose largest number is 65504.
"""

from __future__ import annotations

from math import prod

import onnx
from onnx import TensorProto, helper, numpy_helper

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT

# Of so many features the sum stays in range up to a mean of 1023. Their cubes, which the network
# pools in single precision anyway, leave it from 40 on.
MOST_HALF_SUMMANDS = 64

# The names of the nodes that are inserted.
WIDENED, NARROWED = "sum_in_single_precision", "mean_in_half_precision"


def set_precisions(model: onnx.ModelProto) -> None:
    """Compute maxima in the precision of their input, and long means in single precision.

    Both give the same scores in ONNX Runtime, which has no reduction in half precision on CPUs.
    """
    graph = model.graph
    _maxima_in_half(graph)
    shapes = _shapes(model)
    axes = {one.name: numpy_helper.to_array(one).tolist() for one in graph.initializer
            if one.data_type == TensorProto.INT64}  # fmt: skip
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "ReduceMean" and shapes[node.input[0]][0] == HALF:
            _, shape = shapes[node.input[0]]
            summands = prod(shape[axis] for axis in axes[node.input[1]])
            nodes += [node] if summands <= MOST_HALF_SUMMANDS else _in_single(node)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _maxima_in_half(graph: onnx.GraphProto) -> None:
    """Remove the conversion before each ReduceMax of half-precision values, and the one behind."""
    producers = {node.output[0]: node for node in graph.node}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    removed = []
    for maximum in [node for node in graph.node if node.op_type == "ReduceMax"]:
        before, behind = producers.get(maximum.input[0]), consumers.get(maximum.output[0], [])
        if before is None or not _casts_to(before, SINGLE):
            continue
        if len(behind) != 1 or not _casts_to(behind[0], HALF):
            continue
        maximum.input[0], maximum.output[0] = before.input[0], behind[0].output[0]
        removed.append(behind[0])
        if len(consumers[before.output[0]]) == 1:
            removed.append(before)
    for node in removed:
        graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == kind


def _in_single(mean: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return a mean with a conversion to single precision before it, and back behind it."""
    source, result = mean.input[0], mean.output[0]
    wide, wide_result = f"{result}_{WIDENED}", f"{result}_in_single_precision"
    mean.input[0], mean.output[0] = wide, wide_result
    return [
        helper.make_node("Cast", [source], [wide], name=f"{WIDENED}_{result}", to=SINGLE),
        mean,
        helper.make_node("Cast", [wide_result], [result], name=f"{NARROWED}_{result}", to=HALF),
    ]


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return the type and the shape of each value; an unknown dimension, the batch, is 0."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {one.name: one.type.tensor_type for one in (*graph.value_info, *graph.input)}
    return {
        name: (value.elem_type, tuple(dim.dim_value for dim in value.shape.dim))
        for name, value in values.items()
    }
