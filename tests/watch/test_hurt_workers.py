"""Promises 6 and 7 in the service: a film that harms its process costs itself, and little time."""

import os
import signal
import time
from pathlib import Path

import pytest

from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.pipeline.workers import Workers
from hipedge.watch import service as watch_service
from tests.watch import faults
from tests.watch.clinic import dicom


class PanicException(BaseException):
    """As pyo3 raises it."""


def eat():
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def panic():
    raise PanicException("DOE^JANE")


HARMS = {
    "segfaults": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "aborts": os.abort,
    "panics": panic,
    "hangs": lambda: time.sleep(1000),
    "eats memory": eat,
}
# Whether a process outlives its MemoryError depends on how little is left.
CODES = {"eats memory": ("worker_died", "unexpected_error", "too_large")}


class HarmfulPreprocessor(Preprocessor):
    """Comes to harm on a film that is named after it. Unpickled in the worker from here."""

    def __call__(self, path: Path):
        for name, harm in HARMS.items():
            if name in path.name:
                harm()
        return super().__call__(path)


def harm():
    watch_service.Preprocessor = HarmfulPreprocessor


@pytest.mark.promise(6)
@pytest.mark.parametrize("what", HARMS)
def test_a_film_that_harms_its_process_is_quarantined_and_the_next_one_is_fine(new_clinic, what):
    clinic = new_clinic(worker_timeout_s=2.0, worker_memory_mb=1024)
    with clinic.service(harm) as service:
        clinic.wait_until_up(service)
        clinic.drop(f"1 {what}.dcm", dicom(1))
        clinic.wait(lambda: clinic.states().get("claimed"))
        for number in range(2, 8):
            clinic.drop(f"{number}.dcm", dicom(number))
        start = time.monotonic()
        clinic.wait(lambda: clinic.states().get("screened") == 6)
        recovered_s = time.monotonic() - start
        clinic.wait_for(7)
    outcomes = clinic.outcomes()
    assert outcomes.pop(f"1 {what}.dcm") in CODES.get(what, ("worker_died",))
    assert set(outcomes.values()) == {"screened"}
    assert recovered_s < 20
    assert clinic.rows("select attempts from files where state = 'quarantined'")[0][0] <= 3
    assert "DOE" not in clinic.log.read_text()


def die_with_the_film():
    """The service dies whenever that film is read: by what its worker does to the machine."""

    def submit(original):
        def faulty(self, items):
            items = list(items)
            original(self, items)
            if any("deadly" in item.path.name for item in items):
                faults.die()

        return faulty

    faults.replace(Workers, "submit", submit)


@pytest.mark.promise(1)
@pytest.mark.promise(6)
def test_a_film_that_kills_the_service_is_tried_three_times_and_no_other_pays_for_it(clinic):
    clinic.drop("deadly.dcm", dicom(1))
    for number in range(2, 6):
        clinic.drop(f"{number}.dcm", dicom(number))
    deaths = 0
    while True:
        process = clinic.start(die_with_the_film)
        clinic.wait(lambda p=process: p.exitcode is not None or len(finished(clinic)) == 5)
        if process.exitcode is None:
            break
        deaths += 1
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert deaths == 3
    assert clinic.outcomes() == {
        "deadly.dcm": "worker_died",
        **{f"{number}.dcm": "screened" for number in range(2, 6)},
    }


def finished(clinic):
    return clinic.rows("select 1 from paths where file_id is not null")
