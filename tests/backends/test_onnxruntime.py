"""ONNX Runtime on a real model: the scores of FP32, whatever the batch, and no other provider."""

import dataclasses
import errno
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hipedge import onnx_session
from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.errors import BackendError
from hipedge.onnx_session import open_half_precision_session
from hipedge.train.new_model import new_model

TOLERANCE = 0.02


@pytest.fixture(scope="module")
def backend(untrained_model):
    with OnnxRuntimeBackend.open(untrained_model) as backend:
        yield backend


@pytest.fixture(scope="module")
def golden(untrained_model):
    return untrained_model.golden()


def logits_of(backend, samples):
    return np.stack([scores.logits for scores in backend.infer(samples)])


def test_logits_agree_with_fp32_torch_on_all_golden_samples(backend, golden):
    assert np.abs(logits_of(backend, golden.samples) - golden.logits).max() <= TOLERANCE


def test_the_agreement_would_fail_if_pixels_were_scaled_wrongly(backend, golden):
    darker = (golden.samples * 0.98).astype(np.uint8)
    assert np.abs(logits_of(backend, darker) - golden.logits).max() > 2 * TOLERANCE


def test_maps_agree_with_fp32_torch(backend, golden):
    maps = np.stack([scores.maps for scores in backend.infer(golden.samples)])
    assert np.abs(maps - golden.maps).max() <= TOLERANCE


def test_a_map_sums_to_its_logit_less_a_bias_that_is_the_same_for_all(backend, golden):
    scores = backend.infer(golden.samples)
    bias = [s.logits - s.maps.sum((1, 2)) for s in scores]
    np.testing.assert_allclose(bias, np.broadcast_to(bias[0], (64, 8)), atol=1e-5)


def test_neither_the_batch_nor_the_place_in_it_has_influence(backend, golden):
    together = logits_of(backend, golden.samples[:8])
    backwards = logits_of(backend, np.ascontiguousarray(golden.samples[7::-1]))[::-1]
    alone = np.concatenate([logits_of(backend, golden.samples[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(backwards, together, atol=1e-3)
    np.testing.assert_allclose(alone, together, atol=1e-3)


def test_the_number_of_threads_has_no_influence(untrained_model, backend, golden):
    with OnnxRuntimeBackend.open(untrained_model, threads=1) as single:
        assert single.fingerprint.threads == 1
        one = logits_of(single, golden.samples[:4])
    np.testing.assert_allclose(one, logits_of(backend, golden.samples[:4]), atol=1e-4)


def test_it_says_what_computes(backend):
    fingerprint = backend.fingerprint
    assert fingerprint.version == onnxruntime.__version__
    assert fingerprint.provider == "CPUExecutionProvider"
    assert fingerprint.threads == len(os.sched_getaffinity(0))


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it is installed"
)
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_it_does_not_fall_back_to_another_provider(untrained_model):
    with pytest.raises(BackendError, match="on CPUExecutionProvider instead of CUDA"):
        OnnxRuntimeBackend(untrained_model, provider="CUDAExecutionProvider")


def test_it_can_be_closed_twice(untrained_model):
    backend = OnnxRuntimeBackend.open(untrained_model)
    backend.close()
    backend.close()


def test_a_file_that_is_no_network_is_an_error(untrained_model, tmp_path):
    (tmp_path / "classifier.onnx").write_bytes(b"not a network")
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot load .*classifier\.onnx"):
        OnnxRuntimeBackend.open(dataclasses.replace(untrained_model, path=tmp_path))


def test_a_failure_while_running_is_an_error_of_the_backend(untrained_model, golden):
    """The card promises another size than the network takes."""
    card = untrained_model.card
    geometry = dataclasses.replace(card.input, size_px=32)
    lying = dataclasses.replace(untrained_model, card=dataclasses.replace(card, input=geometry))
    with OnnxRuntimeBackend.open(lying) as backend, pytest.raises(BackendError, match="failed"):
        backend.infer(np.ascontiguousarray(golden.samples[:1, :, :32, :32]))


@pytest.mark.slow
def test_logits_agree_at_full_size(tmp_path):
    pytest.importorskip("torch")
    model = new_model(tmp_path / "model", seed=1)
    golden = model.golden()
    with OnnxRuntimeBackend.open(model) as backend:
        assert np.abs(logits_of(backend, golden.samples) - golden.logits).max() <= TOLERANCE


@pytest.fixture
def profiled(monkeypatch, tmp_path):
    """A function that runs a session of `opened` and counts the kernels of each kind that ran."""
    plain = onnx_session._options

    def options(threads):
        found = plain(threads)
        found.enable_profiling, found.profile_file_prefix = True, str(tmp_path / "profile")
        return found

    monkeypatch.setattr(onnx_session, "_options", options)

    def run(session, pixels):
        scores = session.run(["logits", "maps"], {"pixels": pixels})
        events = json.loads(Path(session.end_profiling()).read_text())
        kernels = (e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time"))
        return scores, Counter(kernels)

    return run


def test_on_a_cpu_the_clips_are_part_of_the_convolutions_and_change_no_score(
    reference_model, profiled
):
    pixels, path = reference_model.golden().samples[:2], reference_model.classifier
    fused, kernels = profiled(open_half_precision_session(path, threads=1), pixels)
    plain, separate = profiled(onnx_session.open_session(path, threads=1), pixels)
    assert kernels["Clip"] == 1, "the floor of the pooling is behind no convolution"
    assert separate["Clip"] > 10, "without the second reading they are not: is it still needed?"
    for ours, theirs in zip(fused, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_without_a_place_for_a_temporary_file_the_backend_still_opens(
    untrained_model, golden, monkeypatch, caplog
):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(onnx_session.tempfile, "TemporaryDirectory", full)
    with OnnxRuntimeBackend.open(untrained_model) as backend:
        found = logits_of(backend, golden.samples[:4])
    assert np.abs(found - golden.logits[:4]).max() <= TOLERANCE
    assert "runs more slowly: [Errno 28]" in caplog.text
