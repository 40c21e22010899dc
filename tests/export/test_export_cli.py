"""`hipedge export`, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hipedge.backends import BACKENDS, BackendRow
from hipedge.cli import main
from tests.export.bindings import ROOT, rtx_libraries
from tests.processes import heed_interrupts


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_an_engine_is_built_and_the_next_command_is_printed(
    untrained_model, tmp_path, monkeypatch, capsys
):
    rtx_libraries()
    monkeypatch.setenv("HIPEDGE_ENGINES", str(tmp_path))
    command = ("engine", untrained_model.path, "--flavour", "rtx", "--target", "8.6")
    code, out, err = run(capsys, *command, "--target", "12.0")
    assert code == 0
    assert "built in" in err
    assert "not verified on a GPU yet" in err
    assert out == f"hipedge export verify {untrained_model.path} --backend tensorrt\n"
    (sidecar,) = tmp_path.glob("*.engine.json")
    assert json.loads(sidecar.read_text())["key"]["targets"] == ["8.6", "12.0"]
    code, _, err = run(capsys, *command, "--target", "12.0")
    assert code == 0
    assert "exists already; --force rebuilds it" in err


def test_an_engine_elsewhere_is_named_in_the_next_command(untrained_model, tmp_path, capsys):
    rtx_libraries()
    path = tmp_path / "usb stick" / "one.engine"
    code, out, _ = run(
        capsys, "engine", untrained_model.path, "--flavour", "rtx", "-o", path, "--batch", "1:1:4"
    )
    assert code == 0
    assert out.startswith(f"HIPEDGE_ENGINES='{path.parent}' hipedge export verify ")
    assert path.exists()


def test_ctrl_c_ends_the_build_with_130(reference_model, tmp_path):
    rtx_libraries()
    arguments = ("export", "engine", reference_model.path, "--flavour", "rtx")
    process = subprocess.Popen(
        [sys.executable, "-m", "hipedge", *arguments],
        cwd=ROOT,
        env={**os.environ, "HIPEDGE_ENGINES": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    while not list(tmp_path.glob("*.lock")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "cannot build" not in err


def test_without_tensorrt_the_error_says_what_to_install(untrained_model, monkeypatch, capsys):
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = run(capsys, "engine", untrained_model.path)
    assert code == 2
    assert "TensorRT is not installed: pip install 'hipedge[tensorrt-cu13]'" in err


def test_backends_are_verified_and_those_that_cannot_run_are_named(
    untrained_model, monkeypatch, capsys
):
    for name in ("pycuda", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    code, out, err = run(capsys, "verify", untrained_model.path)
    assert code == 0
    assert "onnxruntime=" in out
    assert "yes" in out
    assert "skipped: tensorrt needs pycuda: pip install 'hipedge[tensorrt]'" in err


def test_a_backend_that_disagrees_exits_1(untrained_model, monkeypatch, capsys):
    row = BackendRow("tests.backends.golden_backend", "WrongBackend", (), "")
    monkeypatch.setitem(BACKENDS, "wrong", row)
    code, out, _ = run(capsys, "verify", untrained_model.path, "--backend", "wrong", "--json")
    assert code == 1
    (record,) = json.loads(out).values()
    assert record["agrees"] is False
    assert any(fault.endswith("categories differ") for fault in record["faults"])


def test_a_backend_that_is_no_runtime_of_the_model_is_an_error(untrained_model, capsys):
    code, _, err = run(capsys, "verify", untrained_model.path, "--backend", "fake")
    assert code == 2
    assert "maps (64, 8, 8, 8), and the model's are (64, 8, 4, 4)" in err
