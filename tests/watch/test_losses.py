"""Promises 9 and 10: a full disk, a locked database, a lost GPU; and a broken installation."""

import contextlib
import os
import shutil
import sqlite3
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hipedge.backends import open_backend
from hipedge.backends.fake import FakeBackend
from hipedge.errors import BackendError, BackendLost, InstallationError
from hipedge.locate.given import GivenHips
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.store import connection
from hipedge.types import Category, CropGeometry
from hipedge.watch import inference, loop, service
from hipedge.watch.inference import Inference
from hipedge.watch.settle import FileStat, Settled, SettledPreprocessor
from tests.watch import faults
from tests.watch.clinic import dicom


def little_space(marker):
    """The disk is nearly full for as long as a file exists."""
    faults.replace(
        shutil,
        "disk_usage",
        lambda usage: lambda path: usage(path)._replace(free=0 if marker.exists() else 1 << 40),
    )


@pytest.mark.promise(9)
def test_a_disk_that_fills_up_is_a_pause_and_an_alarm_until_there_is_room(new_clinic):
    clinic = new_clinic(reserve_mb=100)
    marker = clinic.folder / "full"
    marker.touch()
    clinic.drop("film.dcm", dicom(1))
    with clinic.service(little_space, marker):
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("disk_reserve",)])
        time.sleep(0.5)
        assert "screened" not in clinic.states()
        marker.unlink()
        clinic.wait_for(1)
        clinic.wait(lambda: clinic.rows("select count(*) from alarms") == [(0,)])
    assert clinic.outcomes() == {"film.dcm": "screened"}


def full_disk(marker):
    """SQLite finds no room for another page, and then finds some again."""

    def begin(original):
        @contextlib.contextmanager
        def faulty(self):
            (row,) = self.query("pragma page_count")
            limit = row["page_count"] if marker.exists() else 1 << 30
            self.execute(f"pragma max_page_count = {limit}")
            with original(self):
                yield

        return faulty

    faults.replace(connection.Connection, "transaction", begin)


@pytest.mark.promise(9)
def test_when_sqlite_finds_no_room_results_are_held_and_committed_later(clinic):
    marker = clinic.folder / "full"
    with clinic.service(full_disk, marker) as process:
        clinic.wait_until_up(process)
        marker.touch()
        for number in range(40):
            clinic.drop(f"{number}.dcm", dicom(number, Category.OSTEOARTHRITIS))
        clinic.wait(lambda: "database_unavailable" in clinic.log.read_text())
        time.sleep(1.0)
        marker.unlink()
        clinic.wait_for(40)
        assert process.is_alive()
        clinic.wait(lambda: len(clinic.messages()) == 40)
    assert clinic.is_sound()
    assert clinic.rows("select count(*), max(attempts) from files") == [(40, 1)]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("busy_s", "held_s"), [(0.2, 3.0), pytest.param(30.0, 35.0, marks=pytest.mark.slow)]
)
def test_a_database_that_another_process_has_locked_delays_and_loses_nothing(
    clinic, busy_s, held_s
):
    clinic.drop("early.dcm", dicom(1))
    with clinic.service(patience_with_locks, busy_s) as process:
        clinic.wait_for(1)
        other = sqlite3.connect(clinic.db, isolation_level=None)
        other.execute("begin exclusive")
        clinic.drop("late.dcm", dicom(2))
        time.sleep(held_s)
        other.execute("rollback")
        other.close()
        clinic.wait_for(2)
        assert process.is_alive()
        clinic.wait(lambda: clinic.rows("select count(*) from alarms") == [(0,)])
    assert clinic.outcomes() == {"early.dcm": "screened", "late.dcm": "screened"}


def patience_with_locks(busy_s):
    connection.Connection.__init__.__kwdefaults__["busy_timeout_s"] = busy_s


@pytest.mark.promise(9)
def test_a_database_that_cannot_be_written_is_a_clear_refusal_to_start(clinic):
    with clinic.service() as process:
        clinic.wait_until_up(process)
    process = clinic.start(read_only)
    process.join(60)
    assert process.exitcode == 1
    assert "readonly" in clinic.log.read_text()


def read_only():
    def connect(original):
        return lambda database, **options: original(database.replace("=rwc", "=ro"), **options)

    faults.replace(sqlite3, "connect", connect)


class Breaking(FakeBackend):
    """Fails as a GPU does: at its third batch, and then for as long as its process lives."""

    max_batch = 2

    def __init__(self, size_px, marker):
        super().__init__(size_px)
        self._marker = marker
        self._batches = 0
        self._broken = False

    def _infer(self, batch):
        self._batches += 1
        if self._broken or (self._batches == 3 and not self._marker.exists()):
            self._marker.touch()
            self._broken = True
            raise BackendLost("CUDA error 700: an illegal memory access was encountered")
        return super()._infer(batch)


class Opened:
    """Opens a breaking backend in the inference process, and notes which process that is."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        with (self.folder / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Breaking(64, self.folder / "broken")


def lose_the_gpu(folder):
    service.Opener = lambda name, model, threads=None: Opened(folder)
    loop.WAIT_S = 0.001
    service.Workers.room = property(lambda self: max(0, 2 - self.in_flight))


@pytest.mark.promise(10)
def test_a_lost_gpu_gives_no_result_and_each_hip_gets_exactly_one(clinic):
    for number in range(12):
        clinic.drop(f"{number}.dcm", dicom(number, Category.FEMORAL_NECK_FRACTURE))
    with clinic.service(lose_the_gpu, clinic.folder):
        clinic.wait_for(12)
    pids = (clinic.folder / "pids").read_text().split()
    assert len(set(pids)) == 2
    assert "backend_failed" in clinic.log.read_text()
    assert clinic.rows("select state, count(*) from files group by state") == [("screened", 12)]
    assert clinic.rows("select count(*), count(distinct file_id) from hips") == [(12, 12)]
    assert clinic.rows("select max(attempts) from files") == [(1,)]


class Lost:
    """Opens a backend that fails at once, and no other after it."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name

    def __call__(self):
        if self.name == "spare":
            return FakeBackend(64)
        if (self.folder / "gone").exists():
            raise BackendError("no device")
        (self.folder / "gone").touch()
        return FakeBackend(64, failures=[BackendLost("device removed")] * 99)


def lose_it_for_good(folder):
    service.Opener = lambda name, model, threads=None: Lost(folder, name)
    service.backends.choose = lambda name: (name, "asked for")


@pytest.mark.promise(10)
def test_a_backend_that_stays_lost_is_replaced_only_where_the_site_has_said_so(new_clinic):
    clinic = new_clinic(fallback_backend="spare")
    clinic.drop("film.dcm", dicom(1))
    with clinic.service(lose_it_for_good, clinic.folder):
        clinic.wait_for(1)
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("backend_fallback",)])
    reasons = clinic.rows("select backend_reason from files join runs on runs.id = run_id")
    assert reasons == [("fallback: the configured backend was lost",)]


@pytest.mark.promise(10)
def test_without_a_fallback_a_lost_backend_is_an_alarm_and_films_wait(clinic):
    clinic.drop("film.dcm", dicom(1))
    with clinic.service(lose_it_for_good, clinic.folder, ends=False) as process:
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("backend_lost",)])
        time.sleep(0.5)
        assert process.is_alive()
        assert clinic.rows("select count(*) from files") == [(0,)]
    with clinic.service():
        clinic.wait_for(1)
    assert clinic.outcomes() == {"film.dcm": "screened"}


def test_what_needs_no_backend_is_recorded_while_it_is_lost(clinic):
    with clinic.service(lose_it_for_good, clinic.folder, ends=False) as process:
        clinic.wait_until_up(process)
        clinic.drop("film.dcm", dicom(1))
        clinic.drop("chest.dcm", dicom(2, BodyPartExamined="CHEST"))
        clinic.wait(lambda: clinic.rows("select code from files") == [("wrong_body_part",)])
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("backend_lost",)])


UNMARKED = 99  # a film whose hips the clinic's CSV does not mark: the locator must look


@pytest.mark.parametrize("last_chance", [False, True])
def test_a_locator_that_cannot_be_opened_is_no_fault_of_the_film(tmp_path, last_chance):
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom(UNMARKED))
    geometry = CropGeometry(64, 160.0, 10.0, 20.0)
    preprocess = SettledPreprocessor(
        Preprocessor(geometry, GivenHips(), frozenset(), tmp_path / "none.onnx")
    )
    with pytest.raises(InstallationError, match="locator"):
        preprocess(Settled(path, FileStat.at(path), last_chance))


class WithoutLocator(Preprocessor):
    """Its model's locator is not there."""

    @classmethod
    def for_model(cls, *arguments, **options):
        made = Preprocessor.for_model(*arguments, **options)
        return replace(made, locator=Path("/nowhere/locator.onnx"))


def break_the_locator():
    service.Preprocessor = WithoutLocator


def test_a_broken_installation_ends_the_service_and_costs_no_film(clinic):
    clinic.drop("film.dcm", dicom(UNMARKED))
    process = clinic.start(break_the_locator)
    process.join(60)
    assert process.exitcode == 1
    assert "InstallationError: the model's locator" in clinic.log.read_text()
    assert clinic.rows("select state, attempts from paths") == [("settling", 0)]
    assert clinic.rows("select count(*) from files") == [(0,)]


def hanging():
    return FakeBackend(64, latency_s=1000)


class Dying(FakeBackend):
    """Ends its process at the first batch."""

    def infer(self, batch):
        os.abort()


def dying():
    return Dying(64)


@pytest.mark.promise(10)
@pytest.mark.parametrize("open_", [hanging, dying])
def test_a_backend_that_hangs_or_dies_is_lost(open_, monkeypatch):
    monkeypatch.setattr(inference, "MAX_ATTEMPTS", 2)
    batch = np.zeros((1, 1, 64, 64), np.uint8)
    with Inference(open_, timeout_s=1.0) as lost, pytest.raises(BackendLost, match="2 times"):
        lost.infer(batch)


def test_a_backend_that_disagrees_with_the_golden_scores_is_not_used(untrained_model, monkeypatch):
    opener = inference.Opener("onnxruntime", untrained_model)
    with opener() as right:
        assert right.size_px == 64
    monkeypatch.setattr(inference, "open_backend", slightly_wrong)
    with pytest.raises(BackendError, match="disagrees"):
        opener()


def slightly_wrong(name, model, threads):
    backend = open_backend(name, model, threads=threads)
    infer = backend.infer

    def wrong(batch):
        return tuple(
            replace(score, logits=score.logits + np.linspace(0, 0.5, len(score.logits), dtype="f4"))
            for score in infer(batch)
        )

    backend.infer = wrong
    return backend


def test_an_error_while_opening_reaches_the_caller_as_it_is():
    with pytest.raises(BackendError, match="no device"):
        Inference(partial(refuse, "no device"))


def refuse(text):
    raise BackendError(text)


def test_what_is_inferred_in_another_process_is_what_the_backend_says():
    batch = np.random.default_rng(0).integers(0, 255, (3, 1, 64, 64), np.uint8)
    with Inference(partial(FakeBackend, 64)) as elsewhere:
        found = elsewhere.infer(batch)
    for scores, expected in zip(found, FakeBackend(64).infer(batch), strict=True):
        np.testing.assert_array_equal(scores.logits, expected.logits)
        np.testing.assert_array_equal(scores.maps, expected.maps)
    assert elsewhere.fingerprint == FakeBackend(64).fingerprint
