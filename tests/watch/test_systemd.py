"""Promise 16: the units are sound, and let the service do little else than its work."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hipedge.backends import BACKENDS, missing
from hipedge.deploy.files import FILES, UNIT_FOLDER

AUTOMATIC = [name for name, row in BACKENDS.items() if row.automatic and row.on_cpu]
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # prctl(2)


def write_units(folder, *without):
    """Write the units for this environment, and their drop-ins."""
    for file in FILES:
        if file.target.is_relative_to(UNIT_FOLDER) and file.template not in without:
            target = folder / file.target.relative_to(UNIT_FOLDER)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.render(Path(sys.executable).parent))


def analyze(*arguments):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here: apt install systemd")
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.promise(16)
@pytest.mark.parametrize(
    ("unit", "without", "limit"),
    [
        ("hipedge-watch.service", ["hipedge-watch.gpu.conf"], 1.5),
        ("hipedge-watch.service", [], 2.0),
        ("hipedge-receive.service", [], 2.0),
        ("hipedge-serve.service", [], 2.0),
        ("hipedge-health.service", [], 1.5),
    ],
)
def test_a_unit_is_exposed_to_little(tmp_path, unit, without, limit):
    write_units(tmp_path, *without)
    done = analyze("security", "--offline=true", "--no-pager", tmp_path / unit)
    exposure = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert exposure, done.stderr
    assert float(exposure[1]) < limit


@pytest.mark.promise(16)
@pytest.mark.parametrize(
    "unit",
    [
        "hipedge-watch.service",
        "hipedge-receive.service",
        "hipedge-serve.service",
        "hipedge-health.service",
        "hipedge-health.timer",
    ],
)
def test_a_unit_verifies_without_a_word(unit, tmp_path):
    write_units(tmp_path)
    done = analyze("verify", tmp_path / unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def settings_of(unit):
    (file,) = (file for file in FILES if file.target.name == unit)
    lines = file.render(Path("/opt/hipedge/bin")).decode().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))


def deny_write_execute():
    """Do to a process before it runs what `MemoryDenyWriteExecute=yes` does."""
    if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        raise OSError("this kernel cannot: Linux 6.3 can")


def test_where_auto_may_choose_openvino_the_unit_lets_it_compile():
    denied = settings_of("hipedge-watch.service").get("MemoryDenyWriteExecute") == "yes"
    assert not (denied and "openvino" in AUTOMATIC)


@pytest.mark.promise(16)
@pytest.mark.parametrize("backend", AUTOMATIC)
def test_each_backend_that_auto_may_choose_opens_under_the_unit(backend, untrained_model):
    if missing(backend):
        pytest.skip(f"{backend} is not installed")
    denied = settings_of("hipedge-watch.service").get("MemoryDenyWriteExecute") == "yes"
    script = (
        "import sys; from pathlib import Path\n"
        "from hipedge.backends import open_backend; from hipedge.model import open_model\n"
        "open_backend(sys.argv[1], open_model(Path(sys.argv[2]))).close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, backend, untrained_model.path],
        preexec_fn=deny_write_execute if denied else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.promise(6)
def test_a_worker_that_is_killed_for_its_memory_does_not_stop_the_service():
    assert settings_of("hipedge-watch.service")["OOMPolicy"] == "continue"
