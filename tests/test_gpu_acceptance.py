"""The aims on a GPU, judged on made-up figures; and what happens where there is no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_acceptance import Bare, aims, measure_bare
from hipedge.backends.parity import Parity
from hipedge.backends.pipelined import Timing
from hipedge.perf.inference import Distribution, Point, Sweep
from tests.perf.test_inference import SAMPLES, Clockwork

ROOT = Path(__file__).parents[1]
AGREES = Parity(64, 0, 0.001, 0.001, 0.0, 0, 0, 0, 1024)


def point(batch, latency_ms, *, images_per_s=1.0):
    return Point(batch, 1, 1.0, images_per_s, Distribution.of([latency_ms]))


def judged(*, host_ms=1.0, images_per_s=3200.0, peers_ms=(6.0, 8.0), swept_ms=1.0):
    sweep = Sweep(
        "tensorrt",
        True,
        (point(1, swept_ms), point(32, 12.0 * swept_ms, images_per_s=images_per_s)),
    )
    bare = {1: Bare(1.0, 0.9), 32: Bare(12.0, 10.0)}
    peers = {str(ms): point(1, ms) for ms in peers_ms}
    return aims(AGREES, sweep, bare, point(1, host_ms), peers)


def test_all_aims_are_met_where_all_is_fast():
    assert [aim.is_met for aim in judged()] == [True] * 4


@pytest.mark.parametrize(
    ("slow", "missed"),
    [
        ({"host_ms": 1.06}, "latency at batch 1 over bare execution"),
        ({"images_per_s": 3000.0}, "throughput at batch 32 over its bound"),
        ({"peers_ms": (4.9, 8.0)}, "speed over the fastest peer"),
    ],
)
def test_each_aim_can_be_missed(slow, missed):
    assert [aim.name for aim in judged(**slow) if aim.is_met is False] == [missed]


def test_waiting_for_another_batch_meets_no_aim():
    """Times of a sweep, with two batches in flight, are no bound: they grow with contention."""
    slow = {"host_ms": 1.06, "images_per_s": 3000.0}
    assert judged(**slow, swept_ms=2.0) == judged(**slow)


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


def test_without_a_peer_the_speed_over_it_is_not_claimed():
    (speed,) = [aim for aim in judged(peers_ms=()) if aim.value is None]
    assert speed.is_met is None


def test_without_a_gpu_it_says_so_and_measures_nothing(untrained_model):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_acceptance", "--model", untrained_model.path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode != 2:
        pytest.skip("there is a GPU here")
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
