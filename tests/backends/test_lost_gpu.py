"""After an error of the GPU no result is used, and the process goes on; with the real pycuda.

pycuda's destructors and the end of a thread abort the process where a broken context is not handled
with care.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hipedge.backends.fake import FakeBackend
from hipedge.errors import BackendLost
from hipedge.pipeline.batching import BatchScheduler
from tests.backends.cuda_driver import Counts, pycuda_folder
from tests.backends.gpu import backend_on, in_thread, logits, samples
from tests.pipeline.test_batching import await_films, prepared

ROOT = Path(__file__).parents[2]
HELD = [name for name in Counts.__dataclass_fields__ if name not in ("faults", "spinning_waits")]


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """A record of each life of a backend in which a call of CUDA or TensorRT failed."""
    pycuda_folder()
    folder = tmp_path_factory.mktemp("lives")
    command = [sys.executable, "-m", "tests.backends.each_call_fails", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {records[-1:]}: {done.stderr[-2000:]}"
    return records


def test_a_call_that_fails_is_a_backend_error_and_nothing_else(lives):
    """Before the backend is opened, it is one of the installation."""
    expected = {
        "loading": {"InstallationError", "BackendError"},
        "inference": {"BackendLost"},
        "closing": {None},
    }
    errors = Counter((life["stage"], life["error"]) for life in lives)
    assert {(stage, name) for stage, names in expected.items() for name in names} == set(errors)
    # Every call of several lives.
    assert len(lives) > 500
    assert min(errors.values()) > 20


def test_after_a_failure_nothing_is_freed_while_the_gpu_uses_it(lives):
    assert [life for life in lives if life["faults"] or life["tensorrt_faults"]] == []


def test_an_engine_that_cannot_be_loaded_leaves_nothing_behind(lives):
    left = {
        life["call"]
        for life in lives
        if life["stage"] == "loading" and "for ever" not in life["life"]
        if any(life[name] for name in HELD)
    }
    # A context that cannot be taken off the stack is kept.
    assert left == {"cuCtxPopCurrent"}


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_a_lost_backend_makes_no_call_any_more(tensorrt, driver, graphs, caplog):
    """The GPU seems well again, but its context was broken once."""

    def lose():
        backend = backend_on(tensorrt, graphs=graphs)
        for _ in range(3):
            backend.infer(samples(2))
        driver.fail(after=3)
        lost = "no result of this batch is kept; start the process"
        with pytest.raises(BackendLost, match=lost):
            backend.infer(samples(2))
        driver.heal()
        before = driver.call_count()
        for attempt in (backend.infer, backend.submit):
            with pytest.raises(BackendLost):
                attempt(samples(2))
        backend.close()
        return driver.names(before)

    assert in_thread(lose) == []
    assert "freed by the end of the process" in caplog.text


def test_a_gpu_that_is_lost_in_the_pipeline_is_an_error_there(tensorrt, driver):
    with BatchScheduler(lambda: backend_on(tensorrt)) as batches:
        batches.submit([prepared("a film")])
        await_films(batches, 1)
        driver.fail()
        batches.submit([prepared("another film")])
        batches.wait()
        with pytest.raises(BackendLost):
            batches.collect()
        assert len(batches.films) == 1


def test_another_backend_of_the_process_goes_on(tensorrt, driver):
    """As a thread after one that was lost."""
    backend = backend_on(tensorrt)
    driver.fail_use("cuMemcpyHtoDAsync_v2")
    with pytest.raises(BackendLost):
        backend.infer(samples(1))
    backend.close()
    with backend_on(tensorrt) as another:
        expected = logits(FakeBackend(64).infer(samples(2)))
        np.testing.assert_array_equal(logits(another.infer(samples(2))), expected)
