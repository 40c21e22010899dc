"""The TensorRT backend with the real pycuda on a stand-in for the driver, and a double of TensorRT.

Nothing here has run on a GPU.
"""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from hipedge.backends.fake import FakeBackend
from hipedge.backends.tensorrt.cuda_graphs import CudaGraphs, GraphError
from hipedge.errors import BackendError
from hipedge.pipeline.batching import BatchScheduler
from tests.backends.cuda_driver import Counts
from tests.backends.gpu import backend_on, in_thread, logits, samples
from tests.backends.tensorrt_double import ICudaEngine, TensorRt
from tests.pipeline.test_batching import await_films, prepared

COPIES = ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync")
CAPTURING = (
    *("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"),
    "cuGraphDestroy",
)


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
@pytest.mark.parametrize("count", [1, 3, 8, 9, 30])
def test_scores_are_those_of_the_network_for_any_number_of_samples(tensorrt, count, graphs):
    batch = samples(count)
    expected = FakeBackend(64).infer(batch)
    with backend_on(tensorrt, graphs=graphs) as backend:
        for _ in range(3):
            found = backend.infer(batch)
            np.testing.assert_array_equal(logits(found), logits(expected))
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one.maps, other.maps)


def test_a_batch_is_copied_computed_and_copied_back(tensorrt, driver):
    with backend_on(tensorrt) as backend:
        before = driver.call_count()
        ticket = backend.submit(samples(2))
        submitted = driver.names(before)
        backend.collect(ticket)
    assert submitted == [
        *("cuCtxPushCurrent", "cuEventRecord", "cuMemcpyHtoDAsync", "cuEventRecord"),
        *("set_input_shape", "execute_async_v3", "cuLaunchHostFunc", "cuEventRecord"),
        *("cuMemcpyDtoHAsync", "cuMemcpyDtoHAsync", "cuEventRecord", "cuCtxPopCurrent"),
    ]


def test_two_batches_are_in_flight_on_streams_and_contexts_of_their_own(tensorrt, driver):
    with backend_on(tensorrt) as backend:
        first, second = samples(3), samples(5)
        before = driver.call_count()
        tickets = [backend.submit(first), backend.submit(second)]
        assert "cuEventSynchronize" not in driver.names(before)
        assert driver.counts.streams == 2
        # Out of order, each gets its own scores.
        for ticket, batch in reversed(list(zip(tickets, (first, second), strict=True))):
            expected = logits(FakeBackend(64).infer(batch))
            np.testing.assert_array_equal(logits(backend.collect(ticket)), expected)


def test_a_long_batch_keeps_both_slots_busy(tensorrt, driver):
    with backend_on(tensorrt) as backend:
        before = driver.call_count()
        backend.infer(samples(24))
        steps = ("execute_async_v3", "cuEventSynchronize")
        order = [name for name in driver.names(before) if name in steps]
    assert order == [steps[0]] * 2 + [steps[1], steps[0]] + [steps[1]] * 2


def test_a_batch_may_be_written_over_as_soon_as_it_is_submitted(tensorrt):
    with backend_on(tensorrt) as backend:
        batch = samples(2)
        expected = logits(FakeBackend(64).infer(batch))
        ticket = backend.submit(batch)
        batch[:] = 0
        np.testing.assert_array_equal(logits(backend.collect(ticket)), expected)


def test_scores_stay_when_their_slot_is_used_again(tensorrt):
    with backend_on(tensorrt) as backend:
        kept = backend.collect(backend.submit(samples(2)))
        before = logits(kept)
        for count in (1, 2, 3):
            backend.infer(samples(count))
        np.testing.assert_array_equal(logits(kept), before)


def test_a_third_batch_waits_for_the_caller_to_collect(tensorrt):
    with backend_on(tensorrt) as backend:
        tickets = [backend.submit(samples(1)), backend.submit(samples(1))]
        with pytest.raises(BackendError, match="collect a batch first"):
            backend.submit(samples(1))
        backend.collect(tickets[0])
        with pytest.raises(BackendError, match="collected before"):
            backend.collect(tickets[0])
        backend.collect(backend.submit(samples(1)))


def test_a_batch_larger_than_the_engine_is_not_submitted(tensorrt):
    with backend_on(tensorrt) as backend, pytest.raises(BackendError, match="at most 8 samples"):
        backend.submit(samples(9))


def test_an_engine_for_larger_batches_takes_a_smaller_one(driver):
    batch = samples(3)
    with backend_on(TensorRt(driver, profile=(4, 4, 8))) as backend:
        found = backend.infer(batch)
        np.testing.assert_array_equal(logits(found), logits(FakeBackend(64).infer(batch)))


def test_times_are_those_of_the_device(tensorrt):
    """The stand-in takes a millisecond for each copy, computation and recording of an event."""
    with backend_on(tensorrt) as backend:
        _, timing = backend.collect_timed(backend.submit(samples(1)))
    assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == (2.0, 2.0, 3.0)
    assert timing.latency_ms == 7.0
    assert timing.enqueue_ms > 0


def test_waiting_for_a_batch_leaves_the_core_to_others(tensorrt, driver):
    with backend_on(tensorrt) as backend:
        backend.infer(samples(24))
        assert driver.names().count("cuEventSynchronize") == 3
        assert driver.counts.spinning_waits == 0


# Giving back: in a thread, as the line does.


def life(tensorrt, *, graphs):
    backend = backend_on(tensorrt, graphs=graphs)
    for _ in range(3):
        backend.infer(samples(2))
    held = tensorrt.driver.counts
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.submit(samples(1))
    return held


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_everything_is_given_back_when_it_closes(tensorrt, driver, graphs):
    held = in_thread(lambda: life(tensorrt, graphs=graphs))
    per_slot = {"device_memory": 3, "host_memory": 3, "streams": 1, "events": 4}
    two_slots = {name: 2 * count for name, count in per_slot.items()}
    # Each batch of two goes to the first slot.
    assert held == Counts(references=1, executables=int(graphs), **two_slots)
    assert driver.counts == Counts()
    assert (tensorrt.lives, tensorrt.faults) == (0, [])


def test_backends_that_open_and_close_leave_nothing(tensorrt, driver):
    def lives():
        for _ in range(3):
            backend_on(tensorrt).close()
        return driver.counts

    assert in_thread(lives) == Counts()


@pytest.mark.parametrize("collected", [0, 1])
def test_closing_with_batches_in_flight_waits_for_them(tensorrt, driver, collected):
    """As Ctrl-C does: what the GPU still writes must not be freed."""

    def interrupted():
        with backend_on(tensorrt) as backend:
            tickets = [backend.submit(samples(2)), backend.submit(samples(3))]
            for ticket in tickets[:collected]:
                backend.collect(ticket)

    in_thread(interrupted)
    assert driver.counts == Counts()
    assert (tensorrt.lives, tensorrt.faults) == (0, [])


@pytest.mark.parametrize(
    "call",
    ["cuStreamCreate", "cuEventCreate", "cuMemAlloc_v2", "cuMemHostAlloc", "set_tensor_address"],
)
@pytest.mark.parametrize("use", [1, 2])
def test_an_engine_that_cannot_be_loaded_leaves_nothing(tensorrt, driver, call, use):
    driver.fail_use(call, use)
    with pytest.raises(BackendError, match="the engine cannot be loaded") as caught:
        in_thread(lambda: backend_on(tensorrt))
    # While the error, whose frames refer to the backend, is still there.
    assert driver.counts == Counts()
    assert (tensorrt.lives, tensorrt.faults) == (0, [])
    del caught


def test_the_pipeline_that_is_interrupted_leaves_nothing(tensorrt, driver):
    """Its thread opens and closes the backend, here with batches in flight and films waiting."""
    with BatchScheduler(lambda: backend_on(tensorrt)) as batches:
        batches.submit([prepared(str(number)) for number in range(100)])
        await_films(batches, 1)
    assert "execute_async_v3" in driver.names()
    assert driver.counts == Counts()
    assert (tensorrt.lives, tensorrt.faults) == (0, [])


# CUDA graphs.


def test_a_small_batch_that_comes_twice_runs_as_a_graph(tensorrt, driver):
    with backend_on(tensorrt, graphs=True) as backend:
        backend.infer(samples(2))
        assert "cuStreamBeginCapture" not in driver.names()
        before = driver.call_count()
        backend.infer(samples(2))
        found = [n for n in driver.names(before) if n in (*CAPTURING, "cuGraphLaunch")]
        assert found == [*CAPTURING, "cuGraphLaunch"]
        before = driver.call_count()
        backend.infer(samples(2))
        assert "cuGraphLaunch" in driver.names(before)
        assert "execute_async_v3" not in driver.names(before)


def test_another_batch_size_makes_another_graph(tensorrt, driver):
    with backend_on(tensorrt, graphs=True) as backend:
        for count in (2, 2, 3):
            backend.infer(samples(count))
        assert driver.counts.executables == 0
        backend.infer(samples(3))
        assert driver.counts.executables == 1


def test_a_large_batch_does_not_run_as_a_graph(driver):
    with backend_on(TensorRt(driver, profile=(1, 8, 32)), graphs=True) as backend:
        for _ in range(3):
            backend.infer(samples(9))
    assert "cuStreamBeginCapture" not in driver.names()


@pytest.mark.parametrize(
    "call",
    [
        *("cuStreamBeginCapture_v2", "execute_async_v3", "cuStreamEndCapture"),
        "cuGraphInstantiateWithFlags",
    ],
)
def test_where_a_graph_cannot_be_captured_batches_run_without(tensorrt, driver, caplog, call):
    with backend_on(tensorrt, graphs=True) as backend:
        backend.infer(samples(2))
        assert backend.uses_graphs
        driver.fail_use(call)
        expected = logits(FakeBackend(64).infer(samples(2)))
        np.testing.assert_array_equal(logits(backend.infer(samples(2))), expected)
        assert not backend.uses_graphs
        # Of a capture that ended half way too.
        assert driver.counts.graphs == 0
    assert "without CUDA graphs" in caplog.text
    assert driver.counts == Counts()


def test_the_names_of_cudas_graph_api_are_those_of_cuda_bindings():
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings: with torch")
    with pytest.raises(GraphError, match="cudaStreamBeginCapture failed: cudaError"):
        CudaGraphs(runtime).capture(0, lambda: None)
    with pytest.raises(GraphError, match="cudaGraphExecDestroy failed: cudaError"):
        CudaGraphs(runtime).free(runtime.cudaGraphExec_t())
    for name in ("cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch"):
        assert callable(getattr(runtime, name))


# TensorRT for RTX.


def test_rtx_captures_its_graphs_itself_and_keeps_what_it_compiled(tensorrt, driver, tmp_path):
    kernels = tmp_path / "engine.kernels"
    with backend_on(tensorrt, flavour="rtx", kernels=kernels) as backend:
        assert backend.uses_graphs
        config = tensorrt.runtime_config
        assert config.cuda_graph_strategy == "whole graph"
        # Nothing is compiled after the proof.
        assert config.dynamic_shapes_kernel_specialization_strategy == "none"
        assert tensorrt.settings == [(config,)] * 2
    assert kernels.read_bytes() == b"compiled kernels"
    assert tensorrt.kernels_read == []
    backend_on(tensorrt, flavour="rtx", kernels=kernels).close()
    assert tensorrt.kernels_read == [b"compiled kernels"]
    # It has serialised its kernels with a context, and destroyed everything with one.
    tensorrt.runtime_config = None
    tensorrt.settings.clear()
    assert tensorrt.faults == []
    assert driver.counts == Counts()


def test_kernels_that_rtx_does_not_return_are_not_saved(tensorrt, caplog, tmp_path):
    tensorrt.kernels = None
    kernels = tmp_path / "engine.kernels"
    backend_on(tensorrt, flavour="rtx", kernels=kernels).close()
    assert not kernels.exists()
    assert "RTX will compile again" in caplog.text


def test_compiled_kernels_that_cannot_be_read_are_a_backend_error(tensorrt, driver, tmp_path):
    with pytest.raises(BackendError, match=f"cannot be loaded: .*Is a directory: '{tmp_path}'"):
        backend_on(tensorrt, flavour="rtx", kernels=tmp_path)
    assert driver.counts == Counts()


def test_an_interrupt_while_an_engine_is_loaded_leaves_nothing(tensorrt, driver, monkeypatch):
    def interrupt(*_):
        assert driver.counts.streams == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(ICudaEngine, "get_tensor_shape", interrupt)
    with pytest.raises(KeyboardInterrupt):
        in_thread(lambda: backend_on(tensorrt))
    assert driver.counts == Counts()
    assert (tensorrt.lives, tensorrt.faults) == (0, [])


def returns_nullptr(tensorrt):
    """As TensorRT before version 11, where CUDA cannot be initialised."""

    def construct(logger):
        raise TypeError("factory function returned nullptr")

    return construct


def returns_an_object_of_nothing(tensorrt):
    """As TensorRT 11: a call of this object would end the process."""

    def construct(logger):
        logger.log(tensorrt.module.ILogger.ERROR, "CUDA initialization failure with error: 35")
        return SimpleNamespace(deserialize_cuda_engine=os.abort)

    return construct


@pytest.mark.parametrize("constructor", [returns_nullptr, returns_an_object_of_nothing])
def test_a_runtime_that_cannot_be_initialised_is_a_backend_error(tensorrt, driver, constructor):
    tensorrt.module.Runtime = constructor(tensorrt)
    with pytest.raises(BackendError, match=r"cannot be loaded: .*(nullptr|with error: 35)"):
        backend_on(tensorrt)
    assert driver.counts == Counts()
