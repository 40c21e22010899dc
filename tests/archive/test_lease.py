"""Two jobs on one folder: the second is refused, and a dead one does not stay in the way."""

import json
import os
import subprocess
import sys
import time

import pytest

from hipedge.archive.lease import Lease, Owner, holds, read_owner
from hipedge.errors import StoreError


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock.json"


def elsewhere(lock, **changes):
    """Let a driver on another machine hold the lease."""
    owner = {**vars(Owner.here()), "token": "other", "host": "elsewhere", "beat": 7, **changes}
    lock.write_text(json.dumps(owner))


def test_a_second_driver_is_refused_while_the_first_lives(lock):
    with (
        Lease(lock, beat_s=0.05),
        pytest.raises(StoreError, match=rf"process {os.getpid()}"),
        Lease(lock, lease_s=30.0),
    ):
        raise AssertionError("both have the lease")
    assert not lock.exists()


def test_a_driver_that_was_killed_on_this_machine_is_replaced_at_once(lock):
    script = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from hipedge.archive.lease import Lease\n"
        "Lease(Path(sys.argv[1])).__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(lock)], check=False)
    assert lock.exists()
    started = time.monotonic()
    with Lease(lock, lease_s=60.0) as lease:
        assert holds(lock, lease.token)
    assert time.monotonic() - started < 10


def test_a_silent_driver_of_another_machine_is_replaced_after_the_lease_whatever_its_clock(lock):
    elsewhere(lock)
    os.utime(lock, (4e9, 4e9))  # a file of the next century, by the clock of its machine
    started = time.monotonic()
    with Lease(lock, lease_s=0.5) as lease:
        assert 0.5 <= time.monotonic() - started < 10
        assert holds(lock, lease.token)


def test_a_driver_that_was_taken_for_dead_stops(lock):
    with Lease(lock, beat_s=0.05) as lease:
        elsewhere(lock)
        lease._thread.join(timeout=20)
        with pytest.raises(StoreError, match="another driver"):
            lease.check()
    assert read_owner(lock).host == "elsewhere"


def test_what_is_no_lock_is_named(lock):
    lock.write_text("{}")
    with pytest.raises(StoreError, match="delete it"), Lease(lock):
        raise AssertionError("took it")
