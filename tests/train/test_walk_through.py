"""The walk-through of docs/training.md, its own commands on fewer films of fewer pixels."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hipedge.model import open_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")
SMALLER = {
    "--count 60": "--count 8",
    "--size 64": "--size 32",
    "--epochs 8": "--epochs 1",
    "--batch-size 16": "--batch-size 2",
}


def commands():
    text = re.search(r"<!-- walk-through -->\n```bash\n(.*?)```", PAGE, re.DOTALL)[1]
    for large, small in SMALLER.items():
        assert text.count(large) == 1
        text = text.replace(large, small)
    return text.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_of_the_walk_through_runs_and_goes_on_where_it_stopped(tmp_path):
    pytest.importorskip("numba")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    environment |= {"HIPEDGE_BACKEND": "onnxruntime"}

    def run(command):
        name, *arguments = command.split()
        assert name == "hipedge"
        done = subprocess.run(
            [sys.executable, "-m", "hipedge", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    said = [run(command) for command in commands()]
    phantom, train, _, screen, flagged = said
    assert "films/truth.csv" in phantom
    assert "femoral_neck_fracture" in train
    assert "Summary" in screen
    assert flagged
    assert open_model(tmp_path / "model").card.status.value == "trained"
    films = {path: path.stat().st_mtime_ns for path in (tmp_path / "films").glob("*.dcm")}
    checkpoint = (tmp_path / "run/checkpoint.pt").read_bytes()
    for command in commands()[:2]:
        run(command)
    assert {path: path.stat().st_mtime_ns for path in films} == films
    assert (tmp_path / "run/checkpoint.pt").read_bytes() == checkpoint
    assert "already recorded" in run(commands()[3])
