"""Promise 4: very many files at once, and no events to tell of them."""

import logging
import os
import socket
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import watchfiles

from hipedge.errors import InstallationError
from hipedge.watch.events import FileEvents
from tests.watch.clinic import ROOT_UID, Clinic, dicom

FIRST = 10_000  # so that all numbers are equally long


class Manager:
    """Stands in for systemd: notes when the service tells of itself."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self.told = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while message := self._socket.recv(4096):
            self.told.append((time.monotonic(), message.decode()))

    def longest_silence_s(self):
        fed = [moment for moment, message in self.told if message == "WATCHDOG=1"]
        return max(later - earlier for earlier, later in pairwise(fed))


def managed(path):
    os.environ["NOTIFY_SOCKET"] = str(path)


def resident_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def flood(clinic, manager, count, timeout_s):
    film, uid = dicom(FIRST), f"{ROOT_UID}.{FIRST}".encode()
    assert film.count(uid) == 2
    arriving = clinic.folder / "flood"
    arriving.mkdir()
    for number in range(FIRST, FIRST + count):
        data = film.replace(uid, f"{ROOT_UID}.{number}".encode())
        (arriving / f"{number}.dcm").write_bytes(data)
    with clinic.service(managed, manager.path) as service:
        clinic.wait_until_up(service)
        before_mb, peak_mb = resident_mb(service.pid), 0
        arriving.rename(clinic.incoming / "flood")

        def done():
            nonlocal peak_mb
            peak_mb = max(peak_mb, resident_mb(service.pid))
            return clinic.states() == {"screened": count}

        clinic.wait(done, timeout_s)
    assert clinic.rows("select count(*), max(attempts) from files") == [(count, 1)]
    return peak_mb - before_mb


@pytest.mark.promise(4)
def test_hundreds_of_files_at_once_are_screened_and_the_watchdog_is_fed(tmp_path, untrained_model):
    clinic = Clinic(tmp_path, untrained_model.path, 20_000, rescan_s=3.0)
    manager = Manager(tmp_path)
    grown_mb = flood(clinic, manager, 300, timeout_s=100)
    messages = [message for _, message in manager.told]
    assert (messages[0], messages[-1]) == ("READY=1", "STOPPING=1")
    assert manager.longest_silence_s() < 10
    assert grown_mb < 100


@pytest.mark.slow
@pytest.mark.promise(4)
@pytest.mark.timeout(1800)
def test_ten_thousand_files_at_once(tmp_path, untrained_model):
    clinic = Clinic(tmp_path, untrained_model.path, 20_000, workers=2, rescan_s=3.0)
    manager = Manager(tmp_path)
    grown_mb = flood(clinic, manager, 10_000, timeout_s=1700)
    assert manager.longest_silence_s() < 30
    assert grown_mb < 200


def without_events():
    FileEvents.run = lambda self: None


def failing_events():
    watchfiles.watch = lambda *_, **__: no_more_watches()


def no_more_watches():
    raise OSError("OS file watch limit reached")


@pytest.mark.promise(4)
@pytest.mark.parametrize("fault", [without_events, failing_events])
def test_without_events_the_scan_finds_all(clinic, fault):
    with clinic.service(fault) as service:
        clinic.wait_until_up(service)
        for number in range(5):
            clinic.drop(f"deep/{number}.dcm", dicom(number))
        clinic.wait_for(5)
    if fault is failing_events:
        assert "events_unavailable" in clinic.log.read_text()


class Events:
    """Stands in for watchfiles: yields or raises what a test has put in."""

    def __init__(self, *results):
        self.results = list(results)
        self.calls = 0

    def __call__(self, *roots, stop_event, yield_on_timeout, **_):
        assert yield_on_timeout
        self.calls += 1
        while self.results:
            result = self.results.pop(0)
            if isinstance(result, BaseException):
                raise result
            yield result
        stop_event.set()


def run_events(monkeypatch, *results):
    """What the thread reports, and how long it pauses before each restart."""
    reports, pauses, pending = [], [], []
    source = Events(*results)
    monkeypatch.setattr(watchfiles, "watch", source)
    thread = FileEvents([Path("/")], reports.append)
    thread.pending.set = lambda: pending.append(True)
    monkeypatch.setattr(threading.Event, "wait", lambda event, pause_s: pauses.append(pause_s))
    thread.run()
    return source.calls, reports, pauses, len(pending)


CHANGE, TIMEOUT = {("added", "/film")}, set()


def test_events_that_fail_are_an_alarm_until_they_work_again(monkeypatch):
    error = OSError("OS file watch limit reached")
    calls, reports, pauses, pending = run_events(
        monkeypatch, CHANGE, error, error, BaseException("panic"), TIMEOUT, error, CHANGE
    )
    assert calls == 5
    assert reports == [False, True, True, True, False, True, False]
    assert pauses == [1.0, 2.0, 4.0, 1.0]
    assert pending == 2 + 4  # each event, and each restart, since events may be missed


def test_failed_events_are_logged_by_their_error_and_those_of_the_library_are_not(
    monkeypatch, caplog
):
    run_events(monkeypatch, OSError("/in/DOE^JANE"))
    assert [(record.message, record.fields) for record in caplog.records] == [
        ("events_failed", {"error": "OSError"})
    ]
    assert logging.getLogger("watchfiles").disabled
    assert logging.getLogger("watchfiles.main").disabled


def test_without_the_library_for_events_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(InstallationError, match=r"hipedge\[service\]"):
        FileEvents([Path("/")], lambda failing: None)


def test_events_are_stopped_at_once(tmp_path):
    thread = FileEvents([tmp_path], lambda failing: None)
    thread.start()
    thread.stop()
    assert not thread.is_alive()


def test_pauses_between_restarts_have_a_limit(monkeypatch):
    _, _, pauses, _ = run_events(monkeypatch, *[OSError("no more watches")] * 9)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_name_that_is_not_utf8_is_an_event_and_no_alarm(monkeypatch):
    error = RuntimeError('Unable to decode path "/in/\\xFF.dcm" to string')
    calls, reports, pauses, pending = run_events(monkeypatch, error, error, TIMEOUT)
    assert (calls, reports, pauses, pending) == (3, [False], [1.0, 1.0], 2)


@pytest.mark.promise(4)
def test_a_file_name_that_is_not_utf8_does_not_end_the_events(new_clinic):
    clinic = new_clinic(rescan_s=3600.0)
    names = [os.fsdecode(b"\xff\xfe.dcm"), "film.dcm"]
    with clinic.service() as service:
        clinic.wait_until_up(service)
        for number, name in enumerate(names):
            clinic.drop(name, dicom(number))
            clinic.wait_for(number + 1)
        assert clinic.rows("select name from alarms") == []
    assert set(clinic.outcomes().values()) == {"screened"}


@pytest.mark.promise(4)
def test_failed_events_are_an_alarm(clinic):
    with clinic.service(failing_events) as service:
        clinic.wait_until_up(service)
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("events_unavailable",)])


def test_an_event_brings_the_scan_forward(new_clinic):
    clinic = new_clinic(rescan_s=3600.0)
    with clinic.service() as service:
        clinic.wait_until_up(service)
        clinic.drop("film.dcm", dicom(1))
        clinic.wait_for(1)
