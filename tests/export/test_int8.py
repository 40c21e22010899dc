"""INT8: what is quantized, what its gate refuses, and when a backend takes it."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from hipedge import backends
from hipedge.backends import int8_cache
from hipedge.backends.int8_cache import Trial, record_trial, sidecar_of, trial_name, write_int8
from hipedge.errors import BackendError
from hipedge.export import int8_gate
from hipedge.types import CATEGORIES, Category

onnx = pytest.importorskip("onnx", reason="the extra `train` has onnx, which quantizes")

PROVED = Trial((), reference_ms=4.0, int8_ms=2.5)
FRACTURE = CATEGORIES.index(Category.FEMORAL_NECK_FRACTURE)


@pytest.fixture(scope="module")
def quantized(reference_model):
    """The reference model's classifier in INT8, calibrated on a quarter of the golden samples."""
    from hipedge.export.int8 import quantize

    return quantize(reference_model.classifier, reference_model.golden().samples[::4])


@pytest.fixture
def cached(quantized, reference_model, monkeypatch, tmp_path):
    """The path of the INT8 file in a cache of its own, not tried yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return write_int8(reference_model, quantized, "calibration")


def opened_precision(model, name="onnxruntime"):
    with backends.open_backend(name, model, threads=1) as backend:
        return backend.fingerprint.precision


# What is quantized


def test_all_convolutions_are_quantized_but_what_the_model_keeps_single_and_its_gates(
    quantized, reference_model
):
    halves = {
        one.name
        for one in onnx.load(reference_model.classifier).graph.initializer
        if one.data_type == onnx.TensorProto.FLOAT16 and len(one.dims) == 4
    }
    graph = onnx.load_from_string(quantized).graph
    made = {name for node in graph.node for name in node.output if node.op_type.startswith("Deq")}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    eight_bit = [node for node in convolutions if node.input[1] in made]
    kept = {node.input[1] for node in convolutions if node not in eight_bit}
    assert all(node.input[0] in made for node in eight_bit)
    assert kept & halves == {name for name in halves if "attention" in name}
    assert len(eight_bit) == len(halves - kept) > 40


def test_weights_have_seven_bits_because_processors_without_vnni_saturate(quantized):
    weights = [
        onnx.numpy_helper.to_array(one)
        for one in onnx.load_from_string(quantized).graph.initializer
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4
    ]
    assert max(np.abs(one.astype(int)).max() for one in weights) == 64


def test_a_channel_without_weight_keeps_its_bias():
    from hipedge.export.int8 import _convolution

    weights, bias = np.zeros((2, 3, 1, 1), np.float32), np.array([5.0, -0.25], np.float32)
    constants, _ = _convolution("c", [weights, bias], np.ones(3), np.float32(0.01))
    values = {one.name: onnx.numpy_helper.to_array(one) for one in constants}
    restored = values["c_bias_quantized"] * values["c_bias_scale"].astype(float)
    np.testing.assert_allclose(restored, bias, rtol=1e-4)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_each_runtime_computes_it_near_fp32_and_maps_sum_to_logits(name, cached, reference_model):
    if (reason := backends.obstacle(name)) is not None:
        pytest.skip(reason)
    golden = reference_model.golden()
    with backends.open_int8(name, reference_model, cached, threads=1) as backend:
        assert backend.fingerprint.precision == "int8"
        scores = backend.infer(golden.samples[:16])
    logits = np.stack([s.logits for s in scores])
    assert 0.001 < np.abs(logits - golden.logits[:16]).max() < 0.5
    bias = (golden.logits - golden.maps.sum((2, 3)))[0]
    sums = np.stack([s.maps.sum((1, 2)) for s in scores])
    np.testing.assert_allclose(logits - sums, np.broadcast_to(bias, sums.shape), atol=1e-3)


# The gate


class Hips:
    """Labelled hips that FP32 gets right with near certainty, `each` of every category."""

    def __init__(self, model, each=40):
        self.model, self.golden = model, model.golden()
        self.bias = np.median(self.golden.logits - self.golden.maps.sum((2, 3)), 0)
        self.truth = np.tile(np.arange(len(CATEGORIES)), each)
        self.fp32 = self.scores(self.truth)

    def scores(self, answers):
        logits = 6 * np.eye(len(CATEGORIES), dtype=np.float32)[answers]
        maps = np.repeat((logits - self.bias)[..., None], 4, 2).reshape(*logits.shape, 2, 2) / 4
        return logits, maps.astype(np.float32)

    def judge(self, int8, patients=None):
        golden = self.golden.logits, self.golden.maps
        patients = patients or [str(i) for i in range(len(self.truth))]
        return int8_gate.judge(
            (golden, golden),
            (self.fp32, int8),
            self.truth,
            patients,
            card=self.model.card,
            expected=self.golden,
        )


@pytest.fixture(scope="module")
def hips(reference_model):
    return Hips(reference_model)


def test_equal_scores_are_proved(hips):
    verdict = hips.judge(hips.scores(hips.truth))
    assert verdict.faults == ()
    assert verdict.hips == 320
    assert verdict.differences[0].name == "macro-F1"
    assert len(verdict.differences) == 1 + 2 * 7
    assert verdict.differences[0].fp32 == 1


def test_one_lost_fracture_is_one_too_many(hips):
    answers = hips.truth.copy()
    answers[FRACTURE] = CATEGORIES.index(Category.NORMAL)
    verdict = hips.judge(hips.scores(answers))
    assert verdict.category_changes == 1
    assert verdict.urgent_lost == 2  # at both operating points
    assert any("urgent flags lost" in fault for fault in verdict.faults)
    (found,) = (d for d in verdict.differences if d.name.endswith("neck_fracture, specific"))
    assert found.int8 == pytest.approx(39 / 40)
    assert found.low < -0.05
    assert "differs by" in found.fault


def test_the_interval_draws_patients_and_not_hips(hips):
    answers = hips.truth.copy()
    answers[:80] = (answers[:80] + 1) % len(CATEGORIES)
    alone = hips.judge(hips.scores(answers)).differences[0]
    families = [str(i // 80) for i in range(len(hips.truth))]
    together = hips.judge(hips.scores(answers), families).differences[0]
    assert together.int8 == alone.int8
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_few_hips_prove_nothing_even_without_a_change(reference_model):
    few = Hips(reference_model, each=5)
    verdict = few.judge(few.scores(few.truth))
    assert not verdict.category_changes
    assert "5 hips are too few, 30 are needed" in " ".join(verdict.faults)


def test_a_map_that_no_longer_sums_to_its_logit_is_refused(hips):
    logits, maps = hips.scores(hips.truth)
    faults = hips.judge((logits, maps * 1.01)).faults
    assert len(faults) == 1
    assert "heat map's sum" in faults[0]


def test_a_score_that_is_not_finite_is_refused(hips):
    logits, maps = hips.scores(hips.truth)
    logits[3, 2] = np.nan
    assert hips.judge((logits, maps)).faults == ("1 hips with NaN or infinity",)


# When a backend takes it


def test_it_is_taken_where_it_is_proved_and_faster(cached, reference_model):
    assert opened_precision(reference_model) == "fp16"
    record_trial(cached, "onnxruntime", PROVED)
    assert opened_precision(reference_model) == "int8"
    assert "proved, and 1.60 times as fast" in backends.why("onnxruntime", "r", reference_model)


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (replace(PROVED, faults=("a differs", "b differs")), "a differs, and 1 more"),
        (replace(PROVED, int8_ms=4.0), "no faster: 4.00 ms a hip, not 4.00"),
    ],
)
def test_it_is_not_taken_where_it_was_refused_or_is_no_faster(
    trial, reason, cached, reference_model
):
    record_trial(cached, "onnxruntime", trial)
    assert opened_precision(reference_model) == "fp16"
    assert reason in backends.why("onnxruntime", "first", reference_model)


def test_a_proof_holds_for_its_runtime_and_its_processor_alone(
    cached, reference_model, monkeypatch
):
    record_trial(cached, "openvino", PROVED)
    assert opened_precision(reference_model) == "fp16"
    record_trial(cached, "onnxruntime", PROVED)
    monkeypatch.setattr(int8_cache, "processor_kind", lambda: "another processor")
    assert opened_precision(reference_model) == "fp16"


def test_a_file_that_was_changed_or_is_of_another_model_is_not_taken(cached, reference_model):
    record_trial(cached, "onnxruntime", PROVED)
    other = replace(reference_model, model_id="0" * 64)
    assert int8_cache.find_int8(other, "onnxruntime")[0] is None
    cached.write_bytes(cached.read_bytes()[:-1])
    assert opened_precision(reference_model) == "fp16"
    assert "not the file" in backends.why("onnxruntime", "first", reference_model)


def test_a_json_that_cannot_be_read_costs_int8_and_not_the_run(cached, reference_model):
    sidecar_of(cached).write_text("{}")
    assert opened_precision(reference_model) == "fp16"
    with pytest.raises(BackendError, match="hipedge export int8"):
        record_trial(cached, "onnxruntime", PROVED)


def test_parity_is_checked_on_the_models_own_file(cached, reference_model):
    record_trial(cached, "onnxruntime", PROVED)
    with backends.open_backend("onnxruntime", reference_model, quantized=False) as backend:
        assert backend.fingerprint.precision == "fp16"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_refuses_a_set_that_is_too_small_and_keeps_the_report(
    reference_model, monkeypatch, tmp_path
):
    from hipedge.cli import app

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = ["export", "int8", str(reference_model.path), "--phantoms", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1, done.output
    sidecar = int8_cache.Int8Sidecar.read(sidecar_of(int8_cache.int8_path(reference_model)))
    trial = sidecar.trials[trial_name("onnxruntime")]
    assert any("too few" in fault for fault in trial.faults)
    assert trial.int8_ms > 0
    assert trial.report["map_difference"] < 1e-3
    assert opened_precision(reference_model) == "fp16"
