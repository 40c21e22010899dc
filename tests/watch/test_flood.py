"""Promise 4: very many files at once, and no events to tell of them."""

import os
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import watchfiles

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


def test_an_event_brings_the_scan_forward(new_clinic):
    clinic = new_clinic(rescan_s=3600.0)
    with clinic.service() as service:
        clinic.wait_until_up(service)
        clinic.drop("film.dcm", dicom(1))
        clinic.wait_for(1)
