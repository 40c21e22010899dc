"""The acceptance of a GPU: its aims on made-up figures, its stages on a stand-in for the driver."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.gpu_acceptance.__main__ import run_stage, table
from benchmarks.gpu_acceptance.aims import aims
from benchmarks.gpu_acceptance.stages import STAGES, Bare, Task, measure_bare
from benchmarks.gpu_acceptance.trtexec import parse_trtexec
from hipedge.backends.pipelined import Timing
from tests.backends.cuda_driver import compile_driver, pycuda_folder
from tests.perf.test_inference import SAMPLES, Clockwork

ROOT = Path(__file__).parents[1]


def judged(*, host_ms=1.0, images_per_s=3200.0, peers_ms=(6.0, 8.0), without=(), **changes):
    """The aims by name, for figures that are all good enough by default."""
    results = {
        "build": {"path": "an engine"},
        "parity": {"faults": []},
        "latency": {
            "sweep": {"points": [{"batch": 32, "images_per_s": images_per_s}]},
            "bare": {
                "1": {"latency_median_ms": 1.0, "compute_mean_ms": 0.9},
                "32": {"latency_median_ms": 12.0, "compute_mean_ms": 10.0},
            },
            "host": {"latency": {"median": host_ms}},
        },
        "peers": {"points": {str(ms): {"latency": {"median": ms}} for ms in peers_ms}},
        "memory": {"kept_mib": 0.0},
        "loss": {"results": 0},
        **changes,
    }
    return {aim.name: aim for aim in aims({k: v for k, v in results.items() if k not in without})}


def test_all_aims_are_met_where_all_is_fast():
    assert {aim.is_met for aim in judged().values()} == {True}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"parity": {"faults": ["a probability differs"]}}, "faults of parity"),
        ({"host_ms": 1.06}, "latency at batch 1 over bare execution"),
        ({"images_per_s": 3000.0}, "throughput at batch 32 over its bound"),
        ({"peers_ms": (4.9, 8.0)}, "speed over the fastest peer"),
        ({"memory": {"kept_mib": 1.5}}, "MiB that stay after closing"),
        ({"loss": {"results": 1}}, "results after the context was lost"),
    ],
)
def test_each_aim_can_be_missed(change, missed):
    assert [name for name, aim in judged(**change).items() if aim.is_met is False] == [missed]


def test_the_latency_is_compared_with_that_of_trtexec_where_it_is():
    name = "latency at batch 1 over bare execution"
    assert judged(trtexec={"absent": "not on the PATH"})[name].value == 1.0
    assert judged(trtexec={"latency_median_ms": 0.8})[name].value == 1.25


@pytest.mark.parametrize("stage", ["parity", "latency", "peers", "memory", "loss"])
def test_what_a_stage_has_not_measured_is_not_claimed(stage):
    unmeasured = [aim for aim in judged(without=[stage]).values() if aim.is_met is not True]
    assert unmeasured
    assert all(aim.value is aim.is_met is None for aim in unmeasured)


@pytest.mark.parametrize("change", [{"peers_ms": ()}, {"build": {"stand_in": "torch"}}])
def test_the_speed_over_a_peer_is_that_of_tensorrt(change):
    assert judged(**change)["speed over the fastest peer"].is_met is None


class Contended(Clockwork):
    """Two batches in flight take twice as long each, as their events see it."""

    def __init__(self):
        super().__init__(None)

    def collect_timed(self, ticket):
        self.timing = Timing(0.1, 0.25, len(self.flying), 0.25)
        return super().collect_timed(ticket)


def test_bare_execution_is_that_of_one_batch_alone():
    backend = Contended()
    assert measure_bare(backend, SAMPLES, 0.0) == Bare(1.5, 1.0)
    assert backend.most == 1


def test_the_summary_of_trtexec_is_read():
    text = """
[I] === Performance summary ===
[I] Throughput: 1201.5 qps
[I] Latency: min = 0.8 ms, max = 1.2 ms, mean = 0.83 ms, median = 0.82 ms, percentile(90%) = 0.9 ms
[I] Enqueue Time: min = 0.002 ms, max = 0.03 ms, mean = 0.003 ms, median = 0.0029 ms
[I] GPU Compute Time: min = 0.7 ms, max = 1.1 ms, mean = 0.75 ms, median = 0.74 ms
"""
    assert parse_trtexec(text) == {"latency_median_ms": 0.82, "compute_median_ms": 0.74}
    with pytest.raises(RuntimeError, match="printed no GPU Compute Time"):
        parse_trtexec(text.replace("GPU Compute", "Other"))


def accept(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_acceptance", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_without_a_gpu_it_says_so_and_measures_nothing(untrained_model, tmp_path):
    report = tmp_path / "report.json"
    done = accept("--model", untrained_model.path, "--json", report)
    if done.returncode != 2:
        pytest.skip("there is a GPU here")
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not report.exists()


@pytest.fixture
def gpu(tmp_path, untrained_model, monkeypatch):
    """The environment of processes that find a GPU, and pycuda; as a Hopper, without TensorRT."""
    driver, pycuda = tmp_path / "driver", pycuda_folder()
    driver.mkdir()
    compile_driver(pycuda, driver)
    paths = [ROOT, tmp_path, os.environ.get("PYTHONPATH", ""), pycuda]
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, paths)))
    monkeypatch.setenv("STANDIN_GPU", "Stand-in GPU")
    monkeypatch.setenv("HOST_MODEL", str(untrained_model.path))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_stage_runs_and_one_that_has_failed_is_repeated(gpu, untrained_model, tmp_path):
    path = tmp_path / "report.json"
    options = ["--model", untrained_model.path, "--json", path, "--seconds", 0, "--films", 0]
    options += ["--stand-in", "tests.backends.host_engine"]
    accept(*options)
    report = json.loads(path.read_text())
    stages = report["stages"]
    assert list(stages) == list(STAGES)
    assert {name: row["error"] for name, row in stages.items() if "error" in row} == {}
    results = {name: row["result"] for name, row in stages.items()}
    assert "rtx does not support Stand-in GPU (9.0" in results["build"]["reason"]
    assert results["parity"]["faults"] == []
    assert results["memory"]["backend_mib"] > 0
    assert [error[:14] for error in results["loss"]["errors"]] == ["the GPU failed"] * 2
    met = {aim["name"]: aim["is_met"] for aim in report["aims"]}
    assert met["faults of parity"]
    assert met["results after the context was lost"]
    assert met["MiB that stay after closing"]
    # As after an interrupt, and after a failure.
    stages["parity"] = {"error": "as if", "seconds": 0.0}
    del stages["memory"]
    path.write_text(json.dumps(report))
    again = accept(*options)
    assert [line for line in again.stderr.splitlines() if "…" in line] == ["parity …", "memory …"]
    repeated = json.loads(path.read_text())["stages"]
    assert "result" in repeated["parity"]
    assert repeated["memory"]["result"] == results["memory"]
    assert repeated["latency"] == stages["latency"]


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        ("raise RuntimeError('no kernel image is available')", "no kernel image is available"),
        ("import os; os.abort()", "exit status -6: "),
    ],
)
def test_a_stage_that_fails_is_a_row(gpu, untrained_model, tmp_path, engine, error):
    (tmp_path / "failing_engine.py").write_text(engine)
    row = run_stage("parity", Task(str(untrained_model.path), 0, 0, "failing_engine"))
    assert error in row["error"]
    report = {"stages": {"parity": row}, "aims": [asdict(aim) for aim in aims({})]}
    assert "FAILED: " in table(report)
    assert table(report).count("not measured") == 6
