"""The TensorRT backend's own logic, on a double of CUDA: nothing here has run on a GPU."""

import json
import os
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hipedge.backends import choose
from hipedge.backends.fake import FakeBackend
from hipedge.backends.tensorrt.cuda_graphs import CudaGraphs, GraphError
from hipedge.backends.tensorrt.engine_cache import (
    Device,
    EngineKey,
    Profile,
    Sidecar,
    sidecar_of,
    write_engine,
)
from hipedge.backends.tensorrt.flavours import FLAVOURS
from hipedge.backends.tensorrt.gpu import Gpu, first_gpu
from hipedge.backends.tensorrt.runtime import TensorRtBackend, obstacle
from hipedge.cli import main
from hipedge.config import Settings
from hipedge.errors import BackendError, BackendLost, InstallationError
from hipedge.export import engine
from hipedge.export.engine import ensure_engine
from hipedge.model.card import CLASSIFIER
from hipedge.perf.doctor import examine
from tests.backends import cuda_double as doubles
from tests.builders import sha


@pytest.fixture
def double():
    return doubles.Double()


@pytest.fixture
def installed(double, monkeypatch):
    """A machine on which pycuda and TensorRT are installed, by the names that they have."""
    monkeypatch.setitem(sys.modules, "pycuda", doubles.module("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", double.cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", double.module)
    return double


def backend_on(double, *, graphs=False, flavour="tensorrt", kernels=None):
    device = double.cuda.Device(0)
    gpu = Gpu(double.cuda, device.retain_primary_context(), Device("Test GPU", (8, 9)), "13.2")
    return TensorRtBackend(
        double.size_px,
        b"engine",
        gpu=gpu,
        flavour=FLAVOURS[flavour],
        module=double.module,
        graphs=CudaGraphs(double.graphs()) if graphs else None,
        kernels=kernels,
    )


def samples(count, size_px=64):
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 1, size_px, size_px), dtype=np.uint8)


def logits(scores):
    return np.stack([one.logits for one in scores])


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
@pytest.mark.parametrize("count", [1, 3, 8, 9, 30])
def test_scores_are_those_of_the_network_for_any_number_of_samples(double, count, graphs):
    batch = samples(count)
    expected = FakeBackend(64).infer(batch)
    with backend_on(double, graphs=graphs) as backend:
        for _ in range(3):
            found = backend.infer(batch)
            np.testing.assert_array_equal(logits(found), logits(expected))
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one.maps, other.maps)


def test_a_batch_goes_in_order_down_one_stream(double):
    with backend_on(double) as backend:
        before = len(double.calls)
        ticket = backend.submit(samples(2))
        submitted = double.names(before)
        backend.collect(ticket)
        streams = {call[-1] for call in double.calls[before:] if call[0] in ("htod", "dtoh")}
    assert submitted == [
        *("push", "record", "htod", "record", "set_input_shape", "execute_async_v3"),
        *("record", "dtoh", "dtoh", "record", "pop"),
    ]
    assert len(streams) == 1


def test_two_batches_are_in_flight_on_streams_and_contexts_of_their_own(double):
    with backend_on(double) as backend:
        first, second = samples(3), samples(5)
        before = len(double.calls)
        tickets = [backend.submit(first), backend.submit(second)]
        assert "synchronize" not in double.names(before)
        runs = [call for call in double.calls[before:] if call[0] == "execute_async_v3"]
        assert len({call[1] for call in runs}) == len({call[2] for call in runs}) == 2
        # Out of order, each gets its own scores.
        for ticket, batch in reversed(list(zip(tickets, (first, second), strict=True))):
            expected = logits(FakeBackend(64).infer(batch))
            np.testing.assert_array_equal(logits(backend.collect(ticket)), expected)


def test_a_long_batch_keeps_both_slots_busy(double):
    with backend_on(double) as backend:
        before = len(double.calls)
        backend.infer(samples(24))
        order = [n for n in double.names(before) if n in ("execute_async_v3", "synchronize")]
    assert (
        order
        == ["execute_async_v3"] * 2 + ["synchronize", "execute_async_v3"] + ["synchronize"] * 2
    )


def test_a_batch_may_be_written_over_as_soon_as_it_is_submitted(double):
    with backend_on(double) as backend:
        batch = samples(2)
        expected = logits(FakeBackend(64).infer(batch))
        ticket = backend.submit(batch)
        batch[:] = 0
        np.testing.assert_array_equal(logits(backend.collect(ticket)), expected)


def test_scores_stay_when_their_slot_is_used_again(double):
    with backend_on(double) as backend:
        kept = backend.collect(backend.submit(samples(2)))
        before = logits(kept)
        for count in (1, 2, 3):
            backend.infer(samples(count))
        np.testing.assert_array_equal(logits(kept), before)


def test_a_third_batch_waits_for_the_caller_to_collect(double):
    with backend_on(double) as backend:
        tickets = [backend.submit(samples(1)), backend.submit(samples(1))]
        with pytest.raises(BackendError, match="collect a batch first"):
            backend.submit(samples(1))
        backend.collect(tickets[0])
        with pytest.raises(BackendError, match="collected before"):
            backend.collect(tickets[0])
        backend.collect(backend.submit(samples(1)))


def test_a_batch_larger_than_the_engine_is_not_submitted(double):
    with backend_on(double) as backend, pytest.raises(BackendError, match="at most 8 samples"):
        backend.submit(samples(9))


def test_an_engine_for_larger_batches_takes_a_smaller_one():
    double = doubles.Double(profile=(4, 4, 8))
    batch = samples(3)
    with backend_on(double) as backend:
        found = backend.infer(batch)
        np.testing.assert_array_equal(logits(found), logits(FakeBackend(64).infer(batch)))
        assert ("set_input_shape", 4) in double.calls


def test_times_are_those_of_the_device(double):
    with backend_on(double) as backend:
        _, timing = backend.collect_timed(backend.submit(samples(1)))
    assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == (0.25, 0.25, 0.25)
    assert timing.latency_ms == 0.75
    assert timing.enqueue_ms > 0


def test_everything_is_given_back_when_it_closes(double):
    backend = backend_on(double, graphs=True)
    for _ in range(3):
        backend.infer(samples(2))
    assert double.live == 2 * 6
    backend.close()
    backend.close()
    assert double.live == 0
    assert double.names().count("detach") == 1
    with pytest.raises(BackendError, match="closed"):
        backend.submit(samples(1))


def calls_of_one_inference(graphs):
    double = doubles.Double()
    backend = backend_on(double, graphs=graphs)
    backend.infer(samples(2))
    before = len(double.calls)
    backend.infer(samples(2))
    return double.names(before)


PLAIN = calls_of_one_inference(graphs=False)
GRAPHED = calls_of_one_inference(graphs=True)
CAPTURING = ("begin_capture", "end_capture", "instantiate", "destroy")


@pytest.mark.parametrize(
    ("graphs", "number"),
    [
        *((False, number) for number in range(len(PLAIN))),
        *((True, number) for number in range(len(GRAPHED))),
    ],
)
def test_an_error_at_any_call_ends_the_backend_without_a_result(double, graphs, number):
    backend = backend_on(double, graphs=graphs)
    backend.infer(samples(2))
    double.fail_at = number
    with pytest.raises(BackendLost, match="no result of this batch is kept; start the process"):
        backend.infer(samples(2))
    # The GPU seems well again, but a context that was broken once is not asked again.
    double.fail_at = None
    before = len(double.calls)
    for attempt in (backend.infer, backend.submit):
        with pytest.raises(BackendLost):
            attempt(samples(2))
    assert len(double.calls) == before
    backend.close()


def calls_of_loading():
    double = doubles.Double()
    backend_on(double)
    return len(double.calls)


@pytest.mark.parametrize("number", range(calls_of_loading()))
def test_an_error_at_any_call_of_loading_is_an_error_that_says_so(double, number):
    double.fail_at = number
    with pytest.raises(BackendError, match="the engine cannot be loaded"):
        backend_on(double)
    assert double.names()[-1] == "detach"


def test_closing_a_lost_gpu_does_not_raise(double, caplog):
    backend = backend_on(double)
    double.fail_at = 0
    with pytest.raises(BackendLost):
        backend.infer(samples(1))
    backend.close()
    assert "freed by the end of the process" in caplog.text


def test_a_small_batch_that_comes_twice_runs_as_a_graph(double):
    with backend_on(double, graphs=True) as backend:
        backend.infer(samples(2))
        assert "begin_capture" not in double.names()
        before = len(double.calls)
        backend.infer(samples(2))
        assert [n for n in double.names(before) if n in (*CAPTURING, "launch")] == [
            *("begin_capture", "end_capture", "instantiate", "destroy", "launch")
        ]
        before = len(double.calls)
        backend.infer(samples(2))
        assert "launch" in double.names(before)
        assert "execute_async_v3" not in double.names(before)


def test_another_batch_size_makes_another_graph(double):
    with backend_on(double, graphs=True) as backend:
        for count in (2, 2, 3):
            backend.infer(samples(count))
        assert double.names().count("destroy_exec") == 1
        backend.infer(samples(3))
        assert double.names().count("begin_capture") == 2


def test_a_large_batch_does_not_run_as_a_graph():
    double = doubles.Double(profile=(1, 8, 32))
    with backend_on(double, graphs=True) as backend:
        for _ in range(3):
            backend.infer(samples(9))
    assert "begin_capture" not in double.names()


@pytest.mark.parametrize(
    "call", ["begin_capture", "execute_async_v3", "end_capture", "instantiate"]
)
def test_where_a_graph_cannot_be_captured_batches_run_without(double, monkeypatch, caplog, call):
    with backend_on(double, graphs=True) as backend:
        backend.infer(samples(2))
        assert backend.uses_graphs
        says = double.ask
        refusals = iter([True])
        monkeypatch.setattr(
            double,
            "ask",
            lambda name, *details: (
                says(name, *details) and not (name == call and next(refusals, False))
            ),
        )
        expected = logits(FakeBackend(64).infer(samples(2)))
        np.testing.assert_array_equal(logits(backend.infer(samples(2))), expected)
        assert not backend.uses_graphs
    assert "without CUDA graphs" in caplog.text


def test_the_names_of_cudas_graph_api_are_those_of_cuda_bindings():
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings: with torch")
    with pytest.raises(GraphError, match="cudaStreamBeginCapture failed: cudaError"):
        CudaGraphs(runtime).capture(0, lambda: None)
    with pytest.raises(GraphError, match="cudaGraphExecDestroy failed: cudaError"):
        CudaGraphs(runtime).free(runtime.cudaGraphExec_t())
    for name in ("cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch"):
        assert callable(getattr(runtime, name))


def test_rtx_captures_its_graphs_itself_and_keeps_what_it_compiled(double, tmp_path):
    kernels = tmp_path / "engine.kernels"
    with backend_on(double, flavour="rtx", kernels=kernels) as backend:
        assert backend.uses_graphs
        assert double.runtime_config.cuda_graph_strategy == "whole graph"
        # Nothing is compiled after the proof.
        config = double.runtime_config
        assert config.dynamic_shapes_kernel_specialization_strategy == "none"
        assert ("create_execution_context", doubles.RuntimeConfig) in double.calls
    assert kernels.read_bytes() == b"compiled kernels"
    backend_on(double, flavour="rtx", kernels=kernels).close()
    assert ("deserialize_kernels", b"compiled kernels") in double.calls


def refuse(name, double, monkeypatch):
    """Let the next call of that name fail, and no other."""
    says, refusals = double.ask, iter([True])
    monkeypatch.setattr(
        double,
        "ask",
        lambda call, *details: (
            says(call, *details) and not (call == name and next(refusals, False))
        ),
    )


def test_a_graph_whose_capture_fails_half_way_is_destroyed(double, monkeypatch):
    """CUDA gives a graph of what was enqueued until then."""
    with backend_on(double, graphs=True) as backend:
        backend.infer(samples(2))
        refuse("execute_async_v3", double, monkeypatch)
        before = len(double.calls)
        backend.infer(samples(2))
        names = double.names(before)
    assert [name for name in names if name in CAPTURING] == [
        *("begin_capture", "end_capture", "destroy")
    ]


def returns_nullptr(double):
    """As TensorRT before version 11, where CUDA cannot be initialised."""

    def construct(logger):
        raise TypeError("factory function returned nullptr")

    return construct


def returns_an_object_of_nothing(double):
    """As TensorRT 11: a call of this object would end the process."""

    def construct(logger):
        logger.log(double.module.ILogger.ERROR, "CUDA initialization failure with error: 35")
        return SimpleNamespace(deserialize_cuda_engine=os.abort)

    return construct


@pytest.mark.parametrize("constructor", [returns_nullptr, returns_an_object_of_nothing])
def test_a_runtime_that_cannot_be_initialised_is_a_backend_error(double, constructor):
    double.module.Runtime = constructor(double)
    with pytest.raises(BackendError, match=r"cannot be loaded: .*(nullptr|with error: 35)"):
        backend_on(double)
    assert double.names()[-1] == "detach"


# Opening: the cache, the proof, and what stands in the way.


@pytest.fixture
def model_on_gpu(installed, untrained_model, monkeypatch, tmp_path):
    """A GPU that knows the golden samples' scores, and an engine of the model in the cache."""
    monkeypatch.setenv("HIPEDGE_ENGINES", str(tmp_path))
    golden = untrained_model.golden()
    known = {sample.tobytes(): i for i, sample in enumerate(golden.samples)}

    def network(pixels):
        rows = [known[sample.tobytes()] for sample in pixels]
        return golden.logits[rows], golden.maps[rows]

    installed.size_px = untrained_model.card.input.size_px
    installed.network = network
    installed.profile = (1, 8, 32)
    installed.maps = untrained_model.golden().maps.shape[1:]
    key = EngineKey(
        onnx_sha256=untrained_model.card.files[CLASSIFIER],
        flavour="tensorrt",
        version="10.3.0",
        device="Test GPU (8.9)",
        targets=(),
        precision="fp16",
        profile=Profile(1, 8, 32),
    )
    sidecar = Sidecar(
        key=key,
        engine_sha256=sha("engine"),
        engine_bytes=6,
        model_id=untrained_model.model_id,
        model_name="untrained",
        hipedge="0.1.0",
        built="2026-01-01T00:00:00+00:00",
        build_s=1.0,
        optimization_level=None,
    )
    write_engine(tmp_path / "one.engine", b"engine", sidecar)
    return SimpleNamespace(
        double=installed, model=untrained_model, path=tmp_path / "one.engine", sidecar=sidecar
    )


def test_an_engine_is_proved_at_its_first_opening_on_a_gpu_and_not_again(model_on_gpu):
    double = model_on_gpu.double
    with TensorRtBackend.open(model_on_gpu.model) as backend:
        assert str(backend.fingerprint) == (
            "tensorrt=10.3.0 provider=CUDA 13.2 device=Test GPU (8.9) precision=fp16"
        )
        assert "execute_async_v3" in double.names()
    verified = json.loads(sidecar_of(model_on_gpu.path).read_text())["verified"]
    assert verified["Test GPU (8.9)"]["samples"] == 64
    assert verified["Test GPU (8.9)"]["probability_difference"] < 0.01
    before = len(double.calls)
    TensorRtBackend.open(model_on_gpu.model).close()
    assert "execute_async_v3" not in double.names(before)


def test_a_new_card_over_the_same_network_is_proved_anew(model_on_gpu):
    """Its thresholds and golden samples are others; the engine is the same."""
    double = model_on_gpu.double
    TensorRtBackend.open(model_on_gpu.model).close()
    recalibrated = replace(model_on_gpu.model, model_id=sha("another card"))
    before = len(double.calls)
    TensorRtBackend.open(recalibrated).close()
    assert "execute_async_v3" in double.names(before)
    before = len(double.calls)
    TensorRtBackend.open(recalibrated).close()
    assert "execute_async_v3" not in double.names(before)


def test_each_gpu_has_a_proof_of_its_own_and_keeps_it(model_on_gpu):
    """The engine is portable here, as one of TensorRT for RTX is."""
    portable = replace(model_on_gpu.sidecar, key=replace(model_on_gpu.sidecar.key, device=None))
    write_engine(model_on_gpu.path, b"engine", portable)
    double, names = model_on_gpu.double, ("Test GPU", "Other GPU", "Test GPU", "Other GPU")
    inferences = []
    for name in names:
        double.gpu_name = name
        before = len(double.calls)
        TensorRtBackend.open(model_on_gpu.model).close()
        inferences.append("execute_async_v3" in double.names(before))
    assert inferences == [True, True, False, False]
    verified = json.loads(sidecar_of(model_on_gpu.path).read_text())["verified"]
    assert set(verified) == {"Test GPU (8.9)", "Other GPU (8.9)"}


def test_an_engine_that_replaces_another_during_its_proof_is_not_proved_by_it(model_on_gpu, caplog):
    """As `hipedge export engine --force` does."""
    double, truth = model_on_gpu.double, model_on_gpu.double.network
    newer = replace(model_on_gpu.sidecar, engine_sha256=sha("newer engine"))

    def network(pixels):
        write_engine(model_on_gpu.path, b"newer engine", newer)
        return truth(pixels)

    double.network = network
    TensorRtBackend.open(model_on_gpu.model).close()
    assert json.loads(sidecar_of(model_on_gpu.path).read_text())["verified"] == {}
    assert "was replaced during its proof" in caplog.text


def test_a_backend_whose_proof_fails_is_closed(model_on_gpu):
    double = model_on_gpu.double
    truth = double.network
    double.maps = (8, 3, 3)
    double.network = lambda pixels: (truth(pixels)[0], np.zeros((len(pixels), 8, 3, 3), "f4"))
    with pytest.raises(BackendError, match="returns maps"):
        TensorRtBackend.open(model_on_gpu.model)
    assert double.live == 0
    assert double.names()[-1] == "detach"


@pytest.fixture
def wrong_engine(model_on_gpu):
    """An engine in the cache that was not proved yet, and disagrees."""
    truth = model_on_gpu.double.network
    model_on_gpu.double.network = lambda pixels: tuple(
        part * np.float32(1.1) for part in truth(pixels)
    )
    return model_on_gpu


def test_an_engine_that_disagrees_is_not_used(wrong_engine):
    with pytest.raises(BackendError, match=r"is not used: on Test GPU .* a probability") as caught:
        TensorRtBackend.open(wrong_engine.model)
    # It passes from process to process whole.
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.parity) == (str(caught.value), caught.value.parity)
    assert wrong_engine.double.live == 0
    assert json.loads(sidecar_of(wrong_engine.path).read_text())["verified"] == {}


def test_verify_shows_by_how_much_an_engine_disagrees_and_exits_1(wrong_engine, capsys):
    command = ["export", "verify", str(wrong_engine.model.path), "--backend", "tensorrt"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert ended.value.code == 1
    ((name, record),) = json.loads(capsys.readouterr().out).items()
    assert name.startswith("tensorrt=10.3.0")
    assert record["agrees"] is False
    assert any(fault.startswith("a probability differs by") for fault in record["faults"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "10.2.0"}, r"is for tensorrt 10.2.0 on Test GPU \(8.9\), and this is tens"),
        ({"device": "Other GPU (7.5)"}, r"is for tensorrt 10.3.0 on Other GPU \(7.5\), and this"),
        ({"onnx_sha256": sha("another model")}, "has no engine of this model for tensorrt 10.3.0"),
    ],
)
def test_a_stale_or_missing_engine_is_an_error_with_the_cure(model_on_gpu, change, message):
    stale = replace(model_on_gpu.sidecar, key=replace(model_on_gpu.sidecar.key, **change))
    write_engine(model_on_gpu.path, b"engine", stale)
    with pytest.raises(BackendError, match=message) as caught:
        TensorRtBackend.open(model_on_gpu.model)
    assert f"run `hipedge export engine {model_on_gpu.model.path}" in str(caught.value)
    assert model_on_gpu.double.names()[-1] == "detach"


def test_an_engine_is_built_where_the_cache_has_none_that_fits(model_on_gpu, monkeypatch):
    built = []
    monkeypatch.setattr(engine, "export_engine", lambda model, recipe, **how: built.append(how))
    ensure_engine(model_on_gpu.model, print)
    assert built == []
    model_on_gpu.double.module.__version__ = "10.4.0"
    ensure_engine(model_on_gpu.model, print)
    assert built == [{"device": "Test GPU (8.9)", "progress": print}]


def test_an_engine_that_was_changed_is_not_used(model_on_gpu):
    model_on_gpu.path.write_bytes(b"another")
    with pytest.raises(BackendError, match="is not the engine that its JSON describes"):
        TensorRtBackend.open(model_on_gpu.model)


def test_auto_prefers_tensorrt_where_there_is_a_gpu(installed):
    assert choose() == ("tensorrt", "first in order that can run")
    assert choose(require_gpu=True)[0] == "tensorrt"


def failing(error):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize(
    ("symptom", "cure"),
    [
        ("cuInit failed: no CUDA-capable device is detected", "a container must be given the GPU"),
        ("cuInit failed: CUDA driver version is insufficient for", "update the NVIDIA driver"),
        ("cuInit failed: unknown error", "check the NVIDIA driver with `nvidia-smi`"),
    ],
)
def test_a_gpu_that_cannot_be_used_says_why_and_what_to_do(installed, symptom, cure):
    installed.cuda.init = failing(doubles.CudaError(symptom))
    assert symptom in obstacle()
    assert cure in obstacle()
    name, reason = choose()
    assert name != "tensorrt"
    assert symptom in reason
    with pytest.raises(InstallationError, match="no backend can run: tensorrt cannot run"):
        choose(require_gpu=True)


def test_the_doctor_says_why_the_gpu_is_not_used_and_what_to_do(installed):
    installed.cuda.init = failing(doubles.CudaError("cuInit failed: no CUDA-capable device"))
    checks = {(one.section, one.name): one for one in examine(Settings())}
    check = checks["backend", "tensorrt"]
    assert check.works is None
    assert "check `nvidia-smi`" in check.cure


def test_a_missing_driver_says_so(installed, monkeypatch, tmp_path):
    broken = tmp_path / "pycuda"
    broken.mkdir()
    (broken / "__init__.py").touch()
    text = "libcuda.so.1: cannot open shared object file"
    (broken / "driver.py").write_text(f"raise ImportError({text!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name)
    assert "install the NVIDIA driver" in obstacle()


@pytest.mark.parametrize("name", ["pycuda", "tensorrt"])
def test_a_missing_package_names_what_to_install(installed, monkeypatch, name):
    for module in (name, "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InstallationError, match=r"pip install '?(hipedge\[tensorrt\]|pycuda)"):
        TensorRtBackend.open(None)
    assert choose()[0] != "tensorrt"


@pytest.fixture
def broken_tensorrt(installed, monkeypatch, tmp_path):
    """TensorRT is installed, and its libraries do not load."""
    (tmp_path / "tensorrt.py").write_text("import ctypes\nctypes.CDLL('libnvinfer.so.0')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "tensorrt")
    return installed


def test_auto_passes_over_a_tensorrt_whose_libraries_do_not_load(broken_tensorrt):
    name, reason = choose()
    assert name != "tensorrt"
    assert "tensorrt cannot be loaded (libnvinfer.so.0" in reason


def test_rtx_runs_where_the_libraries_of_tensorrt_do_not_load(
    broken_tensorrt, model_on_gpu, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", broken_tensorrt.module)
    assert choose()[0] == "tensorrt"
    key = replace(model_on_gpu.sidecar.key, flavour="rtx", device=None)
    write_engine(model_on_gpu.path, b"engine", replace(model_on_gpu.sidecar, key=key))
    with TensorRtBackend.open(model_on_gpu.model) as backend:
        assert backend.fingerprint.runtime == "tensorrt-rtx"


@pytest.fixture
def rtx_on_gpu(model_on_gpu, monkeypatch):
    """The machine of `model_on_gpu` with TensorRT for RTX instead, and an engine for it."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", model_on_gpu.double.module)
    key = replace(model_on_gpu.sidecar.key, flavour="rtx", device=None)
    write_engine(model_on_gpu.path, b"engine", replace(model_on_gpu.sidecar, key=key))
    return model_on_gpu


def test_compiled_kernels_are_saved_although_the_backend_is_never_closed(rtx_on_gpu):
    """`watch` kills the process of the backend."""
    TensorRtBackend.open(rtx_on_gpu.model)
    kernels = rtx_on_gpu.path.with_name("one.engine.kernels")
    assert kernels.read_bytes() == b"compiled kernels"


def test_kernels_that_must_be_compiled_again_are_proved_and_saved_again(rtx_on_gpu):
    double = rtx_on_gpu.double
    TensorRtBackend.open(rtx_on_gpu.model)
    kernels = rtx_on_gpu.path.with_name("one.engine.kernels")
    before = len(double.calls)
    TensorRtBackend.open(rtx_on_gpu.model)
    assert "execute_async_v3" not in double.names(before)
    kernels.unlink()
    before = len(double.calls)
    TensorRtBackend.open(rtx_on_gpu.model)
    assert "execute_async_v3" in double.names(before)
    assert kernels.exists()


def test_a_gpu_that_rtx_does_not_support_is_an_error_that_says_so(rtx_on_gpu):
    rtx_on_gpu.double.capability = (9, 0)
    with pytest.raises(BackendError, match=r"does not support Test GPU \(9\.0\): install Tens"):
        TensorRtBackend.open(rtx_on_gpu.model)


def test_asking_what_the_gpu_is_retains_no_context(installed):
    """`detach` would leave a released context on the stack, one more for each question."""
    assert str(first_gpu()) == "Test GPU (8.9)"
    assert (installed.names(), installed.retained) == (["init"], 0)


def test_compiled_kernels_that_cannot_be_read_are_a_backend_error(double, tmp_path):
    with pytest.raises(BackendError, match=f"cannot be loaded: .*Is a directory: '{tmp_path}'"):
        backend_on(double, flavour="rtx", kernels=tmp_path)
    assert double.names()[-1] == "detach"


def test_an_installation_of_type_stubs_is_not_one_of_tensorrt(monkeypatch, tmp_path):
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "TensorRT is not installed" in obstacle()
