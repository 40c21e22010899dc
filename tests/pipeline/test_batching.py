"""When batches start, that nothing is lost on the way, and what an error leaves behind."""

import select
import time
from contextlib import contextmanager

import numpy as np
import pytest

from hipedge.backends.base import Fingerprint
from hipedge.backends.fake import FakeBackend
from hipedge.backends.pipelined import Pipelined, Ticket, Timing
from hipedge.errors import BackendError
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.preprocessor import Prepared
from hipedge.types import Box, Hip, Sample, Side
from tests.builders import film

SIZE_PX = 64


class Recording(FakeBackend):
    """Notes the size of each batch and when it started."""

    def __init__(self, **settings):
        super().__init__(SIZE_PX, **settings)
        self.sizes, self.starts = [], []

    def _infer(self, batch):
        self.sizes.append(len(batch))
        self.starts.append(time.perf_counter())
        return super()._infer(batch)


def prepared(name="film", hips=2, brightness=0):
    sample = Sample(np.full((1, SIZE_PX, SIZE_PX), brightness, np.uint8), np.eye(3))
    hip = Hip(Side.RIGHT, (1.0, 1.0), Box(0, 0, 2, 2), 1.0, False)
    return Prepared(film(name), ((hip, (sample,)),) * hips, frozenset(), {})


def await_films(batches, count, timeout_s=30):
    found, deadline = [], time.monotonic() + timeout_s
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} films came back"
        select.select([batches], [], [], 1.0)
        found += batches.collect()
    return found


def test_each_film_comes_back_once_with_the_scores_of_its_own_hips():
    films = [prepared(str(number), 1 + number % 3, number) for number in range(60)]
    with BatchScheduler(Recording) as batches:
        for one in films:
            batches.submit([one])
        scored = await_films(batches, len(films))
        assert batches.collect() == []
        assert not batches.is_busy
    assert {id(one.film) for one in scored} == {id(one) for one in films}
    for one in scored:
        brightness = float(one.film.hips[0][1][0].pixels[0, 0, 0])
        assert len(one.scores) == len(one.film.hips)
        for scores in one.scores:
            np.testing.assert_allclose(scores.logits, 8 * brightness / 255, rtol=1e-5)


def test_a_full_batch_starts_at_once():
    backend = Recording()
    with BatchScheduler(lambda: backend, max_wait_s=60.0) as batches:
        batches.submit([prepared(str(number)) for number in range(16)])
        assert len(await_films(batches, 16)) == 16
    assert backend.sizes == [32]


def test_a_batch_that_is_not_full_starts_when_its_oldest_hip_has_waited_long_enough():
    backend = Recording()
    with BatchScheduler(lambda: backend, max_wait_s=0.3) as batches:
        start = time.perf_counter()
        batches.submit([prepared("early")])
        time.sleep(0.1)
        batches.submit([prepared("late")])
        await_films(batches, 2)
    assert backend.sizes == [4]
    assert backend.starts[0] - start >= 0.3


def test_hips_wait_for_no_others_once_none_follow():
    backend = Recording()
    with BatchScheduler(lambda: backend, max_wait_s=60.0) as batches:
        batches.submit([prepared("one"), prepared("other")])
        batches.flush()
        await_films(batches, 2)
        assert backend.sizes == [4]


def test_all_batches_of_the_hips_that_wait_are_flushed_and_none_that_come_later():
    backend = Recording(latency_s=0.1)
    with BatchScheduler(lambda: backend, max_wait_s=60.0) as batches:
        batches.submit([prepared(hips=40)])
        batches.flush()
        await_films(batches, 1)
        batches.flush()  # nothing waits
        batches.submit([prepared("late")])
        time.sleep(0.5)
        assert backend.sizes == [32, 8]
        assert batches.waiting == 2


def test_what_comes_while_the_device_is_busy_goes_into_one_batch():
    backend = Recording(latency_s=0.3)
    with BatchScheduler(lambda: backend, max_wait_s=0.0) as batches:
        batches.submit([prepared("first")])
        while not backend.sizes:
            time.sleep(0.01)
        for number in range(5):
            batches.submit([prepared(str(number))])
        await_films(batches, 6)
    assert backend.sizes == [2, 10]


def test_a_film_with_more_hips_than_a_batch_holds_is_scored_in_several():
    backend = Recording()
    with BatchScheduler(lambda: backend) as batches:
        batches.submit([prepared(hips=70)])
        (scored,) = await_films(batches, 1)
    assert len(scored.scores) == 70
    assert backend.sizes == [32, 32, 6]


def test_it_says_that_it_is_full_before_much_memory_is_taken():
    backend = Recording(latency_s=0.5)
    with BatchScheduler(lambda: backend) as batches:
        assert batches.fingerprint == backend.fingerprint  # open
        number = 0
        while not batches.is_full:
            batches.submit([prepared(str(number))])
            number += 1
        assert number <= 5 * 16
        await_films(batches, number)
        assert not batches.is_full


def test_the_time_that_a_film_waited_and_its_share_of_the_batches_are_noted():
    with BatchScheduler(lambda: Recording(latency_s=0.2), max_wait_s=0.1) as batches:
        batches.submit([prepared("one"), prepared("other")])
        for one in await_films(batches, 2):
            assert one.timings_ms["queue"] >= 100
            assert one.timings_ms["infer"] == pytest.approx(100, rel=0.5)
        assert batches.usage.busy_s >= 0.2
        assert (batches.usage.batches, batches.usage.hips) == (1, 4)


def test_an_error_reaches_the_caller_and_the_films_can_be_tried_again():
    backend = Recording(failures=[None, BackendError("no memory")])
    films = [prepared(str(number)) for number in range(20)]
    with BatchScheduler(lambda: backend, max_wait_s=0.2) as batches:
        batches.submit(films)
        scored = await_films(batches, 16)
        with pytest.raises(BackendError, match="no memory"):
            await_films(batches, 1)
        assert {id(one) for one in batches.films} == {id(one) for one in films[16:]}
        with pytest.raises(BackendError, match="no memory"):
            batches.collect()
        batches.retry()
        scored += await_films(batches, 4)
    assert {id(one.film) for one in scored} == {id(one) for one in films}


def test_films_that_were_complete_before_an_error_are_returned_first():
    backend = Recording(failures=[None, BackendError("no memory")])
    films = [prepared(str(number)) for number in range(20)]
    with BatchScheduler(lambda: backend, max_wait_s=0.1) as batches:
        batches.submit(films)
        deadline = time.monotonic() + 30
        while len(backend.sizes) < 2 or batches.waiting != 8:  # failed, and queued again
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert [scored.film for scored in batches.collect()] == films[:16]
        assert batches.is_busy
        with pytest.raises(BackendError, match="no memory"):
            batches.collect()
        batches.retry()
        assert {id(one.film) for one in await_films(batches, 4)} == {id(one) for one in films[16:]}
        assert not batches.is_busy


def test_a_film_scored_in_part_before_an_error_is_scored_whole_after_it():
    backend = Recording(failures=[None, BackendError("no memory")])
    with BatchScheduler(lambda: backend, max_wait_s=0.1) as batches:
        batches.submit([prepared(hips=40, brightness=7)])
        with pytest.raises(BackendError, match="no memory"):
            await_films(batches, 1)
        batches.retry()
        (scored,) = await_films(batches, 1)
    assert backend.sizes == [32, 8, 32, 8]
    assert len(scored.scores) == 40
    assert scored.timings_ms["infer"] < 1e3 * (time.perf_counter() - backend.starts[2])


def test_a_backend_that_cannot_be_opened_says_so():
    def fail():
        raise BackendError("no device")

    with BatchScheduler(fail) as batches:
        batches.submit([prepared()])
        with pytest.raises(BackendError, match="no device"):
            _ = batches.fingerprint
        with pytest.raises(BackendError, match="no device"):
            batches.collect()


def test_the_backend_is_closed_by_the_thread_that_opened_it():
    events = []

    @contextmanager
    def open_backend():
        import threading

        events.append(threading.current_thread().name)
        yield Recording()
        events.append(threading.current_thread().name)

    with BatchScheduler(open_backend) as batches:
        batches.submit([prepared()])
        await_films(batches, 1)
    assert events == ["inference", "inference"]


class TwoSlots(Pipelined):
    """A device whose batches take a time of their own after they were handed in."""

    slots, max_batch, uses_graphs = 2, 4, False

    def __init__(self, compute_s):
        super().__init__(SIZE_PX)
        self.compute_s, self.free_at, self.flight, self.most = compute_s, 0.0, [], 0

    @classmethod
    def open(cls, model, *, threads=None):
        raise NotImplementedError

    @property
    def fingerprint(self):
        return Fingerprint("two slots", "1", "none", "none", "fp16")

    def _infer(self, batch):
        raise NotImplementedError

    def submit(self, batch):
        self.free_at = max(self.free_at, time.perf_counter()) + self.compute_s
        self.flight.append((self.free_at, batch))
        self.most = max(self.most, len(self.flight))
        return Ticket(0, 0, len(batch))

    def collect_timed(self, ticket):
        done_at, batch = self.flight.pop(0)
        time.sleep(max(0.0, done_at - time.perf_counter()))
        return FakeBackend(SIZE_PX).infer(batch), Timing(0, 0, self.compute_s * 1e3, 0)


class FailingOnce(TwoSlots):
    """A device that fails once, at a call of `submit` or `collect`, and counts its free slots."""

    def __init__(self, call, number):
        super().__init__(0.01)
        self.call, self.number, self.calls = call, number, {"submit": 0, "collect": 0}

    def submit(self, batch):
        if len(self.flight) == self.slots:
            raise BackendError("all slots are in flight: collect a batch first")
        self.fail("submit")
        return super().submit(batch)

    def collect_timed(self, ticket):
        result = super().collect_timed(ticket)
        self.fail("collect")
        return result

    def fail(self, call):
        self.calls[call] += 1
        if (call, self.calls[call]) == (self.call, self.number):
            raise BackendError("no memory")


def collect_into(found, batches):
    while True:
        select.select([batches], [], [], 30.0)
        found += batches.collect()


@pytest.mark.parametrize(
    ("call", "number"), [("submit", 1), ("submit", 2), ("submit", 3), ("collect", 1)]
)
def test_an_error_leaves_no_slot_of_the_device_in_flight(call, number):
    device = FailingOnce(call, number)
    films = [prepared(str(number)) for number in range(20)]
    found = []
    with BatchScheduler(lambda: device) as batches:
        batches.submit(films)
        with pytest.raises(BackendError, match="no memory"):
            collect_into(found, batches)
        assert device.flight == []
        batches.retry()
        found += await_films(batches, 20 - len(found))
    assert {id(one.film) for one in found} == {id(one) for one in films}


def test_a_device_with_two_slots_has_the_next_full_batch_before_the_last_is_fetched():
    device = TwoSlots(0.05)
    with BatchScheduler(lambda: device) as batches:
        batches.submit([prepared(str(number)) for number in range(20)])
        await_films(batches, 20)
        assert device.most == 2
        assert device.flight == []
        assert batches.usage.busy_s == pytest.approx(10 * 0.05, rel=0.3)
