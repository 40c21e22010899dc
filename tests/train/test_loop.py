import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hipedge.errors import ConfigError
from hipedge.train.curves import draw_curves
from hipedge.train.distributed import DistributedContext
from hipedge.train.loop import History, MovingAverage, Schedule, fit
from hipedge.train.samples import BatchSampler
from tests.train.small_training import SCHEDULE, SmallObjective, small_samples

ROOT = Path(__file__).parents[2]
CPU = DistributedContext(torch.device("cpu"))


def run(folder, *options, launcher=()):
    command = [sys.executable, *launcher, "-m", "tests.train.small_training", str(folder)]
    return subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def result(folder):
    return torch.load(folder / "result.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_training_learns(whole):
    history = json.loads((whole / "history.json").read_text())
    assert history["steps"] == [6, 12, 18, 24, 30, 36, 40]
    assert history["losses"][-1] < 0.8 * history["losses"][0]
    assert history["scores"][-1] > 0.5


@pytest.mark.parametrize("step", [pytest.param(10, marks=pytest.mark.slow), 30])
def test_a_killed_training_goes_on_to_the_same_bits(whole, tmp_path, step):
    killed = run(tmp_path, "--die-at", str(step))
    assert killed.returncode == -9
    assert not (tmp_path / "result.pt").exists()
    resumed = run(tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    for name, value in result(whole).items():
        assert torch.equal(value, result(tmp_path)[name]), name
    assert (tmp_path / "history.json").read_text() == (whole / "history.json").read_text()


def test_processes_that_load_samples_change_nothing(whole, tmp_path):
    done = run(tmp_path, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(v, result(tmp_path)[name]) for name, v in result(whole).items())


@pytest.mark.slow
def test_two_processes_train_together(whole, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = run(tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stderr
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["scores"][-1] > 0.5
    # Both halves of a batch make the same step as the whole, but for batch normalisation.
    first = json.loads((whole / "history.json").read_text())["losses"][0]
    assert history["losses"][0] == pytest.approx(first, rel=0.1)


SLOW_LEADER = """
import time
from datetime import timedelta
from torch.distributed import distributed_c10d
from hipedge.train.distributed import distributed_context

distributed_c10d.default_pg_timeout = timedelta(seconds=2)
with distributed_context("cpu") as place:
    if place.leads:
        time.sleep(5)
    place.wait()
    print(place.rank, "goes on", flush=True)
"""


@pytest.mark.slow
def test_the_others_wait_for_the_leader_longer_than_torch_does(tmp_path):
    """It reads all films first, and torch's patience is half an hour, or ten minutes on GPUs."""
    script = tmp_path / "slow_leader.py"
    script.write_text(SLOW_LEADER)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = subprocess.run(
        [sys.executable, *launcher, script],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("goes on") == 2


def test_another_schedule_is_not_resumed(tmp_path):
    samples, _ = small_samples()
    args = (SmallObjective(), samples, lambda network: 0.0)
    fit(*args, Schedule(steps=2, batch_size=8), tmp_path, place=CPU)
    with pytest.raises(ConfigError, match="other settings"):
        fit(*args, Schedule(steps=3, batch_size=8), tmp_path, place=CPU)


@pytest.mark.parametrize(("batch_size", "world"), [(53, 1), (1, 2)])
def test_a_batch_that_cannot_be_made_is_an_error(tmp_path, batch_size, world):
    samples, _ = small_samples()
    place = DistributedContext(torch.device("cpu"), 0, world)
    schedule = Schedule(steps=2, batch_size=batch_size)
    with pytest.raises(ConfigError, match=f"batches of {batch_size} cannot be made from 52"):
        fit(SmallObjective(), samples, lambda network: 0.0, schedule, tmp_path, place=place)


def test_the_learning_rate_rises_then_falls_to_nothing():
    rates = [SCHEDULE.learning_rate_at(step) for step in range(SCHEDULE.steps)]
    assert rates[:3] == pytest.approx([1.5e-3, 3e-3, 3e-3])
    half = SCHEDULE.learning_rate_at(2 + 19)
    assert half == pytest.approx(3e-3 * 0.5 * (1 + math.cos(math.pi * 19 / 38)))
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 1e-4


def test_every_sample_comes_once_an_epoch_in_a_new_order():
    batches = list(BatchSampler(50, batch_size=10, steps=10, seed=1))
    epochs = [[index for batch in batches[i : i + 5] for _, index in batch] for i in (0, 5)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(50))] * 2
    assert epochs[0] != epochs[1]


def test_a_later_start_gives_the_rest_and_processes_share_each_batch():
    batches = list(BatchSampler(53, batch_size=10, steps=12, seed=1))
    assert list(BatchSampler(53, batch_size=10, steps=12, seed=1, start=7)) == batches[7:]
    parts = [
        list(BatchSampler(53, batch_size=10, steps=12, seed=1, rank=r, world=2)) for r in (0, 1)
    ]
    for whole, one, other in zip(batches, *parts, strict=True):
        assert sorted(one + other) == sorted(whole)


def test_the_average_forgets_its_start_and_counts_as_its_formula_says():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = MovingAverage(network, decay=0.5)
    nn.init.constant_(network.weight, 1.0)
    expected = 0.0
    for step in range(1, 30):
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
        assert average.network.weight.item() == pytest.approx(expected)


def test_the_curves_are_a_picture(tmp_path):
    draw_curves(History([10, 20], [1.0, 0.5], [0.2, 0.7]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
