"""A command starts fast: its main process imports only what it needs itself."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

# What reads films is for worker processes, the rest for other commands.
READERS = ("pydicom", "PIL", "hipedge.pipeline.preprocess", "hipedge.dicom.read")
OTHERS = ("scipy", "matplotlib", "torch", "hipedge.store.pages", "hipedge.store.studies")
# What only some backends, or only worker processes, need before the first film is given to one.
LIBRARIES = ("numpy", "onnxruntime", "openvino", "sqlite_utils", "rich.progress")

# Runs a command as its entry point does, and says which modules were imported when.
SCRIPT = """
import json, sys
sys.argv = ["hipedge", *sys.argv[1:]]
from multiprocessing import forkserver
from hipedge.__main__ import main

ensure_running, at_fork_server = forkserver.ensure_running, []

def noted():
    at_fork_server.append(list(sys.modules))
    ensure_running()

forkserver.ensure_running = noted
try:
    main()
except SystemExit as ended:
    code = ended.code or 0
with open("modules.json", "w") as file:
    json.dump([code, at_fork_server[:1], list(sys.modules)], file)
"""


@pytest.fixture
def run(tmp_path, untrained_model, monkeypatch):
    """Run a command in a process of its own; return its modules: at the fork server's start, and
    in the end."""
    monkeypatch.setenv("HIPEDGE_MODEL", str(untrained_model.path))

    def run_command(*arguments):
        command = [sys.executable, "-c", SCRIPT, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        code, early, late = json.loads((tmp_path / "modules.json").read_text())
        assert code == 0, done.stderr
        return early, late

    return run_command


def among(names, modules):
    return [name for name in names if name in modules]


def draw(path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (400, 480), np.uint8)).save(path)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_main_process_of_screen_imports_no_reader_of_films(run, tmp_path, backend):
    pytest.importorskip(backend)
    draw(tmp_path / "film.png")
    _, modules = run("screen", "film.png", "--backend", backend)
    assert among(READERS, modules) == []
    assert among(OTHERS, modules) == []
    # It has run, and each backend brings its own runtime alone.
    assert "hipedge.store.store" in modules
    assert among(("onnxruntime", "openvino"), modules) == [backend]


def test_the_fork_server_is_started_before_the_command_line_is_imported(run, tmp_path):
    draw(tmp_path / "film.png")
    ((first, *_), _) = run("screen", "film.png", "--backend", "fake")
    assert among((*READERS, *LIBRARIES, "typer"), first) == []


def test_the_list_of_commands_imports_none_of_them(run):
    early, modules = run("--help")
    assert early == []
    assert among((*READERS, *OTHERS, *LIBRARIES, "hipedge.cli.screen"), modules) == []
