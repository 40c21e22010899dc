"""classifier.onnx: what it holds, for runtimes that cannot be asked here."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import hipedge

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, numpy_helper  # noqa: E402

from hipedge.export.precision import set_precisions  # noqa: E402

# Operators that TensorRT 10.3 (JetPack 6), 11 and TensorRT for RTX import in these types.
TENSORRT_OPERATORS = {
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "MaxPool",
    "Mul",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Sigmoid",
    "Sub",
}


@pytest.fixture(scope="module")
def classifier(untrained_model):
    return onnx.load(untrained_model.classifier)


@pytest.fixture(scope="module")
def types(classifier):
    """The element type of every value by name, as inferred."""
    graph = onnx.shape_inference.infer_shapes(classifier, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    inferred = {value.name: value.type.tensor_type.elem_type for value in values}
    return inferred | {tensor.name: tensor.data_type for tensor in graph.initializer}


def describe(value):
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return value.name, tensor.elem_type, shape


def test_it_takes_bytes_and_gives_logits_and_maps_for_any_batch(classifier):
    assert [describe(value) for value in classifier.graph.input] == [
        ("pixels", TensorProto.UINT8, ["N", 1, 64, 64])
    ]
    assert [describe(value) for value in classifier.graph.output] == [
        ("logits", TensorProto.FLOAT, ["N", 8]),
        ("maps", TensorProto.FLOAT, ["N", 8, 4, 4]),
    ]


def test_the_backbone_is_in_half_precision_and_the_pool_and_head_are_not(classifier, types):
    convolutions = [node for node in classifier.graph.node if node.op_type == "Conv"]
    *backbone, head = convolutions
    assert {types[name] for node in backbone for name in node.input} == {TensorProto.FLOAT16}
    assert {types[name] for name in head.input} == {TensorProto.FLOAT}
    powers = [node for node in classifier.graph.node if node.op_type == "Pow"]
    assert len(powers) == 2
    assert {types[name] for node in powers for name in node.input} == {TensorProto.FLOAT}


def classify_casts(graph):
    """Count the conversions of a graph by what they are for."""
    producers = {node.output[0]: node for node in graph.node}
    found = Counter()
    for node in graph.node:
        if node.op_type != "Cast":
            continue
        to = onnx.helper.get_node_attr_value(node, "to")
        before = producers.get(node.input[0])
        behind = [other.op_type for other in graph.node if node.output[0] in other.input]
        if before is None:
            found["of the bytes"] += node.input[0] == "pixels"
        elif "ReduceMean" in (before.op_type, *behind) and "in_single_precision" in "".join(
            (*node.input, *node.output)
        ):
            found["of a mean"] += 1
        elif to == TensorProto.FLOAT:
            found["of the features, before pooling"] += behind == ["Clip"]
        else:
            found["behind the last layer in single precision"] += 1
    return found


def test_precisions_change_only_where_they_must(classifier, lite0):
    """Each conversion is a pass over memory, unless TensorRT fuses it with a layer beside it."""
    resnet = classify_casts(classifier.graph)
    assert resnet == {"of the bytes": 1, "of a mean": 2 * 19, "of the features, before pooling": 1}
    assert classify_casts(onnx.load(lite0[-1]).graph) == {
        "of the bytes": 1,
        "behind the last layer in single precision": 1,
        "of a mean": 2,
        "of the features, before pooling": 1,
    }


def half_precision_sums(model):
    """The names of the values that a graph adds up in half precision, and over which axes."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for node in graph.node:
        if (
            node.op_type in ("ReduceMean", "ReduceSum")
            and kinds.get(node.input[0]) == TensorProto.FLOAT16
        ):
            yield node.input[0], tuple(constants[node.input[1]])


@pytest.mark.parametrize("name", ["reference_model", "untrained_model"])
def test_no_sum_in_half_precision_comes_near_its_largest_number(name, request):
    """Even if a runtime adds up in half precision: 65504, of which an eighth is used at most."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = request.getfixturevalue(name)
    model = onnx.load(folder.classifier)
    sums = dict(half_precision_sums(model))
    assert sums
    model.graph.output.extend(onnx.ValueInfoProto(name=one) for one in sums)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(list(sums), {"pixels": folder.golden().samples})
    for values, axes in zip(found, sums.values(), strict=True):
        assert np.abs(values.astype(np.float32)).sum(axes).max() < 65504 / 8


# As torch exports them: the maximum in single precision, the mean in half.
REDUCTIONS = """
<ir_version: 10, opset_import: ["" : 18]>
reductions (float16[N, 128, 4, 4] x) => (float16[N, 1, 4, 4] maximum, float16[N, 1, 4, 4] mean)
<int64[1] axes = {1}>
{
    wide = Cast <to = 1> (x)
    wide_maximum = ReduceMax <keepdims = 1> (wide, axes)
    maximum = Cast <to = 10> (wide_maximum)
    mean = ReduceMean <keepdims = 1> (x, axes)
}
"""


def test_the_precision_of_reductions_changes_no_bit():
    """Maxima are exact in any precision, and ONNX Runtime adds up in single precision anyway."""
    onnxruntime = pytest.importorskip("onnxruntime")
    values = np.random.default_rng(0).normal(0, 100, (3, 128, 4, 4)).astype(np.float16)
    before, after = (onnx.parser.parse_model(REDUCTIONS) for _ in range(2))
    set_precisions(after)
    found = [
        onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(["maximum", "mean"], {"x": values})
        for model in (before, after)
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    operators = [node.op_type for node in after.graph.node]
    assert operators == ["ReduceMax", "Cast", "ReduceMean", "Cast"]


def test_the_file_says_what_it_is(untrained_model, classifier):
    said = {one.key: one.value for one in classifier.metadata_props}
    card = untrained_model.card
    assert (said["name"], said["version"]) == (card.name, card.version)
    assert said["description"] == card.status_text
    assert json.loads(said["labels"]) == [label.value for label in card.labels]
    assert said["size_px"] == "64"
    assert [said[f"{name}_mm"] for name in ("crop", "lateral", "distal")] == ["160", "10", "20"]


def test_batch_normalisation_is_folded_and_every_operator_is_one_that_tensorrt_has(classifier):
    assert {node.op_type for node in classifier.graph.node} <= TENSORRT_OPERATORS


def test_no_weight_overflows_half_precision(classifier):
    for tensor in classifier.graph.initializer:
        assert np.isfinite(numpy_helper.to_array(tensor)).all(), tensor.name


def test_runtimes_of_jetpack_6_can_read_it(classifier):
    """TensorRT 10.3 reads opsets up to 20; ONNX Runtime 1.23.2 IR versions up to 11."""
    assert [(opset.domain, opset.version) for opset in classifier.opset_import] == [("", 18)]
    assert classifier.ir_version <= 11


def test_it_is_one_file_of_some_52_megabytes(untrained_model):
    names = {path.name for path in untrained_model.path.iterdir()}
    assert names == {"README.md", "card.json", "classifier.onnx", "golden.npz"}
    assert 51e6 < untrained_model.classifier.stat().st_size < 54e6


def test_it_keeps_no_trace_of_the_machine_that_made_it(untrained_model, classifier):
    data = untrained_model.classifier.read_bytes()
    for trace in (b".py", b"site-packages", b"stack_trace", str(Path.home()).encode() + b"/"):
        assert trace not in data
    assert (classifier.producer_name, classifier.producer_version) == (
        "hipedge",
        hipedge.__version__,
    )


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """The lighter backbone from ImageNet and its file: samples, logits, maps, ONNX."""
    import torch

    from hipedge.export.onnx import export_classifier
    from hipedge.model.untrained import synthetic_crops
    from hipedge.train.network import HipNet, score

    samples = synthetic_crops(128)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HipNet("efficientnet_lite0", size_px=128)
    network.backbone.load_imagenet()
    path = tmp_path_factory.mktemp("lite0") / "classifier.onnx"
    export_classifier(network, path, size_px=128, metadata={})
    return samples, *score(network, samples), path


def test_lite0_in_half_precision_agrees_with_single(lite0):
    onnxruntime = pytest.importorskip("onnxruntime")
    samples, logits, maps, path = lite0
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found_logits, found_maps = session.run(["logits", "maps"], {"pixels": samples})
    assert maps.shape == found_maps.shape == (64, 8, 8, 8)
    assert np.abs(found_logits - logits).max() < 0.02 * logits.std()
    assert np.corrcoef(found_maps.ravel(), maps.ravel())[0, 1] > 0.999


def test_lite0_keeps_the_activation_behind_a_folded_normalisation(lite0):
    graph = onnx.load(lite0[-1]).graph
    operators = [node.op_type for node in graph.node]
    # ReLU6: of the stem, one in the first block, two in each of the 15 others; and GeM's floor.
    assert operators.count("Clip") == 1 + 1 + 2 * 15 + 1
    assert set(operators) <= TENSORRT_OPERATORS | {"Pad", "Resize"}


def test_lite0_is_a_file_of_some_six_megabytes_in_half_precision(lite0):
    assert 5.5e6 < lite0[-1].stat().st_size < 7e6
    initializers = onnx.load(lite0[-1]).graph.initializer
    large = [tensor for tensor in initializers if np.prod(tensor.dims) > 2048]
    assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}
