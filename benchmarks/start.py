"""Time to start: of whole commands, among them `hipedge screen` on a folder with one film.

    python -m benchmarks.start [--python PYTHON] [--repeats 7] [--json FILE]

Each command is run in turn, `repeats` times after a first time that is not counted; the figures are
medians. Wall time is from the start of the process to its end. Processor time is that of all its
processes, also of those that outlive it: this process adopts and awaits them
(PR_SET_CHILD_SUBREAPER, prctl(2)). `screen` runs the model that ships, records into a new database
each time, and reads a phantom (JPEG-LS), for which the extra `phantom` must be installed here.
`--python` is the interpreter of the environment to measure with this checkout: what else is
installed in one slows imports down. On a machine with other work, wall times say little.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from hipedge.phantom import develop, draw_film, write_film

ROOT = Path(__file__).parents[1]
PR_SET_CHILD_SUBREAPER = 36
SEED = 7
BACKENDS = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Run:
    """Times of one command in seconds; `core_s` is the processor time of all its processes."""

    wall_s: float
    core_s: float


def environ(bytecode: Path) -> dict[str, str]:
    """Return the variables of a command, which finds this checkout and keeps its bytecode.

    An installed package has its bytecode beside it; a checkout need not be writable.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(bytecode)}


def timed(command: list[str], folder: Path, variables: Mapping[str, str]) -> Run:
    """Run a command in a folder. Raises `CalledProcessError` where it fails."""
    before, start = _children_s(), time.perf_counter()
    subprocess.run(command, cwd=folder, env=variables, check=True, capture_output=True)
    wall_s = time.perf_counter() - start
    _await_orphans()
    return Run(wall_s, _children_s() - before)


def _children_s() -> float:
    """Return the processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _await_orphans() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def commands(python: str, films: Path) -> dict[str, list[str]]:
    """Return the commands to measure by what they are called."""
    hipedge = [python, "-m", "hipedge"]
    screen = [*hipedge, "screen", str(films), "--db", "new.db", "--backend"]
    return {
        "python": [python, "-c", "pass"],
        "help": [*hipedge, "--help"],
        "flagged": [*hipedge, "flagged", "--db", str(films.parent / "recorded.db")],
        **{f"screen, {name}": [*screen, name] for name in BACKENDS},
    }


def measure(python: str, repeats: int) -> dict[str, list[Run]]:
    """Run each command `repeats` times, in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        films = Path(scratch, "films")
        films.mkdir()
        film = draw_film(np.random.SeedSequence(SEED))
        write_film(films / "film.dcm", film, develop(film))
        recorded = [python, "-m", "hipedge", "screen", str(films), "--db", f"{scratch}/recorded.db"]
        variables = environ(Path(scratch, "bytecode"))
        timed(recorded, films.parent, variables)
        os.sync()  # else the first databases wait until the disk has all of this
        runs: dict[str, list[Run]] = {name: [] for name in commands(python, films)}
        for number in range(repeats + 1):
            for name, command in commands(python, films).items():
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    run = timed(command, Path(folder), variables)
                if number:
                    runs[name].append(run)
    return runs


def main() -> None:
    """Measure, and print the figures with their environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")
    where, load_average = environment(), os.getloadavg()[0]
    print(json.dumps(where, indent=2))
    runs = measure(arguments.python, arguments.repeats)
    figures = {
        name: {
            "wall_s": round(statistics.median(run.wall_s for run in found), 3),
            "core_s": round(statistics.median(run.core_s for run in found), 3),
            "wall_s_each": [round(run.wall_s, 3) for run in found],
            "core_s_each": [round(run.core_s, 3) for run in found],
        }
        for name, found in runs.items()
    }
    for name, one in figures.items():
        print(f"{name:24} wall {one['wall_s']:.3f} s, processor {one['core_s']:.3f} s")
    if arguments.json:
        content = {
            "environment": where,
            "load_average": load_average,
            "command": f"--python PYTHON --repeats {arguments.repeats}",
            "repeats": arguments.repeats,
            "figures": figures,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
