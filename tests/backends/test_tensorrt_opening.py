"""Opening the TensorRT backend: the cache of engines, the proof, and what may prevent it.

With the real pycuda on a stand-in for the driver, and a double of TensorRT.
"""

import json
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hipedge.backends import choose
from hipedge.backends.tensorrt.engine_cache import (
    EngineKey,
    Profile,
    Sidecar,
    sidecar_of,
    write_engine,
)
from hipedge.backends.tensorrt.gpu import first_gpu
from hipedge.backends.tensorrt.runtime import TensorRtBackend, obstacle
from hipedge.cli import main
from hipedge.config import Settings
from hipedge.errors import BackendError, BackendLost, InstallationError
from hipedge.export import engine
from hipedge.export.engine import ensure_engine
from hipedge.model.card import CLASSIFIER
from hipedge.perf.doctor import examine
from tests.backends.cuda_driver import Counts
from tests.backends.gpu import GPU_NAME
from tests.builders import sha

# What CUDA's initialisation may return.
NO_DEVICE, DRIVER_MISMATCH, UNKNOWN = 100, 803, 999


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
        device=GPU_NAME,
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
        tensorrt=installed, model=untrained_model, path=tmp_path / "one.engine", sidecar=sidecar
    )


def is_proved(machine, model=None):
    """Open and close the backend; return whether the engine has run."""
    before = machine.tensorrt.driver.call_count()
    TensorRtBackend.open(model or machine.model).close()
    return "execute_async_v3" in machine.tensorrt.driver.names(before)


def test_an_engine_is_proved_at_its_first_opening_on_a_gpu_and_not_again(model_on_gpu):
    with TensorRtBackend.open(model_on_gpu.model) as backend:
        assert str(backend.fingerprint) == (
            f"tensorrt=10.3.0 provider=CUDA 13.2 device={GPU_NAME} precision=fp16"
        )
        assert "execute_async_v3" in model_on_gpu.tensorrt.driver.names()
    verified = json.loads(sidecar_of(model_on_gpu.path).read_text())["verified"]
    assert verified[GPU_NAME]["samples"] == 64
    assert verified[GPU_NAME]["probability_difference"] < 0.01
    assert not is_proved(model_on_gpu)


def test_a_new_card_over_the_same_network_is_proved_anew(model_on_gpu):
    """Its thresholds and golden samples are others; the engine is the same."""
    TensorRtBackend.open(model_on_gpu.model).close()
    recalibrated = replace(model_on_gpu.model, model_id=sha("another card"))
    assert is_proved(model_on_gpu, recalibrated)
    assert not is_proved(model_on_gpu, recalibrated)


def test_each_gpu_has_a_proof_of_its_own_and_keeps_it(model_on_gpu):
    """The engine is portable here, as one of TensorRT for RTX is."""
    portable = replace(model_on_gpu.sidecar, key=replace(model_on_gpu.sidecar.key, device=None))
    write_engine(model_on_gpu.path, b"engine", portable)
    proved = []
    for name in ("Test GPU", "Other GPU", "Test GPU", "Other GPU"):
        model_on_gpu.tensorrt.driver.start(name)
        proved.append(is_proved(model_on_gpu))
    assert proved == [True, True, False, False]
    verified = json.loads(sidecar_of(model_on_gpu.path).read_text())["verified"]
    assert set(verified) == {GPU_NAME, GPU_NAME.replace("Test", "Other")}


def test_an_engine_of_a_smaller_gpu_of_the_same_name_is_not_used(model_on_gpu):
    """All Jetson Orin have one name and one capability, from 8 multiprocessors to 16."""
    TensorRtBackend.open(model_on_gpu.model).close()
    model_on_gpu.tensorrt.driver.start(multiprocessors=8)
    with pytest.raises(BackendError, match=r"46 multiprocessors\), and this is .*, 8 multi"):
        TensorRtBackend.open(model_on_gpu.model)


def test_an_engine_that_replaces_another_during_its_proof_is_not_proved_by_it(model_on_gpu, caplog):
    """As `hipedge export engine --force` does."""
    truth = model_on_gpu.tensorrt.network
    newer = replace(model_on_gpu.sidecar, engine_sha256=sha("newer engine"))

    def network(pixels):
        write_engine(model_on_gpu.path, b"newer engine", newer)
        return truth(pixels)

    model_on_gpu.tensorrt.network = network
    TensorRtBackend.open(model_on_gpu.model).close()
    assert json.loads(sidecar_of(model_on_gpu.path).read_text())["verified"] == {}
    assert "was replaced during its proof" in caplog.text


def test_a_backend_whose_proof_fails_is_closed(model_on_gpu):
    tensorrt = model_on_gpu.tensorrt
    truth = tensorrt.network
    tensorrt.maps = (8, 3, 3)
    tensorrt.network = lambda pixels: (truth(pixels)[0], np.zeros((len(pixels), 8, 3, 3), "f4"))
    with pytest.raises(BackendError, match="returns maps"):
        TensorRtBackend.open(model_on_gpu.model)
    assert tensorrt.driver.counts == Counts()


@pytest.fixture
def wrong_engine(model_on_gpu):
    """An engine in the cache that was not proved yet, and disagrees."""
    truth = model_on_gpu.tensorrt.network
    model_on_gpu.tensorrt.network = lambda pixels: tuple(
        part * np.float32(1.1) for part in truth(pixels)
    )
    return model_on_gpu


def test_an_engine_that_disagrees_is_not_used(wrong_engine):
    with pytest.raises(BackendError, match=r"is not used: on Test GPU .* a probability") as caught:
        TensorRtBackend.open(wrong_engine.model)
    # It passes from process to process whole.
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.parity) == (str(caught.value), caught.value.parity)
    assert wrong_engine.tensorrt.driver.counts == Counts()
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
        (
            {"version": "10.2.0"},
            r"is for tensorrt 10.2.0 on Test GPU \(8.9, .*\), and this is t",
        ),
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
    assert model_on_gpu.tensorrt.driver.counts == Counts()


def test_an_engine_is_built_where_the_cache_has_none_that_fits(model_on_gpu, monkeypatch):
    built = []
    monkeypatch.setattr(engine, "export_engine", lambda model, recipe, **how: built.append(how))
    ensure_engine(model_on_gpu.model, print)
    assert built == []
    model_on_gpu.tensorrt.module.__version__ = "10.4.0"
    ensure_engine(model_on_gpu.model, print)
    assert built == [{"device": GPU_NAME, "progress": print}]


def test_an_engine_that_was_changed_is_not_used(model_on_gpu):
    model_on_gpu.path.write_bytes(b"another")
    with pytest.raises(BackendError, match="is not the engine that its JSON describes"):
        TensorRtBackend.open(model_on_gpu.model)


def test_auto_prefers_tensorrt_where_there_is_a_gpu(installed):
    assert choose() == ("tensorrt", "first in order that can run")
    assert choose(require_gpu=True)[0] == "tensorrt"


@pytest.mark.parametrize(
    ("init", "symptom", "cure"),
    [
        (NO_DEVICE, "no CUDA-capable device is detected", "a container must be given the GPU"),
        (DRIVER_MISMATCH, "unsupported display driver", "update the NVIDIA driver, or restart"),
        (UNKNOWN, "unknown error", "check the NVIDIA driver with `nvidia-smi`"),
    ],
)
def test_a_gpu_that_cannot_be_used_says_why_and_what_to_do(installed, driver, init, symptom, cure):
    driver.start(init=init)
    assert symptom in obstacle()
    assert cure in obstacle()
    name, reason = choose()
    assert name != "tensorrt"
    assert symptom in reason
    with pytest.raises(InstallationError, match="no backend can run: tensorrt cannot run"):
        choose(require_gpu=True)


def test_the_doctor_says_why_the_gpu_is_not_used_and_what_to_do(installed, driver):
    driver.start(init=NO_DEVICE)
    checks = {(one.section, one.name): one for one in examine(Settings())}
    check = checks["backend", "tensorrt"]
    assert check.works is None
    assert "check `nvidia-smi`" in check.cure


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("libcuda.so.1: cannot open shared object file", "install the NVIDIA driver"),
        ("_driver.so: undefined symbol: cuCtxCreate_v4", "compile pycuda again"),
    ],
)
def test_a_pycuda_that_cannot_be_imported_says_why(installed, monkeypatch, tmp_path, text, cure):
    broken = tmp_path / "pycuda"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "driver.py").write_text(f"raise ImportError({text!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name)
    assert text in obstacle()
    assert cure in obstacle()


@pytest.mark.parametrize("name", ["pycuda", "tensorrt"])
def test_a_missing_package_names_what_to_install(installed, monkeypatch, name):
    for module in (name, "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    message = r"pip install '?(hipedge\[tensorrt-cu13\]|pycuda)"
    with pytest.raises(InstallationError, match=message):
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
def lean_on_gpu(model_on_gpu, monkeypatch):
    """The machine of `model_on_gpu` with the lean runtime alone, and no engine for it."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_lean", model_on_gpu.tensorrt.module)
    model_on_gpu.tensorrt.module.__version__ = "10.16.0"
    return model_on_gpu


def test_the_lean_runtime_runs_an_engine_of_an_earlier_version_and_proves_it(lean_on_gpu):
    key = replace(lean_on_gpu.sidecar.key, lean=True)
    write_engine(lean_on_gpu.path, b"engine", replace(lean_on_gpu.sidecar, key=key))
    assert is_proved(lean_on_gpu)
    with TensorRtBackend.open(lean_on_gpu.model) as backend:
        assert str(backend.fingerprint).startswith("tensorrt-lean=10.16.0 ")


def test_a_machine_with_the_lean_runtime_alone_says_where_to_build(lean_on_gpu, monkeypatch):
    for module in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    message = "engine .* --flavour tensorrt --lean`, on a machine with TensorRT and such a GPU"
    with pytest.raises(BackendError, match=message):
        TensorRtBackend.open(lean_on_gpu.model)
    with pytest.raises(BackendError, match=message):
        ensure_engine(lean_on_gpu.model, print)


@pytest.fixture
def rtx_on_gpu(model_on_gpu, monkeypatch):
    """The machine of `model_on_gpu` with TensorRT for RTX instead, and an engine for it."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", model_on_gpu.tensorrt.module)
    key = replace(model_on_gpu.sidecar.key, flavour="rtx", device=None)
    write_engine(model_on_gpu.path, b"engine", replace(model_on_gpu.sidecar, key=key))
    return model_on_gpu


def kernels(machine):
    return [path.name for path in machine.path.parent.glob("*.kernels")]


def test_compiled_kernels_are_saved_although_the_backend_is_never_closed(rtx_on_gpu):
    """`watch` kills the process of the backend."""
    TensorRtBackend.open(rtx_on_gpu.model)
    assert kernels(rtx_on_gpu) == ["one.engine.Test-GPU-8.9-46-multiprocessors.kernels"]


def test_kernels_that_must_be_compiled_again_are_proved_and_saved_again(rtx_on_gpu):
    assert is_proved(rtx_on_gpu)
    assert not is_proved(rtx_on_gpu)
    (name,) = kernels(rtx_on_gpu)
    rtx_on_gpu.path.with_name(name).unlink()
    assert is_proved(rtx_on_gpu)
    assert kernels(rtx_on_gpu) == [name]


def test_each_gpu_has_kernels_of_its_own(rtx_on_gpu):
    """A folder of engines may be shared, or move with its disk to another machine."""
    TensorRtBackend.open(rtx_on_gpu.model).close()
    rtx_on_gpu.tensorrt.driver.start(multiprocessors=84)
    TensorRtBackend.open(rtx_on_gpu.model).close()
    assert rtx_on_gpu.tensorrt.kernels_read == []
    assert len(kernels(rtx_on_gpu)) == 2


def test_a_gpu_that_is_lost_before_its_kernels_are_saved_is_a_backend_error(rtx_on_gpu):
    driver = rtx_on_gpu.tensorrt.driver
    TensorRtBackend.open(rtx_on_gpu.model).close()
    pushes = driver.names().count("cuCtxPushCurrent")
    for path in rtx_on_gpu.path.parent.glob("*.kernels"):
        path.unlink()
    driver.start()
    # After that one come three: of closing, to save them again, to free the memory, to detach.
    driver.fail_use("cuCtxPushCurrent_v2", pushes - 3)
    with pytest.raises(BackendLost):
        TensorRtBackend.open(rtx_on_gpu.model)
    assert kernels(rtx_on_gpu) == []


def test_a_gpu_that_rtx_does_not_support_is_an_error_that_says_so(rtx_on_gpu):
    rtx_on_gpu.tensorrt.driver.start(capability=(9, 0))
    with pytest.raises(BackendError, match=r"does not support Test GPU \(9\.0, .*install Tens"):
        TensorRtBackend.open(rtx_on_gpu.model)


def test_no_engine_is_built_for_a_gpu_that_rtx_does_not_support(rtx_on_gpu, monkeypatch):
    """It would be built in vain: RTX refuses the GPU when the engine is loaded."""
    rtx_on_gpu.tensorrt.driver.start(capability=(9, 0))
    built = []
    monkeypatch.setattr(engine, "export_engine", lambda model, recipe, **how: built.append(recipe))
    with pytest.raises(BackendError, match=r"does not support Test GPU \(9\.0"):
        ensure_engine(rtx_on_gpu.model, print)
    assert built == []


def test_asking_what_the_gpu_is_retains_no_context(driver):
    assert str(first_gpu()) == GPU_NAME
    assert "cuDevicePrimaryCtxRetain" not in driver.names()


def test_an_installation_of_type_stubs_is_not_one_of_tensorrt(monkeypatch, tmp_path):
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "TensorRT is not installed" in obstacle()
