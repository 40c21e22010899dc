import os
import signal
import subprocess
import sys
import time

import pytest

from hipedge.workers import Died, Workers


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
    assert dict(results) == {number: Died() if number == 7 else number for number in range(30)}
    assert len(results) == 30
    assert claimed.count(7) == 2  # once among others, once alone


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
from hipedge.workers import Workers
from tests.test_workers import process_id

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
