import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from hipedge.errors import InstallationError
from hipedge.pipeline.workers import MAX_FAILED_STARTS, Limits, WorkerCrash, Workers


def square(number):
    return number * number


def die_of_seven(number):
    if number == 7:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def raise_at_three(number):
    if number == 3:
        raise ValueError("three")
    return number


def run(function, items, count=2):
    claimed = []
    with Workers(function, count) as workers:
        results = [pair for batch in workers.run(items, claimed.extend) for pair in batch]
    return results, claimed


def test_every_item_gets_one_result():
    results, claimed = run(square, range(50))
    assert sorted(results) == [(number, number * number) for number in range(50)]
    assert claimed == list(range(50))


def test_no_items_give_no_results():
    assert run(square, []) == ([], [])


def test_an_item_that_kills_its_process_costs_no_other_item():
    results, claimed = run(die_of_seven, range(30))
    assert dict(results) == {
        number: WorkerCrash() if number == 7 else number for number in range(30)
    }
    assert len(results) == 30
    assert claimed.count(7) == 2  # it may have been killed for something else


def test_an_exception_of_the_function_reaches_the_caller():
    with Workers(raise_at_three, 1) as workers, pytest.raises(ValueError, match="three"):
        list(workers.run(range(5), lambda items: None))


def test_an_item_is_claimed_before_it_is_worked_on(tmp_path):
    # The claim fails, so nothing may have been worked on.
    def fail(items):
        raise RuntimeError("disk full")

    marker = tmp_path / "worked"
    with Workers(touch, 1) as workers, pytest.raises(RuntimeError, match="disk full"):
        list(workers.run([str(marker)], fail))
    assert not marker.exists()


def touch(path):
    with open(path, "w"):  # noqa: PTH123
        return path


ORPHANS = """
import os, time
from hipedge.pipeline.workers import Workers
from tests.pipeline.test_workers import process_id

if __name__ == "__main__":
    with Workers(process_id, 2) as workers:
        for batch in workers.run(range(8), lambda items: None):
            for _, pid in batch:
                print(pid, flush=True)
        time.sleep(60)
"""


def process_id(_):
    return os.getpid()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(ORPHANS)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as main:
        pids = {int(main.stdout.readline()) for _ in range(8)}
        assert all(is_alive(pid) for pid in pids)
        main.kill()
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its main process"
        time.sleep(0.05)


# What a decoder can do to its process.


def hang(_):
    time.sleep(1000)


def burn(_):
    while True:
        pass


def eat_memory(_):
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))


def eat_memory_behind_python(_):
    import mmap

    mmap.mmap(-1, 64 << 30)


def abort(_):
    os.abort()


def panic(_):
    class PanicException(BaseException):  # as pyo3's, which is no Exception either
        pass

    raise PanicException("a patient's name")


def leave(_):
    sys.exit(3)


def harm_or_square(item):
    harm, number = item
    return harm(number) if harm else number * number


LIMITS = Limits(memory_bytes=256 << 20, cpu_s=1.0, wall_s=2.0)


@pytest.mark.parametrize("harm", [hang, burn, abort, panic, leave])
def test_what_kills_its_process_or_hangs_costs_itself_alone(harm):
    items = [(harm if number == 3 else None, number) for number in range(12)]
    with Workers(harm_or_square, 2, LIMITS) as workers:
        results = [pair for batch in workers.run(items, lambda _: None) for pair in batch]
    assert dict(results) == {
        (h, number): WorkerCrash() if h else number * number for h, number in items
    }


@pytest.mark.parametrize("harm", [eat_memory, eat_memory_behind_python])
def test_memory_beyond_the_limit_is_an_error_in_the_worker(harm):
    with Workers(harm_or_square, 1, LIMITS) as workers, pytest.raises((MemoryError, OSError)):
        list(workers.run([(harm, 0)], lambda _: None))


def test_a_worker_that_hangs_is_replaced_within_its_time():
    with Workers(harm_or_square, 1, LIMITS) as workers:
        workers.submit([(hang, 0), (None, 5)])
        start = time.monotonic()
        results = []
        while len(results) < 2:
            results += workers.collect()
    assert results == [((hang, 0), WorkerCrash()), ((None, 5), 25)]
    assert time.monotonic() - start < LIMITS.wall_s + 3


def test_a_worker_that_was_killed_while_idle_is_no_items_fault():
    with Workers(process_id, 1) as workers:
        workers.submit([0])
        ((_, pid),) = workers.collect() or workers.collect()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        workers.submit([1])
        results = []
        while not results:
            results = workers.collect()
    ((item, other),) = results
    assert item == 1
    assert other not in (pid, WorkerCrash())


def test_a_worker_is_replaced_after_so_many_items():
    with Workers(process_id, 1, Limits(items=5)) as workers:
        pids = [pid for batch in workers.run(range(20), lambda _: None) for _, pid in batch]
    assert len(pids) == 20
    assert sorted(map(pids.count, set(pids))) == [5, 5, 5, 5]


def pages_faulted_in(size_bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"\1") * size_bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_worker_keeps_the_memory_that_an_item_has_freed_for_the_next():
    results, _ = run(pages_faulted_in, [size << 20 for size in (30, 10, 30, 20, 30)], count=1)
    first, *others = (pages for _, pages in results)
    assert first > 1000  # of 7680
    assert max(others) < 100


def print_much(number):
    os.write(1, b"a patient's name\n")
    os.write(2, b"a patient's name\n")
    return number


def test_nothing_that_a_worker_prints_is_seen(capfd):
    with Workers(print_much, 1) as workers:
        assert [pair for batch in workers.run([1], lambda _: None) for pair in batch] == [(1, 1)]
    assert "patient" not in "".join(capfd.readouterr())


def big(number):
    return bytes(300_000)


def test_results_larger_than_the_pipe_arrive():
    with Workers(big, 2) as workers:
        results = [pair for batch in workers.run(range(40), lambda _: None) for pair in batch]
    assert {len(result) for _, result in results} == {300_000}


def huge(number):
    return bytes(5 << 20)


def process_id_or_huge(number):
    return huge(number) if number else os.getpid()


def test_a_worker_that_is_killed_amid_its_result_costs_no_more_than_that_item():
    with Workers(process_id_or_huge, 1) as workers:
        ((_, pid),) = [pair for batch in workers.run([0], lambda _: None) for pair in batch]
        workers.submit([1])
        time.sleep(3)  # its result is larger than the pipe, so it now waits within it
        os.kill(pid, signal.SIGKILL)
        results = [pair for batch in workers.run([2], lambda _: None) for pair in batch]
    assert sorted(results) == [(1, bytes(5 << 20)), (2, bytes(5 << 20))]


class DiesAtEveryOtherStart:
    """A function whose process dies while it is loaded, each second time."""

    def __init__(self, log):
        self.log = log

    def __call__(self, item):
        return item

    def __reduce__(self):
        return load_or_die, (self.log,)


def load_or_die(log):
    with open(log, "ab", buffering=0) as file:  # noqa: PTH123
        file.write(b".")
        if file.tell() % 2 == 1:
            os.abort()
    return DiesAtEveryOtherStart(log)


def test_single_failed_starts_between_good_ones_do_not_add_up(tmp_path):
    items = range(2 * MAX_FAILED_STARTS)
    with Workers(DiesAtEveryOtherStart(tmp_path / "starts"), 1, Limits(items=1)) as workers:
        results = [pair for batch in workers.run(items, lambda _: None) for pair in batch]
    assert sorted(results) == [(number, number) for number in items]
    assert (tmp_path / "starts").stat().st_size >= 4 * MAX_FAILED_STARTS - 1


def use_cpu(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def test_the_cpu_limit_ends_a_worker_long_before_its_wall_clock_limit():
    with Workers(use_cpu, 1, Limits(cpu_s=1.0, wall_s=100.0)) as workers:
        workers.submit([90.0])
        start, results = time.monotonic(), []
        while not results:
            results = workers.collect()
    assert results == [(90.0, WorkerCrash())]
    assert time.monotonic() - start < 90


def test_the_cpu_limit_is_for_one_item_and_not_for_all():
    with Workers(use_cpu, 1, Limits(cpu_s=1.0, wall_s=60.0)) as workers:
        items = [0.51, 0.52, 0.53, 0.54, 0.55, 0.56]
        found = dict(pair for batch in workers.run(items, lambda _: None) for pair in batch)
    assert sorted(found) == items
    assert len(set(found.values())) == 1
    assert WorkerCrash() not in found.values()


class Unloadable:
    # It cannot be built again in the worker, as if the installation were broken.
    def __call__(self, item):
        return item

    def __reduce__(self):
        return os.abort, ()


def test_workers_that_cannot_start_are_an_error_and_not_the_fault_of_the_files():
    with Workers(Unloadable(), 1) as workers, pytest.raises(InstallationError, match="doctor"):
        list(workers.run(range(3), lambda _: None))


NEEDY = """
from hipedge.errors import InstallationError
from hipedge.pipeline.workers import Workers

class Needy:
    imports = ("broken",)

try:
    Workers(Needy(), 1)
except InstallationError as error:
    print(error)
"""


def test_imports_that_fail_in_the_fork_server_are_an_error_that_says_so(tmp_path):
    (tmp_path / "broken.py").write_text("raise OSError('libbroken.so: cannot open shared object')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", NEEDY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "no worker process can be started" in done.stdout, done.stderr
    assert "libbroken.so" in done.stderr


def test_collecting_waits_no_longer_than_it_is_told():
    with Workers(harm_or_square, 1, LIMITS) as workers:
        assert workers.collect(0.01) == []
        workers.submit([(hang, 0)])
        start = time.monotonic()
        assert workers.collect(0.2) == []
        assert time.monotonic() - start < 2


class Sink:
    """The next stage of a pipeline, which always has something to collect."""

    def __init__(self):
        self.is_full = self.is_busy = True
        self.event, self.flushes = os.eventfd(1), 0

    def flush(self):
        self.flushes += 1

    def fileno(self):
        return self.event


@pytest.fixture
def sink():
    made = Sink()
    yield made
    os.close(made.event)


def test_nothing_new_is_claimed_while_the_sink_is_full(sink):
    claimed, results = [], []
    with Workers(square, 2) as workers:
        batches = workers.run(range(20), claimed.extend, sink)
        assert [next(batches) for _ in range(3)] == [[], [], []]
        assert claimed == []
        sink.is_full = False
        while len(results) < 20:
            results += next(batches)
        assert claimed == list(range(20))


def test_batches_come_until_the_sink_is_no_longer_busy(sink):
    sink.is_full = False
    with Workers(square, 1) as workers:
        batches = workers.run([], lambda _: None, sink)
        assert [next(batches) for _ in range(3)] == [[], [], []]
        sink.is_busy = False
        assert list(batches) == []


def test_the_sink_waits_for_no_more_results_only_where_none_is_in_progress(sink, tmp_path):
    sink.is_full, gate = False, str(tmp_path / "gate")
    with Workers(wait_for, 1) as workers:
        batches = workers.run([gate], lambda _: None, sink)
        for _ in range(5):
            assert next(batches) == []
        assert sink.flushes == 0
        (tmp_path / "gate").touch()
        while not next(batches):
            assert sink.flushes == 0
        next(batches)
        assert sink.flushes == 1


def wait_for(path):
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)
    return path


def test_few_items_are_claimed_before_there_is_a_worker_for_them(sink, tmp_path):
    """After a crash of the whole service, each claimed item counts as tried."""
    sink.is_full, gate, claimed = False, str(tmp_path / "gate"), []
    with Workers(wait_for, 2) as workers:
        batches = workers.run([gate] * 100, claimed.extend, sink)
        for _ in range(5):
            assert next(batches) == []
        assert len(claimed) == workers.in_flight == 8
        assert workers.room == 0
        (tmp_path / "gate").touch()
        results = []
        while len(results) < 100:
            results += next(batches)
        assert workers.in_flight == 0


def test_items_are_claimed_several_at_a_time():
    """A claim is a transaction: each waits for the disk."""
    claims = []
    with Workers(square, 2) as workers:
        list(workers.run(range(40), lambda items: claims.append(len(items))))
    assert sum(claims) == 40
    assert all(count >= 4 for count in claims[:-1])
