"""Which backend runs, and why."""

import os
import sys

import pytest

from hipedge.backends import BACKENDS, choose, missing, obstacle, open_backend
from hipedge.backends.fake import FakeBackend
from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.errors import ConfigError, InstallationError


@pytest.fixture
def on_onnxruntime_alone(monkeypatch):
    """An installation without the extras that bring faster runtimes."""
    for name in ("pycuda", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)


def test_auto_takes_the_first_that_can_run_and_says_why_not_the_others(on_onnxruntime_alone):
    name, reason = choose()
    assert name == "onnxruntime"
    assert reason == (
        "tensorrt needs pycuda: pip install 'hipedge[tensorrt]'; "
        "openvino needs openvino: pip install 'hipedge[openvino]'; first in order that can run"
    )


def test_where_a_gpu_is_required_nothing_runs_on_the_cpu(on_onnxruntime_alone):
    with pytest.raises(InstallationError, match="no backend can run: tensorrt needs pycuda"):
        choose(require_gpu=True)
    with pytest.raises(ConfigError, match="onnxruntime runs on the CPU, and a GPU is required"):
        choose("onnxruntime", require_gpu=True)


def test_a_backend_that_is_asked_for_is_taken():
    assert choose("fake") == ("fake", "requested")


def test_an_unknown_backend_is_an_error_that_lists_those_there_are():
    with pytest.raises(ConfigError, match=f"'tpu' is unknown: choose auto, {', '.join(BACKENDS)}"):
        choose("tpu")


def test_a_backend_whose_runtime_is_missing_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert missing("onnxruntime") == ("onnxruntime",)
    with pytest.raises(InstallationError, match="needs onnxruntime: pip install onnxruntime"):
        choose("onnxruntime")


def test_auto_never_falls_back_to_the_double(on_onnxruntime_alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InstallationError, match=r"no backend can run: .* onnxruntime needs"):
        choose()


@pytest.mark.parametrize(
    ("name", "backend_class"),
    [("auto", OnnxRuntimeBackend), ("onnxruntime", OnnxRuntimeBackend), ("fake", FakeBackend)],
)
def test_a_backend_is_opened_by_name(name, backend_class, on_onnxruntime_alone, untrained_model):
    with open_backend(name, untrained_model) as backend:
        assert type(backend) is backend_class


@pytest.mark.parametrize("name", BACKENDS)
def test_every_row_of_the_table_leads_to_a_backend(name, untrained_model):
    if (reason := obstacle(name)) is not None:
        pytest.skip(reason)
    with open_backend(name, untrained_model, threads=1) as backend:
        assert backend.infer(untrained_model.golden().samples[:1])


def test_only_the_runtimes_for_cpus_compete_with_the_workers_for_cores():
    assert {name for name, row in BACKENDS.items() if row.on_cpu} == {"openvino", "onnxruntime"}


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_backend_takes_no_more_cores_than_this_process_may_use(name, untrained_model):
    pytest.importorskip(name)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with open_backend(name, untrained_model) as backend:
            assert backend.fingerprint.threads == 1
        with open_backend(name, untrained_model, threads=2) as backend:
            assert backend.fingerprint.threads == 2
    finally:
        os.sched_setaffinity(0, allowed)
