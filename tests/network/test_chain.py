"""From a modality to the results in PACS: storescu, `receive`, `watch`, Orthanc, WADO-RS."""

import os
import signal
from pathlib import Path

import pytest
from dicomweb_client.web import DICOMwebClient

from hipedge.network.spool import SpooledFilm
from hipedge.pipeline.workers import Workers
from hipedge.store.store import Store
from hipedge.types import Category
from tests.network.node import Node, dcmtk
from tests.pacs import AE_TITLE, Orthanc, on_loopback
from tests.watch import faults
from tests.watch.clinic import ROOT_UID, Clinic, dicom

__all__ = ["on_loopback"]

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
DELIVERED = "select count(*) from outbox where channel = 'pacs' and delivered_at is not null"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, on_loopback):
    with Orthanc(tmp_path_factory.mktemp("pacs"), on_loopback).up() as orthanc:
        yield orthanc


class Chain:
    """A modality's films, the two services, and a PACS that has the films already."""

    def __init__(self, folder, model, pacs):
        self.pacs, self.folder = pacs, folder
        self.node = Node(folder)
        (folder / "clinic").mkdir()
        self.clinic = Clinic(
            folder / "clinic",
            model.path,
            pacs_host="127.0.0.1",
            pacs_port=pacs.dicom_port,
            pacs_ae_title=AE_TITLE,
        )
        self.clinic.incoming = self.node.spool

    def film(self, number):
        """Write a flagged film, and put it into the PACS, as a modality does."""
        path = self.folder / f"{number}.dcm"
        path.write_bytes(
            dicom(
                number,
                Category.FEMORAL_NECK_FRACTURE,
                StudyInstanceUID=self.study(number),
                SeriesInstanceUID=f"{ROOT_UID}.2.{number}",
                PatientID="1",
                StudyID="",
            )
        )
        sent = dcmtk("storescu", "-aec", AE_TITLE, "127.0.0.1", self.pacs.dicom_port, path)
        assert sent.returncode == 0, sent.stderr
        return path

    @staticmethod
    def study(number):
        return f"{ROOT_UID}.1.{number}"

    def in_study(self, number):
        """Return the classes of what the PACS has in a film's study, read by WADO-RS."""
        found = DICOMwebClient(self.pacs.web).retrieve_study(self.study(number))
        assert {one.StudyInstanceUID for one in found} == {self.study(number)}
        return sorted(one.SOPClassUID for one in found)

    def send(self, path):
        """Return whether a film was acknowledged."""
        return self.node.store(path).returncode == 0

    def wait_for_results(self, *numbers):
        wanted = sorted([DX, SC, SR])
        self.clinic.wait(lambda: self.clinic.rows(DELIVERED) == [(len(numbers),)])
        assert [self.in_study(number) for number in numbers] == [wanted] * len(numbers)


@pytest.fixture
def chain(tmp_path, untrained_model, pacs):
    return Chain(tmp_path, untrained_model, pacs)


# What is killed, and when. Each test has two films of its own.
IN_RECEIVE = {
    "when the first bytes of the film are written": (faults.after, SpooledFilm, "write"),
    "when its content is on the disk": (faults.after, os, "fsync"),
    "when it has its name": (faults.after, os, "rename"),
    "before it is acknowledged": (faults.after, SpooledFilm, "keep"),
}
IN_WATCH = {
    "between the claim and the workers": (faults.after, Store, "claim"),
    "while the workers read": (faults.after, Workers, "submit"),
    "before the results are committed": (faults.before, Store, "record"),
    "after the results are committed": (faults.after, Store, "record"),
}
POINTS = {**IN_RECEIVE, **IN_WATCH}
# Each of these is close to another point.
NIGHTLY = {
    "between the claim and the workers",
    "when it has its name",
    "when the first bytes of the film are written",
    "when its content is on the disk",
    "while the workers read",
    "before the results are committed",
}
NUMBERS = {point: 2 * index for index, point in enumerate(POINTS)}


def kill_at(point):
    put, owner, name = POINTS[point]
    put(owner, name, faults.die)


def each(points):
    marks = {point: [pytest.mark.slow] if point in NIGHTLY else [] for point in points}
    return pytest.mark.parametrize("point", [pytest.param(p, marks=marks[p]) for p in points])


@pytest.mark.promise(19)
@each(IN_RECEIVE)
def test_receive_killed_each_acknowledged_film_has_its_results_once(chain, point):
    first, second = (chain.film(NUMBERS[point] + n) for n in (0, 1))
    with chain.clinic.service():
        with chain.node.running(ends=False):
            assert chain.send(first)
        with chain.node.running(kill_at, point, ends=False) as process:
            assert not chain.send(second)
            process.join(20)
            assert process.exitcode == -signal.SIGKILL
        with chain.node.running():
            assert chain.send(second)  # a modality repeats what was not acknowledged
        chain.wait_for_results(NUMBERS[point], NUMBERS[point] + 1)


@pytest.mark.promise(19)
@each(IN_WATCH)
def test_watch_killed_each_acknowledged_film_has_its_results_once(chain, point):
    first, second = (chain.film(NUMBERS[point] + n) for n in (0, 1))
    with chain.node.running():
        assert chain.send(first)
        process = chain.clinic.start(kill_at, point)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert chain.send(second)
        with chain.clinic.service():
            chain.wait_for_results(NUMBERS[point], NUMBERS[point] + 1)


def children(pid):
    """The processes that a process has started, and those that these have."""
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in children(child)]


@pytest.mark.promise(19)
def test_killed_while_results_are_sent_each_film_has_its_results_once(chain):
    numbers = range(20, 24)
    with chain.node.running():
        for number in numbers:
            assert chain.send(chain.film(number))
        with chain.clinic.service(ends=False) as process:
            chain.clinic.wait(lambda: SC in [one for n in numbers for one in chain.in_study(n)])
            everybody = [process.pid, *children(process.pid)]
            for pid in everybody:
                os.kill(pid, signal.SIGKILL)
            process.join()
        with chain.clinic.service():
            chain.wait_for_results(*numbers)
