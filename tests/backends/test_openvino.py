"""OpenVINO: the same scores as ONNX Runtime, and bfloat16 only where it was proved."""

import json

import numpy as np
import pytest

openvino_backend = pytest.importorskip(
    "hipedge.backends.openvino", reason="openvino is not installed", exc_type=ImportError
)

from hipedge.backends import bfloat16_trial  # noqa: E402
from hipedge.backends.bfloat16_trial import Bfloat16Trial  # noqa: E402
from hipedge.backends.onnxruntime import OnnxRuntimeBackend  # noqa: E402
from hipedge.backends.parity import Parity, check_parity  # noqa: E402
from hipedge.errors import BackendError  # noqa: E402

OpenVinoBackend = openvino_backend.OpenVinoBackend
AGREES = Parity(64, 0, 0.001, 0.001, 0.0, 0, 0, 0, 1024)
DISAGREES = Parity(64, 0, 0.5, 0.001, 0.0, 0, 0, 0, 1024)


def logits(backend, samples):
    return np.stack([one.logits for one in backend.infer(samples)])


def test_single_precision_agrees_with_the_network(untrained_model):
    with OpenVinoBackend(untrained_model) as backend:
        parity = check_parity(backend, untrained_model)
    assert parity.agrees, parity.faults
    assert 0 < parity.probability_difference < 0.01


def test_its_scores_are_those_of_onnx_runtime(untrained_model):
    samples = untrained_model.golden().samples[:5]
    with OpenVinoBackend(untrained_model) as one, OnnxRuntimeBackend(untrained_model) as other:
        np.testing.assert_allclose(logits(one, samples), logits(other, samples), atol=5e-3)


def test_the_fingerprint_says_what_computes(untrained_model):
    with OpenVinoBackend(untrained_model, threads=1) as backend:
        text = str(backend.fingerprint)
    assert text.startswith("openvino=20")
    assert "provider=CPU" in text
    assert text.endswith("precision=fp32 threads=1")


@pytest.fixture
def a_cpu_with(monkeypatch):
    def set_capabilities(*capabilities):
        class Core(openvino_backend.openvino.Core):
            def get_property(self, device, name):
                if name == "OPTIMIZATION_CAPABILITIES":
                    return list(capabilities)
                return super().get_property(device, name)

        monkeypatch.setattr(openvino_backend.openvino, "Core", Core)

    return set_capabilities


@pytest.mark.parametrize(
    ("trial", "precision"),
    [
        (Bfloat16Trial(AGREES, fp32_ms=4.0, bf16_ms=2.0), "bf16"),
        (Bfloat16Trial(DISAGREES, fp32_ms=4.0, bf16_ms=2.0), "fp32"),
        (Bfloat16Trial(AGREES, fp32_ms=2.0, bf16_ms=4.0), "fp32"),
    ],
)
def test_bfloat16_is_used_where_the_model_bears_it_and_it_is_faster(
    untrained_model, a_cpu_with, monkeypatch, trial, precision
):
    a_cpu_with("FP32", "BF16")
    monkeypatch.setattr(openvino_backend, "cached_trial", lambda *_: trial)
    with OpenVinoBackend.open(untrained_model) as backend:
        assert backend.fingerprint.precision == precision
        assert backend.infer(untrained_model.golden().samples[:1])


def test_a_cpu_without_bfloat16_computes_in_single_precision(
    untrained_model, a_cpu_with, monkeypatch
):
    a_cpu_with("FP32")
    monkeypatch.setattr(openvino_backend, "cached_trial", None)
    with OpenVinoBackend.open(untrained_model) as backend:
        assert backend.fingerprint.precision == "fp32"


def test_bfloat16_is_tried_once_for_a_model(untrained_model, a_cpu_with, monkeypatch, tmp_path):
    a_cpu_with("FP32", "BF16")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = []
    compile_model = openvino_backend.openvino.Core.compile_model

    def counted(core, path, device, settings):
        opened.append(settings["INFERENCE_PRECISION_HINT"])
        return compile_model(core, path, device, settings)

    monkeypatch.setattr(openvino_backend.openvino.Core, "compile_model", counted)
    for _ in range(2):
        OpenVinoBackend.open(untrained_model, threads=1).close()
    assert opened[:2] == ["f32", "bf16"]  # the trial
    assert len(opened) == 4
    (verdict,) = (tmp_path / "hipedge" / "bfloat16").iterdir()
    chosen = bfloat16_trial._read(verdict, json.loads(verdict.read_bytes())["of"])
    assert opened[2:] == ["f32" if chosen.obstacle else "bf16"] * 2


def test_a_model_that_cannot_be_loaded_is_an_error_that_names_it(untrained_model, monkeypatch):
    broken = untrained_model.path / "README.md"
    monkeypatch.setattr(type(untrained_model), "classifier", property(lambda self: broken))
    with pytest.raises(BackendError, match=f"OpenVINO cannot load {broken}"):
        OpenVinoBackend(untrained_model)


def test_a_failure_while_it_runs_is_a_backend_error(untrained_model):
    with OpenVinoBackend(untrained_model) as backend:
        # The network halves its input five times, so that a sample of one pixel has no features.
        backend.size_px = 0
        with pytest.raises(BackendError, match="OpenVINO failed"):
            backend.infer(np.zeros((1, 1, 0, 0), np.uint8))


def test_scores_are_the_callers_own(untrained_model):
    samples = untrained_model.golden().samples
    with OpenVinoBackend(untrained_model) as backend:
        kept = backend.infer(samples[:1])[0]
        before = kept.logits.copy()
        backend.infer(samples[1:2])
        np.testing.assert_array_equal(kept.logits, before)
