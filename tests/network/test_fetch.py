"""`hipedge fetch` from a real Orthanc, and from a server that answers anything."""

import json
import multiprocessing
import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from pydicom import dcmread

from hipedge.dicom.read import read
from hipedge.errors import ConfigError, HipedgeError, InputError
from hipedge.network import dicomweb
from hipedge.network.dicomweb import DicomWeb, FetchError
from hipedge.network.fetch import Query, fetch
from hipedge.network.journal import Journal
from hipedge.network.multipart import only_part
from hipedge.network.pace import Hours, Pace
from hipedge.network.spool import SpooledFilm
from tests.dicom.dicom_films import CR, EXPLICIT, JPEG_2000_LOSSLESS, JPEG_LS, RLE
from tests.loopback import Handler, LoopbackServer
from tests.pacs import Orthanc, on_loopback
from tests.watch import faults
from tests.watch.clinic import ROOT_UID, dicom, paint

# The days of the archive's films that belong to 2020, and those around them.
SPRING = Query(date(2020, 3, 9), date(2020, 3, 11), ("DX", "CR"))


def study(number, day="20200310", **elements):
    """Return a film that is a study of its own."""
    return dicom(
        number,
        **{
            "StudyInstanceUID": f"{ROOT_UID}.1.{number}",
            "SeriesInstanceUID": f"{ROOT_UID}.2.{number}",
            "PatientID": "1",
            "StudyDate": day,
            **elements,
        },
    )


__all__ = ["on_loopback"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory, on_loopback):
    """An Orthanc with films 0 to 9."""
    with Orthanc(tmp_path_factory.mktemp("archive"), on_loopback).up() as orthanc:
        for number, syntax in enumerate((EXPLICIT, RLE, JPEG_LS, JPEG_2000_LOSSLESS)):
            orthanc.add(study(number, syntax=syntax))
        orthanc.add(study(4, day="20200308"))
        orthanc.add(study(5, day="20200312"))
        orthanc.add(study(6, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
        orthanc.add(study(7, Modality="CR", SOPClassUID=CR, day="20200311"))
        orthanc.add(study(8, BodyPartExamined="CHEST"))
        orthanc.add(study(9, BodyPartExamined=None))
        yield orthanc


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "fetched"
    path.mkdir()
    return path


def uids(folder):
    """The last number of each film's UID."""
    found = [dcmread(path).SOPInstanceUID for path in folder.glob("*.dcm")]
    return sorted(int(uid.rpartition(".")[2]) for uid in found)


def test_films_of_the_days_and_modalities_arrive_as_they_are_stored(archive, folder):
    query = Query(SPRING.since, SPRING.until, ("DX", "CR"), frozenset({"HIP"}))
    done = fetch(DicomWeb(archive.web), folder, query, 0)
    assert (done.films, done.known, done.failed) == (6, 0, 0)
    assert uids(folder) == [0, 1, 2, 3, 7, 9]  # 9 names no body part
    by_uid = {read(path).film.sop_instance_uid: read(path) for path in folder.glob("*.dcm")}
    for number, syntax in enumerate((EXPLICIT, RLE, JPEG_LS, JPEG_2000_LOSSLESS)):
        film = by_uid[f"{ROOT_UID}.{number}"]
        assert film.film.transfer_syntax_uid == syntax
        pixels = film.overview.pixels
        assert pixels.shape == paint("normal").shape
        assert len(np.unique(pixels)) > 1
    assert all(re.fullmatch(r"[0-9a-f]{32}\.dcm", p.name) for p in folder.glob("*.dcm"))


def test_what_a_server_returns_in_pages_arrives_whole(archive, folder, monkeypatch):
    monkeypatch.setattr(dicomweb, "PAGE", 2)
    fetch(DicomWeb(archive.web), folder, SPRING, 0)
    assert uids(folder) == [0, 1, 2, 3, 7, 8, 9]


def test_a_day_with_more_studies_than_the_server_returns_arrives_whole(
    tmp_path, on_loopback, folder, monkeypatch
):
    monkeypatch.setattr(dicomweb, "MANY", 3)
    with Orthanc(tmp_path / "small", on_loopback).up(LimitFindResults=3) as archive:
        for number in range(12):
            archive.add(study(number, StudyTime=f"{number * 2:02}3000"))
        done = fetch(DicomWeb(archive.web), folder, SPRING, 0)
    assert (done.films, done.failed) == (12, 0)


def run(*arguments):
    """Run the command in a process of its own; return its exit status and what it printed."""
    command = [sys.executable, "-m", "hipedge", "fetch", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_command_goes_on_where_it_was(archive, folder):
    days = ("--since", "2020-03-09", "--until", "2020-03-11", "--per-minute", 100_000)
    command = (archive.web, folder, *days, "--modality", "DX")
    chest = "2 films fetched, 0 fetched before, 0 failed\n"  # one names no body part
    assert run(*command, "--body-part", "chest") == (0, chest)
    assert run(*command) == (0, "4 films fetched, 2 fetched before, 0 failed\n")
    # Studies that were fetched whole are not asked for again.
    assert run(*command) == (0, "0 films fetched, 0 fetched before, 0 failed\n")
    assert uids(folder) == [0, 1, 2, 3, 8, 9]


def test_a_study_that_has_grown_is_fetched_again_in_its_new_part(archive, folder):
    query = Query(date(2020, 3, 9), date(2020, 3, 11), ("DX",))
    fetch(DicomWeb(archive.web), folder, query, 0)
    before = uids(folder)
    archive.add(study(10, StudyInstanceUID=f"{ROOT_UID}.1.0", SeriesInstanceUID=f"{ROOT_UID}.2.0"))
    try:
        done = fetch(DicomWeb(archive.web), folder, query, 0)
        assert (done.films, done.known) == (1, 1)
        assert uids(folder) == sorted([*before, 10])
    finally:
        archive.delete(f"{ROOT_UID}.10")


def fetch_and_die(url, folder, owner, name, count):
    """Fetch in this process, which dies at the given call of a function."""
    calls = iter(range(count))

    def die_at_last():
        if next(calls, None) is None:
            faults.die()

    faults.after(owner, name, die_at_last)
    fetch(DicomWeb(url), folder, SPRING, 0)


@pytest.mark.parametrize(
    ("owner", "name", "repeated"),
    [(SpooledFilm, "write", 0), (SpooledFilm, "keep", 1), (Journal, "add_instance", 0)],
)
def test_killed_at_any_point_it_goes_on_and_misses_no_film(archive, folder, owner, name, repeated):
    context = multiprocessing.get_context("forkserver")
    target = (archive.web, folder, owner, name, 2)
    process = context.Process(target=fetch_and_die, args=target)
    process.start()
    process.join(60)
    assert process.exitcode == -9
    done = fetch(DicomWeb(archive.web), folder, SPRING, 0)
    assert done.failed == 0
    found = uids(folder)
    assert sorted(set(found)) == [0, 1, 2, 3, 7, 8, 9]
    assert len(found) == 7 + repeated


def test_half_a_line_of_the_journal_counts_as_none(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.add_instance("1.2.3")
        journal.add_study("1.2/DX/", 4)
    path.write_bytes(path.read_bytes() + b"instance 1.2.33")
    with Journal(path) as journal:
        assert journal.has_instance("1.2.3")
        assert not journal.has_instance("1.2.33")
        assert journal.has_study("1.2/DX/", 4)
        assert not journal.has_study("1.2/DX/", 5)
        journal.add_instance("1.2.4")
    assert path.read_text() == "instance 1.2.3\nstudy 1.2/DX/ 4\ninstance 1.2.4\n"


class Clock:
    """A time that only passes when somebody sleeps."""

    def __init__(self, now):
        self.moment = self.start = now

    def now(self):
        return self.moment

    def clock(self):
        return (self.moment - self.start).total_seconds()

    def sleep(self, seconds):
        self.moment += timedelta(seconds=seconds)


def test_requests_are_paced():
    clock = Clock(datetime(2020, 1, 1, 12))
    pace = Pace(30, now=clock.now, sleep=clock.sleep, clock=clock.clock)
    for _ in range(31):
        pace.wait()
    assert clock.clock() == pytest.approx(60)


@pytest.mark.parametrize(
    ("hours", "now", "begin"),
    [
        ("20-6", datetime(2020, 1, 1, 12), datetime(2020, 1, 1, 20)),
        ("20-6", datetime(2020, 1, 1, 21), datetime(2020, 1, 1, 21)),
        ("20-6", datetime(2020, 1, 1, 5, 59), datetime(2020, 1, 1, 5, 59)),
        ("20-6", datetime(2020, 1, 1, 6), datetime(2020, 1, 1, 20)),
        ("1-5", datetime(2020, 1, 1, 5), datetime(2020, 1, 2, 1)),
        ("8-24", datetime(2020, 1, 1, 23, 59), datetime(2020, 1, 1, 23, 59)),
        ("8-24", datetime(2020, 1, 1, 0), datetime(2020, 1, 1, 8)),
    ],
)
def test_requests_are_made_at_the_hours_allowed_only(hours, now, begin):
    clock = Clock(now)
    Pace(60, Hours.parse(hours), now=clock.now, sleep=clock.sleep, clock=clock.clock).wait()
    assert clock.moment == begin


@pytest.mark.parametrize("text", ["20", "20-25", "24-6", "a-b", "6-6", "0-24", "-3-4", ""])
def test_hours_that_mean_nothing_are_refused(text):
    with pytest.raises(InputError, match="hours"):
        Hours.parse(text)


class Server(Handler):
    """Answers each path with what `answers` has for the first pattern that is found in it."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.authorizations.append(self.headers.get("Authorization"))
        for pattern, answer in self.server.answers.items():
            if re.search(pattern, self.path):
                status, content_type, body = answer(self.path) if callable(answer) else answer
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
        self.send_error(404)


@contextmanager
def serving(**answers):
    with LoopbackServer(Server, "/dicom-web") as server:
        server.asked, server.authorizations, server.answers = [], [], answers
        yield server.url, server


def rows(*elements):
    """Return a result of QIDO-RS; each row a dictionary of tag and value."""
    found = [
        {tag: {"vr": "UI", "Value": [value]} for tag, value in row.items()} for row in elements
    ]
    return 200, "application/dicom+json", json.dumps(found).encode()


def multipart(body, boundary="xyz"):
    data = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + body
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return 200, kind, data + f"\r\n--{boundary}--\r\n".encode()


DAY = Query(date(2020, 3, 10), date(2020, 3, 10), ("DX",))
DX_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"


def one_film(film, uid="1.2.3", study_uid="1.2"):
    """Return the answers of a server that has one study with one film."""
    return {
        r"/instances\?": rows({"00080018": uid, "00080016": DX_CLASS}),
        r"/series\?": rows({"0020000E": "1.2.1"}),
        r"/studies\?": rows({"0020000D": study_uid}),
        r"/instances/": film,
    }


def fetch_from(answers, folder, query=DAY):
    with serving(**answers) as (url, server):
        return fetch(DicomWeb(url), folder, query, 0), server.asked


def test_a_server_that_ignores_the_page_is_asked_twice_and_not_for_ever(folder):
    done, asked = fetch_from(one_film(multipart(dicom(1))), folder)
    assert done.films == 1
    assert len([path for path in asked if "/studies?" in path]) == 2


@pytest.mark.parametrize("uid", ["../../../etc/x", "1.2/../..", "", "1" * 10_000, "a;b", "%2e%2e"])
def test_no_uid_of_a_server_becomes_part_of_a_path_or_a_url(folder, uid):
    done, asked = fetch_from(one_film(multipart(dicom(1)), uid=uid), folder)
    assert (done.films, done.failed) == (0, 1)
    assert [path for path in asked if "/instances/" in path] == []
    done, asked = fetch_from(one_film(multipart(dicom(1)), study_uid=uid), folder)
    assert (done.films, done.failed) == (0, 1)
    assert [path for path in asked if "/studies/" in path] == []
    assert {path.name for path in folder.iterdir()} == {".arriving", ".fetched"}


FILM = dicom(1)
WHOLE = multipart(FILM)


@pytest.mark.parametrize(
    "answer",
    [
        (200, WHOLE[1], WHOLE[2][:5000]),  # without its end
        (200, WHOLE[1], b""),
        multipart(b"no DICOM file" * 100),
        multipart(b"short"),
        (200, "text/html", b"<html>please log in</html>"),
        (200, "", b""),
        (200, "multipart/related", WHOLE[2]),
        (404, "text/plain", b"gone"),
        (500, "text/plain", b"DOE^JANE not found"),
    ],
)
def test_a_film_that_is_not_delivered_is_counted_and_asked_for_again(folder, answer, capfd):
    done, _ = fetch_from(one_film(answer), folder)
    assert (done.films, done.failed) == (0, 1)
    assert list(folder.glob("*.dcm")) == []
    assert "DOE" not in capfd.readouterr().err
    done, _ = fetch_from(one_film(WHOLE), folder)
    assert (done.films, done.failed) == (1, 0)
    (path,) = folder.glob("*.dcm")
    assert path.read_bytes() == FILM


def test_a_study_that_cannot_be_searched_keeps_back_no_other(folder):
    answers = {
        r"/studies/1.3/series\?": (500, "text/plain", b""),
        **one_film(WHOLE),
        r"/studies\?": rows({"0020000D": "1.3"}, {"0020000D": "1.2"}),
    }
    done, _ = fetch_from(answers, folder)
    assert (done.films, done.failed) == (1, 1)


def test_a_uid_with_a_zero_that_should_not_be_there_is_taken(folder):
    done, _ = fetch_from(one_film(WHOLE, uid="1.2.03", study_uid="1.2.00"), folder)
    assert (done.films, done.failed) == (1, 0)


def test_a_film_that_is_sent_without_multipart_is_accepted(folder):
    done, _ = fetch_from(one_film((200, "application/dicom", dicom(1))), folder)
    assert done.films == 1


def test_a_server_that_is_busy_is_asked_again_without_a_word_of_it(folder, capfd, caplog):
    answers = iter([(503, "text/plain", b""), WHOLE])
    done, _ = fetch_from(one_film(lambda _: next(answers)), folder)
    assert (done.films, done.failed) == (1, 0)
    assert "1.2" not in capfd.readouterr().err + caplog.text


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_a_part_is_the_same_however_its_bytes_arrive(size):
    content = bytes(range(256)) * 20 + b"\r\n--xy\r\n--" * 10
    _, kind, data = multipart(content)
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    assert b"".join(only_part(kind, chunks)) == content


@pytest.mark.parametrize(
    "answer", [(200, "application/json", b"nonsense"), (401, "text/plain", b"")]
)
def test_a_server_that_cannot_be_searched_is_an_error(folder, answer):
    with pytest.raises(FetchError):
        fetch_from({"/studies": answer}, folder)


def test_no_server_is_an_error(folder):
    with pytest.raises(FetchError, match="no answer"):
        fetch(DicomWeb("http://127.0.0.1:9"), folder, DAY, 0)


def test_a_full_disk_is_named_and_leaves_nothing(folder):
    with pytest.raises(HipedgeError, match="No space left"), serving(**one_film(WHOLE)) as (url, _):
        fetch(DicomWeb(url), folder, DAY, 1 << 62)
    assert list(folder.glob("*.dcm")) == []


@pytest.mark.parametrize("url", ["ftp://x", "x", "https://", "https://user:word@host", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError):
        DicomWeb(url)


def test_a_password_is_not_sent_in_plain_text_to_another_machine():
    with pytest.raises(ConfigError, match="https"):
        DicomWeb("http://pacs.example/dicom-web", authorization="Basic abc")


def test_the_authorization_of_the_settings_is_sent(folder, tmp_path):
    secret = tmp_path / "authorization"
    secret.write_text("Bearer abc\n")
    settings = tmp_path / "hipedge.toml"
    settings.write_text(f'fetch_authorization_file = "{secret}"\nreserve_mb = 0')
    with serving(**{"/studies": rows()}) as (url, server):
        status, _ = run(url, folder, "--since", "2020-01-01", "--until", "2020-01-01",
                        "--per-minute", 100_000, "--config", settings)  # fmt: skip
    assert status == 0
    assert set(server.authorizations) == {"Bearer abc"}


def test_a_query_that_means_nothing_is_refused():
    with pytest.raises(InputError, match="later"):
        Query(date(2020, 1, 2), date(2020, 1, 1), ("DX",))
    with pytest.raises(InputError, match="modality"):
        Query(date(2020, 1, 1), date(2020, 1, 1), ("DX&limit=0",))
