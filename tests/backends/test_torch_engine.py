"""The stand-in engine of the GPU's acceptance: its network, and its place under the backend.

Only on CPUs: its memory and its streams are those of the stand-in for the driver.
"""

import ctypes
import inspect
from contextlib import contextmanager

import numpy as np
import pytest

from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.backends.tensorrt.flavours import FLAVOURS, load
from hipedge.backends.tensorrt.gpu import Gpu
from hipedge.backends.tensorrt.runtime import TensorRtBackend
from tests.backends.cuda_driver import Counts
from tests.backends.gpu import logits
from tests.backends.tensorrt_double import memory
from tests.export.bindings import rtx_libraries

torch = pytest.importorskip("torch", reason="the stand-in engine needs torch")
torch_engine = pytest.importorskip("benchmarks.gpu_acceptance.torch_engine")
from benchmarks.gpu_acceptance.torch_onnx import TorchGraph  # noqa: E402

NUMPY = {torch.uint8: np.uint8, torch.float32: np.float32}


@pytest.mark.parametrize("model", ["reference_model", "untrained_model"])
def test_the_graph_in_torch_is_that_of_onnx_runtime(model, request):
    """Of both backbones; only the order of additions differs."""
    folder = request.getfixturevalue(model)
    samples = folder.golden().samples[:2]
    found, maps = TorchGraph(folder.classifier.read_bytes(), "cpu")(torch.from_numpy(samples))
    with OnnxRuntimeBackend(folder, threads=1) as runtime:
        expected = runtime.infer(samples)
    for i, scores in enumerate(expected):
        np.testing.assert_allclose(found[i].numpy(), scores.logits, atol=0.05)
        np.testing.assert_allclose(maps[i].numpy(), scores.maps, atol=0.05)


@pytest.fixture
def on_host(driver, monkeypatch):
    """Let the engine use the stand-in's memory, and wait for what is on the stream before it."""

    @contextmanager
    def on_stream(handle):
        assert driver.library.cuStreamSynchronize(ctypes.c_void_p(handle)) == 0
        yield

    monkeypatch.setattr(torch_engine, "DEVICE", "cpu")
    monkeypatch.setattr(torch_engine, "on_stream", on_stream)
    monkeypatch.setattr(
        torch_engine,
        "tensor_at",
        lambda address, shape, dtype: torch.from_numpy(memory(address, shape, NUMPY[dtype])),
    )


def test_the_backend_runs_on_the_stand_in_engine(on_host, driver, reference_model):
    data, golden = reference_model.classifier.read_bytes(), reference_model.golden()
    with TensorRtBackend(
        reference_model.card.input.size_px,
        data,
        gpu=Gpu.open(),
        flavour=FLAVOURS["tensorrt"],
        module=torch_engine,
    ) as backend:
        for _ in range(2):
            found = logits(backend.infer(golden.samples[:2]))
            np.testing.assert_allclose(found, golden.logits[:2], atol=0.05)
    assert driver.counts == Counts()


def test_its_names_are_those_of_tensorrt():
    rtx_libraries()
    bindings = load(FLAVOURS["rtx"])
    classes = [one for _, one in inspect.getmembers(torch_engine, inspect.isclass)]
    own = [one for one in classes if one.__module__ == torch_engine.__name__]
    for one in own:
        names = [name for name in vars(one) if not name.startswith("_")]
        if names:
            assert [n for n in names if not hasattr(getattr(bindings, one.__name__), n)] == []
    assert {one.__name__ for one in own} >= {"Runtime", "ICudaEngine", "IExecutionContext"}
