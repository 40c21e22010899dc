"""How speed is measured and reported: on backends that take a known time."""

import json
import time

import numpy as np
import pytest

from hipedge.backends.base import Fingerprint
from hipedge.backends.fake import FakeBackend
from hipedge.backends.pipelined import Pipelined, Ticket, Timing
from hipedge.cli import main
from hipedge.errors import ConfigError
from hipedge.perf.inference import Distribution, Point, Requirement, sweep

SAMPLES = np.zeros((4, 1, 64, 64), np.uint8)


class Clockwork(Pipelined):
    """A GPU whose every batch takes what `timing` says; it knows how many are in flight."""

    slots, max_batch, uses_graphs = 2, 32, True

    def __init__(self, timing):
        super().__init__(64)
        self.timing, self.flying, self.most = timing, [], 0

    @classmethod
    def open(cls, model, *, threads=None):
        raise NotImplementedError

    @property
    def fingerprint(self):
        return Fingerprint("clockwork", "1", "none", "none", "fp16")

    def _infer(self, batch):
        return np.zeros((len(batch), 8), np.float32), np.zeros((len(batch), 8, 2, 2), np.float32)

    def submit(self, batch):
        self.flying.append(len(batch))
        self.most = max(self.most, len(self.flying))
        return Ticket(0, 0, len(batch))

    def collect_timed(self, ticket):
        self.flying.pop(0)
        return (), self.timing


def point(latency_ms=(10.0,), **parts_ms):
    parts = {name: Distribution.of(values) for name, values in parts_ms.items()}
    return Point(8, 100, 1.0, 800.0, Distribution.of(latency_ms), parts)


def gpu_point(enqueue=0.1, h2d=0.2, compute=1.0, d2h=0.1):
    return point(enqueue=[enqueue], h2d=[h2d], compute=[compute], d2h=[d2h])


def test_a_distribution_has_trtexecs_statistics():
    times = Distribution.of(list(range(1, 102)))
    assert (times.min, times.max, times.mean, times.median) == (1, 101, 51, 51)
    assert (times.p90, times.p95, times.p99) == (91, 96, 100)
    assert times.variation == pytest.approx(np.std(np.arange(1, 102)) / 51)


def test_a_backend_on_the_cpu_is_timed_batch_by_batch():
    found = sweep(FakeBackend(64, latency_s=0.01), SAMPLES, [1, 6], warmup_s=0, duration_s=0.2)
    one, six = found.points
    assert (one.batch, six.batch) == (1, 6)
    for each in found.points:
        assert each.latency.min >= 10
        assert each.images_per_s == pytest.approx(each.batch * each.batches / each.seconds)
        assert each.images_per_s <= each.batch * 100
    assert six.images_per_s > 2 * one.images_per_s
    assert one.parts == {}
    assert found.cuda_graphs is False


def test_at_least_ten_batches_are_timed_however_short_the_time():
    (found,) = sweep(FakeBackend(64), SAMPLES, [1], warmup_s=0, duration_s=0).points
    assert found.batches == 10


def test_the_warm_up_is_not_counted():
    class SlowAtFirst(FakeBackend):
        latency_s = 0.05

        def infer(self, batch):
            time.sleep(self.latency_s)
            self.latency_s = 0
            return super().infer(batch)

    (found,) = sweep(SlowAtFirst(64), SAMPLES, [1], warmup_s=0, duration_s=0).points
    assert found.latency.max < 50


def test_a_gpu_is_timed_with_all_its_slots_in_flight_and_by_its_own_clock():
    backend = Clockwork(Timing(enqueue_ms=0.1, h2d_ms=0.5, compute_ms=2.0, d2h_ms=0.25))
    found = sweep(backend, SAMPLES, [4], warmup_s=0, duration_s=0.05)
    (measured,) = found.points
    assert backend.most == 2
    assert backend.flying == []
    assert found.cuda_graphs is True
    assert measured.latency.median == 2.75
    assert {name: times.median for name, times in measured.parts.items()} == {
        "enqueue": 0.1,
        "h2d": 0.5,
        "compute": 2.0,
        "d2h": 0.25,
    }


@pytest.mark.parametrize(
    ("slow", "warning"),
    [
        ({"enqueue": 0.9}, "enqueueing may bound"),
        ({"h2d": 1.0}, "copies to the GPU may bound"),
        ({"d2h": 1.5}, "copies from the GPU may bound"),
    ],
)
def test_what_bounds_the_throughput_is_warned_of(slow, warning):
    assert gpu_point().warnings == ()
    (found,) = gpu_point(**slow).warnings
    assert warning in found


def test_times_that_vary_are_warned_of():
    assert point(latency_ms=[10.0, 10.4]).warnings == ()
    (found,) = point(latency_ms=[10.0, 10.6]).warnings
    assert found.startswith("computing varies by 2.9%")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99_ms<=10", True),
        ("p99_ms < 10", False),
        ("images_per_s>=800", True),
        ("images_per_s>800.5", False),
        ("compute_median_ms<=1", True),
        ("d2h_max_ms<0.05", False),
    ],
)
def test_a_requirement_holds_or_says_how_it_is_broken(text, holds):
    broken = Requirement.parse(text).broken_by(gpu_point())
    assert (broken is None) is holds
    assert holds or (text in broken and "batch 8" in broken)


@pytest.mark.parametrize("text", ["", "p99_ms", "p99_ms=8", "p99_ms<=x", "<=8", "p99_ms<=8.5.1"])
def test_a_requirement_that_is_none_is_an_error(text):
    with pytest.raises(ConfigError, match="is not a requirement such as 'p99_ms<=8'"):
        Requirement.parse(text)


def test_a_requirement_of_a_figure_that_is_not_there_lists_those_that_are():
    with pytest.raises(ConfigError, match="the figures here are images_per_s, min_ms"):
        Requirement.parse("compute_p99_ms<=8").broken_by(point())


def run(model, *options):
    main(["benchmark", str(model.path), "--duration", "0", "--warm-up", "0", *options])


def test_the_command_prints_the_machine_and_a_table_for_each_backend(untrained_model, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(untrained_model, "--backend", "fake", "--compare", "onnxruntime", "--batch", "1,2")
    said = capsys.readouterr()
    for word in ("processor", "hipedge 0", "median", "p99", "onnxruntime=", "(×1.00)"):
        assert word in said.out
    assert "backend fake: requested" in said.err


def test_the_command_writes_json(untrained_model, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(untrained_model, "--backend", "fake", "--batch", "3", "--json")
    content = json.loads(capsys.readouterr().out)
    assert content["model"]["id"] == untrained_model.model_id
    (found,) = content["sweeps"]
    assert found["backend"].startswith("fake=")
    assert found["points"][0]["batch"] == 3
    assert found["points"][0]["batches"] == 10


def test_a_broken_requirement_exits_1_and_says_which(untrained_model, capsys):
    with pytest.raises(SystemExit, match="1"):
        run(untrained_model, "--backend", "fake", "--require", "p99_ms<=0.000001")
    assert "required: batch 1: p99_ms is" in capsys.readouterr().err


def test_a_requirement_that_holds_exits_0(untrained_model):
    with pytest.raises(SystemExit, match="0"):
        run(untrained_model, "--backend", "fake", "--require", "images_per_s>0.001")


@pytest.mark.parametrize("sizes", ["", "0", "1,x", "-1"])
def test_sizes_that_are_none_are_an_error(untrained_model, capsys, sizes):
    with pytest.raises(SystemExit, match="2"):
        run(untrained_model, "--backend", "fake", f"--batch={sizes}")
    assert "is not a list of sizes" in capsys.readouterr().err
