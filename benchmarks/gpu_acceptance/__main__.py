"""Whether TensorRT does on this GPU what hipedge promises of it: one command, one JSON, one table.

    python -m benchmarks.gpu_acceptance [--model DIR] [--json FILE] [--films 64]

It builds an engine, compares its scores with the golden ones, measures it beside `trtexec` and the
peers that are installed, screens simulated films, and loses the GPU's context on purpose. Where
there is no TensorRT for this GPU, torch computes the network in its place, on the product's own
streams, buffers and graphs.

Each stage runs in a process of its own, and the file is written after each: one that fails is a row
of the table, and the same command goes on where it was interrupted. It exits 1 where a stage has
failed or an aim is missed, and 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.gpu_acceptance.aims import Aim, aims
from benchmarks.gpu_acceptance.stages import STAGES, Task
from hipedge.backends.tensorrt.gpu import first_gpu
from hipedge.errors import HipedgeError
from hipedge.files import write_atomically
from hipedge.model import require_model

STAND_IN = "benchmarks.gpu_acceptance.torch_engine"
ROOT = Path(__file__).parents[2]
# Of the error of a stage that has failed.
LONGEST_ERROR = 2000


def run_stage(name: str, task: Task) -> dict[str, object]:
    """Run a stage in a process; return its row, with its `result` or its `error`."""
    command = [sys.executable, "-m", "benchmarks.gpu_acceptance.stages", name]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, json.dumps(asdict(task))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=STAGES[name][1],
            check=False,
        )
        row = _row(done)
    except subprocess.TimeoutExpired:
        row = {"error": f"not done within {STAGES[name][1]:g} s"}
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def _row(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    if done.returncode != 0:
        status = f"exit status {done.returncode}: " if done.returncode != 1 else ""
        return {"error": status + done.stderr.strip()[-LONGEST_ERROR:]}
    return {"result": json.loads(done.stdout.splitlines()[-1])}


def accept(task: Task, path: Path) -> dict[str, object]:
    """Run the stages that the report at `path` does not have yet; write it after each."""
    of = {
        "task": asdict(task),
        "model": task.folder.model_id,
        "gpu": str(first_gpu()),
        "commit": environment()["commit"],
    }
    report = _read(path)
    if report.get("of") != of:
        report = {"of": of, "stages": {}}
    stages = report["stages"]
    for name in STAGES:
        if "result" not in stages.get(name, {}):
            print(f"{name} …", file=sys.stderr, flush=True)
            stages[name] = run_stage(name, task)
        results = {one: row["result"] for one, row in stages.items() if "result" in row}
        report["aims"] = [asdict(aim) for aim in aims(results)]
        write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
    return report


def _read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def table(report: dict[str, object]) -> str:
    """Return the stages and the aims as text."""
    lines = [f"{'stage':42}{'seconds':>10}  result"]
    for name, row in report["stages"].items():
        ended = _in_words(row["result"]) if "result" in row else "FAILED: " + _last_line(row)
        lines.append(f"{name:42}{row['seconds']:>10.1f}  {ended}")
    lines += ["", f"{'aim':42}{'measured':>10}  {'bound':8} met"]
    for one in report["aims"]:
        aim = Aim(**one)
        value = "–" if aim.value is None else f"{aim.value:.3f}"
        met = {True: "yes", False: "no", None: "not measured"}[aim.is_met]
        lines.append(f"{aim.name:42}{value:>10}  {aim.bound:8} {met}")
    return "\n".join(lines)


def _in_words(result: dict[str, object]) -> str:
    """Return what a stage did instead, where it could not do what it is for."""
    return str(result.get("reason") or result.get("absent") or "done")


def _last_line(row: dict[str, object]) -> str:
    return (str(row["error"]).splitlines() or ["no output"])[-1]


def main() -> None:
    """Run the stages, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="default: the reference model")
    parser.add_argument("--json", type=Path, default=Path("gpu_acceptance.json"))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--films", type=int, default=64, help="to screen, 0 for none")
    parser.add_argument("--stand-in", default=STAND_IN, help="module, where TensorRT cannot run")
    arguments = parser.parse_args()
    try:
        first_gpu()
        model = require_model(arguments.model)
        task = Task(str(model.resolve()), arguments.seconds, arguments.films, arguments.stand_in)
        report = accept(task, arguments.json)
    except HipedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(table(report))
    failed = any("error" in row for row in report["stages"].values())
    if failed or any(aim["is_met"] is False for aim in report["aims"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
