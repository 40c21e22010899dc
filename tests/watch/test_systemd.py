"""Promise 16: the units are sound, and let the service do little else than its work."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"


@pytest.fixture(autouse=True)
def systemd_analyze():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here: apt install systemd")


def analyze(*arguments):
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.promise(16)
@pytest.mark.parametrize(
    ("unit", "drop_in", "limit"),
    [
        ("hipedge-watch.service", None, 1.5),
        ("hipedge-watch.service", "gpu.conf", 2.0),
        ("hipedge-health.service", None, 1.5),
    ],
)
def test_a_unit_is_exposed_to_little(tmp_path, unit, drop_in, limit):
    shutil.copy(UNITS / unit, tmp_path)
    if drop_in is not None:
        (tmp_path / f"{unit}.d").mkdir()
        shutil.copy(UNITS / f"{unit}.d" / drop_in, tmp_path / f"{unit}.d")
    done = analyze("security", "--offline=true", "--no-pager", tmp_path / unit)
    exposure = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert exposure, done.stderr
    assert float(exposure[1]) < limit


@pytest.mark.promise(16)
@pytest.mark.parametrize(
    "unit", ["hipedge-watch.service", "hipedge-health.service", "hipedge-health.timer"]
)
def test_a_unit_verifies_without_a_word(unit, tmp_path):
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)  # with the drop-in, which it verifies too
    done = analyze("verify", tmp_path / unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
