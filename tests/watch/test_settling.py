"""Promises 2, 3 and 5: only what is complete and at rest is read, whatever clocks and mounts do."""

import os
import subprocess
import time
from itertools import pairwise

import numpy as np
import pytest

from hipedge.errors import Code, InputError, InstallationError, StoreError
from hipedge.locate.given import GivenHips
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.store.store import Store
from hipedge.types import Category, CropGeometry, Refusal
from hipedge.watch import settle
from hipedge.watch.folders import Folders, mount_of, refuse_network
from hipedge.watch.settle import MIN_CHECKS, Settled, SettledPreprocessor, Settling, Unsettled
from tests.dicom import dicom_films
from tests.pipeline.test_batching import prepared
from tests.watch.clinic import ROOT_UID, dicom
from tests.watch.test_keeping import finish

GEOMETRY = CropGeometry(64, 160.0, 10.0, 20.0)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(b"a film")
    return path


def take(settling):
    return [item.path for item in settling.settled(10, lambda path: True)]


def look(settling, clock, times=1, apart_s=1.0):
    for _ in range(times):
        assert settling.check() == []
        clock.now += apart_s


def test_a_file_is_taken_after_its_time_and_several_looks(file, clock):
    settling = Settling(2.0, 60.0, clock=clock)
    settling.add([file])
    look(settling, clock, MIN_CHECKS - 1, apart_s=10.0)
    assert take(settling) == []
    look(settling, clock)
    assert take(settling) == [file]


@pytest.mark.promise(2)
def test_a_file_that_grows_is_not_taken_until_it_rests(file, clock):
    settling = Settling(2.0, 60.0, clock=clock)
    settling.add([file])
    for _ in range(20):
        with file.open("ab") as growing:
            growing.write(bytes(1024))
        look(settling, clock)
        assert take(settling) == []
    look(settling, clock, 3)
    assert take(settling) == [file]


@pytest.mark.promise(3)
def test_a_file_rewritten_in_place_with_the_same_size_and_mtime_is_another_one(file, clock):
    settling = Settling(2.0, 60.0, clock=clock)
    settling.add([file])
    look(settling, clock, MIN_CHECKS)
    (before,) = settling.settled(1, lambda path: True)
    status = file.stat()
    file.write_bytes(b"A FILM")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    look(settling, clock)
    assert take(settling) == []
    assert settle.FileStat.at(file).signature != before.stat.signature


@pytest.mark.promise(5)
@pytest.mark.parametrize("shift_s", [-86400, 86400])
def test_clocks_that_jump_and_mtimes_in_the_future_do_not_matter(file, clock, monkeypatch, shift_s):
    settling = Settling(2.0, 60.0, clock=clock)
    settling.add([file])
    os.utime(file, (time.time() + 10 * 86400,) * 2)
    present = time.time()
    monkeypatch.setattr(time, "time", lambda: present + shift_s)
    look(settling, clock, MIN_CHECKS)
    assert take(settling) == [file]


def test_a_file_that_was_not_ready_is_waited_for_longer_and_longer(file, clock):
    settling = Settling(1.0, 100.0, clock=clock)
    settling.add([file])
    taken = []
    for second in range(200):
        look(settling, clock)
        for item in settling.settled(1, lambda path: True):
            taken.append((second, item.last_chance))
            settling.postpone(file)
    waits = [b - a for (a, _), (b, _) in pairwise(taken)]
    assert waits == sorted(waits)
    assert len(taken) < 12
    assert [last for second, last in taken] == [second >= 99 for second, _ in taken]


def test_what_is_gone_is_told_and_a_disk_error_is_not_taken_for_that(tmp_path, file, monkeypatch):
    settling = Settling(1.0, 60.0)
    settling.add([file, tmp_path / "gone.dcm"])
    assert settling.check() == [tmp_path / "gone.dcm"]

    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(settle.FileStat, "at", fail)
    assert settling.check() == []


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    ("ending", "syntax"),
    [
        ("finished", dicom_films.EXPLICIT),
        ("truncated", dicom_films.JPEG_2000_LOSSLESS),
        pytest.param("truncated", dicom_films.EXPLICIT, marks=pytest.mark.slow),
        pytest.param("finished", dicom_films.JPEG_2000_LOSSLESS, marks=pytest.mark.slow),
    ],
)
def test_an_upload_that_stalls_is_never_screened_half(new_clinic, syntax, ending):
    clinic = new_clinic(patience_s=3.0)
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64), np.uint16)
    film = dicom_films.film(noise, syntax, bits=12, SOPInstanceUID=f"{ROOT_UID}.1")
    path = clinic.incoming / "film.dcm"
    with clinic.service():
        with path.open("wb") as file:
            for start in range(0, len(film) - 1024, 1024):
                file.write(film[start : start + 1024])
                file.flush()
                time.sleep(0.01)
        clinic.wait(lambda: clinic.states().get("settling"))
        time.sleep(1.0)
        assert "screened" not in clinic.states()
        assert clinic.rows("select count(*) from files") == [(0,)]
        if ending == "finished":
            path.write_bytes(film)
            clinic.wait_for(1)
            assert clinic.outcomes() == {"film.dcm": "screened"}
        else:
            os.truncate(path, path.stat().st_size - 512)
            clinic.wait_for(1)
            (outcome,) = clinic.outcomes().values()
            assert outcome == "truncated"
    assert clinic.rows("select max(attempts) from paths") == [(0,)]


def large(last_rows, syntax=dicom_films.EXPLICIT):
    """A film whose last 96 KiB, without compression, can be black."""
    pixels = np.random.default_rng(0).integers(1, 4096, (256, 512), np.uint16)
    pixels[-96:] = last_rows
    return dicom_films.film(pixels, syntax, bits=12, SOPInstanceUID=f"{ROOT_UID}.1")


@pytest.mark.promise(2)
@pytest.mark.parametrize("syntax", [dicom_films.EXPLICIT, dicom_films.JPEG_2000_LOSSLESS])
def test_an_upload_that_stalls_in_the_room_reserved_for_it_is_never_screened_half(
    new_clinic, syntax
):
    clinic = new_clinic(patience_s=60.0)
    film = large(1, syntax)
    half = len(film) // 2
    with clinic.service():
        clinic.drop("film.dcm", film[:half] + bytes(len(film) - half))
        clinic.wait(lambda: clinic.states().get("settling"))
        time.sleep(1.5)
        assert clinic.states() == {"settling": 1}
        assert clinic.rows("select count(*) from files") == [(0,)]
        with (clinic.incoming / "film.dcm").open("rb+") as file:
            file.seek(half)
            file.write(film[half:])
        clinic.wait_for(1)
    assert clinic.outcomes() == {"film.dcm": "screened"}
    assert clinic.rows("select count(*) from files") == [(1,)]


@pytest.mark.promise(2)
def test_a_film_that_does_end_black_is_screened_when_nothing_more_has_come(new_clinic):
    clinic = new_clinic(patience_s=3.0)
    with clinic.service():
        began = time.monotonic()
        clinic.drop("film.dcm", large(0))
        clinic.wait_for(1)
        assert time.monotonic() - began >= 3.0
    assert clinic.outcomes() == {"film.dcm": "screened"}


def test_a_film_with_a_black_border_is_not_made_to_wait(new_clinic):
    clinic = new_clinic(patience_s=600.0)
    pixels = np.random.default_rng(0).integers(1, 4096, (256, 512), np.uint16)
    pixels[-32:] = 0
    with clinic.service():
        clinic.drop("film.dcm", dicom_films.film(pixels, bits=12, SOPInstanceUID=f"{ROOT_UID}.1"))
        clinic.wait_for(1)
    assert clinic.outcomes() == {"film.dcm": "screened"}


@pytest.mark.promise(3)
def test_new_content_in_place_is_screened_as_such(clinic):
    path = clinic.drop("film.dcm", dicom(1))
    status = path.stat()
    with clinic.service():
        clinic.wait_for(1)
        film = dicom(2, Category.OSTEOARTHRITIS)
        path.write_bytes(film + bytes(status.st_size - len(film)))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_size == status.st_size
        clinic.wait(lambda: clinic.rows("select count(*) from files") == [(2,)])
    assert clinic.rows("select count(distinct content_hash) from files") == [(2,)]


def test_a_file_renamed_into_place_is_screened_and_its_old_name_has_vanished(clinic):
    film = dicom(1)
    part = clinic.incoming / "film.dcm.part"
    part.write_bytes(film[:2000])
    with clinic.service():
        clinic.wait(lambda: clinic.states().get("settling"))
        part.write_bytes(film)
        part.rename(clinic.incoming / "film.dcm")
        clinic.wait(lambda: "screened" in clinic.outcomes().values())
        clinic.wait_for(len(clinic.outcomes()))
    assert clinic.outcomes()["film.dcm"] == "screened"
    assert clinic.outcomes().get("film.dcm.part", "vanished") in ("vanished", "screened")
    assert clinic.rows("select count(*) from files") == [(1,)]


@pytest.mark.slow
def test_a_path_that_can_be_read_no_more_is_quarantined_and_its_end_ends_nothing(clinic):
    path = clinic.drop("film.dcm", dicom(1)[:3000])
    with clinic.service() as service:
        clinic.wait(lambda: clinic.states() == {"settling": 1})
        os.mkfifo(clinic.incoming / "pipe")
        (clinic.incoming / "pipe").rename(path)
        clinic.wait(lambda: clinic.outcomes() == {"film.dcm": "unreadable"})
        path.unlink()
        clinic.drop("next.dcm", dicom(2))
        clinic.wait(lambda: clinic.outcomes().get("next.dcm") == "screened")
        assert service.is_alive()
    assert clinic.outcomes() == {"film.dcm": "unreadable", "next.dcm": "screened"}


def test_a_film_that_screen_has_finished_may_be_taken_away_from_under_the_service(clinic):
    path = clinic.drop("film.dcm", dicom(1)[:3000])
    with clinic.service() as service:
        clinic.wait(lambda: clinic.states() == {"settling": 1})
        with Store(clinic.db) as store:
            finish(store, Refusal(path, Code.TRUNCATED))
        path.unlink()
        clinic.drop("next.dcm", dicom(2))
        clinic.wait(lambda: clinic.outcomes().get("next.dcm") == "screened")
        assert service.is_alive()
    assert clinic.outcomes() == {"film.dcm": "truncated", "next.dcm": "screened"}


def test_a_film_that_goes_after_its_patience_has_vanished_and_is_not_refused(tmp_path):
    read = SettledPreprocessor(Preprocessor(GEOMETRY, GivenHips(), frozenset()))
    gone = tmp_path / "film.dcm.part"
    gone.write_bytes(b"a film")
    item = Settled(gone, settle.FileStat.at(gone), last_chance=True)
    gone.unlink()
    assert read(item) == Unsettled(gone)


def preprocess(path, act, *, last_chance=False, stat=None):
    """Read a settled file by a preprocessor that does what `act` does."""
    item = Settled(path, stat or settle.FileStat.at(path), last_chance)
    return SettledPreprocessor(lambda _: act())(item)


def test_a_whole_film_is_read_at_once_and_its_result_is_passed_on(file):
    file.write_bytes(dicom(1))
    for last_chance in (False, True):
        for result in (prepared(), Refusal(file, Code.WRONG_MODALITY)):
            assert preprocess(file, lambda r=result: r, last_chance=last_chance) is result


@pytest.mark.parametrize("content", [dicom(1)[:3000], large(0)], ids=["cut short", "ends black"])
def test_a_film_that_seems_incomplete_is_not_read_before_its_last_chance(file, content):
    file.write_bytes(content)
    read = []
    assert preprocess(file, lambda: read.append(1)) == Unsettled(file)
    assert read == []
    refusal = Refusal(file, Code.MALFORMED_HEADER)
    assert preprocess(file, lambda: refusal, last_chance=True) is refusal


def test_what_is_left_of_a_film_that_was_cut_short_is_refused(file):
    film = prepared()
    file.write_bytes(large(0))
    assert preprocess(file, lambda: film, last_chance=True) is film
    file.write_bytes(dicom(1)[:3000])
    result = preprocess(file, lambda: film, last_chance=True)
    assert (result.source, result.code, result.detail) == (
        file,
        Code.TRUNCATED,
        "the file ends early",
    )
    assert result.film is film.film
    assert result.content_hash == film.film.content_hash


def test_a_film_that_has_changed_before_or_while_it_was_read_must_settle_again(file):
    file.write_bytes(dicom(1))
    before = settle.FileStat.at(file)
    file.write_bytes(dicom(2))
    read = []
    assert preprocess(file, lambda: read.append(1), last_chance=True, stat=before) == (
        Unsettled(file)
    )
    assert read == []
    change = lambda: file.write_bytes(dicom(3) + b"more") and prepared()  # noqa: E731
    assert preprocess(file, change, last_chance=True) == Unsettled(file)


def throw(error):
    raise error


@pytest.mark.parametrize(
    ("error", "last_chance", "code"),
    [
        (OSError(5, "Input/output error"), False, None),
        (OSError(5, "Input/output error"), True, Code.UNREADABLE),
        (FileNotFoundError(2, "gone"), True, None),
        (NotADirectoryError(20, "gone"), True, None),
        (ZeroDivisionError("DOE^JANE"), False, Code.UNEXPECTED_ERROR),
    ],
)
def test_an_error_costs_the_film_alone_and_a_disk_error_only_at_its_last_chance(
    file, error, last_chance, code
):
    file.write_bytes(dicom(1))
    result = preprocess(file, lambda: throw(error), last_chance=last_chance)
    if code is None:
        assert result == Unsettled(file)
    else:
        assert (result.source, result.code) == (file, code)
        assert type(error).__name__ in result.detail
        assert "DOE" not in result.detail


def test_a_broken_installation_is_no_result_of_a_film(file):
    file.write_bytes(dicom(1))
    with pytest.raises(InstallationError):
        preprocess(file, lambda: throw(InstallationError("no locator")), last_chance=True)


def test_a_file_settles_just_when_its_time_has_passed(file, clock):
    settling = Settling(2.0, 60.0, clock=clock)
    settling.add([file])
    look(settling, clock, MIN_CHECKS, apart_s=0.25)
    clock.now = 1.999
    assert take(settling) == []
    clock.now = 2.0
    assert take(settling) == [file]
    for seconds, last_chance in ((59.999, False), (60.0, True)):
        clock.now = seconds
        (item,) = settling.settled(1, lambda path: True)
        assert (item.path, item.last_chance) == (file, last_chance)
        assert item.stat == settle.FileStat.at(file)


def test_no_more_files_are_taken_than_asked_for_and_only_allowed_ones(tmp_path, clock):
    files = [tmp_path / name for name in "abc"]
    for path in files:
        path.touch()
    settling = Settling(0.0, 60.0, clock=clock)
    settling.add(files)
    look(settling, clock, MIN_CHECKS)
    assert [item.path for item in settling.settled(2, lambda path: True)] == files[:2]
    assert [item.path for item in settling.settled(2, lambda path: path != files[0])] == files[1:]
    settling.forget([files[0], tmp_path / "unknown"])
    assert files[0] not in settling
    assert files[1] in settling
    assert take(settling) == files[1:]


def test_a_disk_error_starts_the_time_of_a_file_again(file, clock, monkeypatch):
    settling = Settling(0.0, 60.0, clock=clock)
    settling.add([file])
    look(settling, clock, MIN_CHECKS)
    with monkeypatch.context() as patch:
        patch.setattr(settle.FileStat, "at", lambda path: throw(OSError(5, "Input/output error")))
        look(settling, clock)
    assert take(settling) == []
    look(settling, clock, MIN_CHECKS)
    assert take(settling) == [file]


def test_a_file_that_was_postponed_waits_as_long_again_as_it_has_not_changed(file, clock):
    settling = Settling(1.0, 60.0, clock=clock)
    settling.add([file])
    look(settling, clock, 4)
    settling.postpone(file)  # after 4 s
    settling.postpone(file.with_name("unknown"))
    clock.now = 7.999
    assert take(settling) == []
    clock.now = 8.0
    assert take(settling) == [file]


def mounted(incoming):
    """Mount a file system in memory on the watched folder, where this user may."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", incoming], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr.strip()}")


@pytest.mark.promise(5)
def test_a_mount_that_goes_and_comes_back_is_an_alarm_and_no_result(clinic):
    mounted(clinic.incoming)
    clinic.drop_by_copy("film.dcm", dicom(1))
    clinic.drop_by_copy("half.dcm", dicom(2)[:3000])
    kept = {path.name: path.read_bytes() for path in clinic.incoming.iterdir()}
    try:
        with clinic.service():
            clinic.wait(lambda: clinic.states() == {"screened": 1, "settling": 1})
            subprocess.run(["umount", "-l", clinic.incoming], check=True)
            clinic.wait(lambda: clinic.rows("select name from alarms") == [("folder_gone",)])
            time.sleep(1.0)
            assert clinic.states() == {"screened": 1, "settling": 1}
        # Nor is it forgotten by a restart that an empty folder is not what it was.
        with clinic.service() as service:
            clinic.wait_until_up(service)
            clinic.wait(lambda: clinic.rows("select name from alarms") == [("folder_gone",)])
            mounted(clinic.incoming)
            for name, data in kept.items():
                clinic.drop_by_copy(name, data)
            clinic.wait(lambda: clinic.rows("select count(*) from alarms") == [(0,)])
            clinic.drop_by_copy("half.dcm", dicom(2))
            clinic.wait_for(2)
    finally:
        subprocess.run(["umount", "-l", clinic.incoming], check=False)
    assert clinic.rows("select count(*) from files") == [(2,)]


@pytest.mark.promise(5)
def test_a_folder_that_goes_and_comes_back_is_an_alarm_and_its_files_have_not_vanished(clinic):
    away = clinic.folder / "away"
    clinic.drop("half.dcm", dicom(1)[:3000])
    with clinic.service():
        clinic.wait(lambda: clinic.states() == {"settling": 1})
        clinic.incoming.rename(away)
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("folder_gone",)])
        time.sleep(0.5)
        assert clinic.states() == {"settling": 1}
        away.rename(clinic.incoming)
        clinic.drop("half.dcm", dicom(1))
        clinic.wait_for(1)
    assert clinic.rows("select count(*) from alarms") == [(0,)]
    assert clinic.outcomes() == {"half.dcm": "screened"}


NFS = "36 35 98:0 / / rw - ext4 /dev/root rw\n40 36 0:44 / /srv/pa\\040cs rw - {} host:/x rw\n"


@pytest.mark.promise(9)
@pytest.mark.parametrize("type_", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"])
def test_a_database_on_a_network_file_system_is_refused(tmp_path, type_):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(NFS.format(type_))
    refuse_network(tmp_path / "cases.db", mounts)
    assert mount_of(tmp_path, mounts).type == "ext4"
    with pytest.raises(StoreError, match=type_):
        refuse_network(type(tmp_path)("/srv/pa cs/db/cases.db"), mounts)


def test_folders_on_a_network_file_system_are_polled(tmp_path):
    mounts, remote, local = tmp_path / "mountinfo", tmp_path / "remote", tmp_path / "local"
    remote.mkdir()
    local.mkdir()
    root = f"36 35 98:0 / / rw - ext4 /dev/root rw\n40 36 0:44 / {remote} rw - nfs4 h:/x rw\n"
    mounts.write_text(root)
    for roots, are_remote in (([local, remote], True), ([remote], True), ([local], False)):
        folders = Folders(roots, lambda root, present: present, mounts)
        assert folders.are_remote is are_remote


def test_a_scan_finds_the_files_of_each_folder_that_is_there_and_mounted(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text("36 35 98:0 / / rw - ext4 /dev/root rw\n")
    roots = [tmp_path / name for name in ("there", "gone", "unmounted")]
    for root in roots:
        root.mkdir()
        (root / "film").touch()
    os.mkfifo(roots[0] / "pipe")
    folders = Folders(
        roots, lambda root, present: root if root.name == "unmounted" else present, mounts
    )
    (roots[1] / "film").unlink()
    roots[1].rmdir()
    scan = folders.scan()
    assert scan.missing == folders.missing() == roots[1:]
    film = roots[0] / "film"
    assert scan.found == {film: settle.FileStat.at(film)}
    assert [refusal.source for refusal in scan.refusals] == [roots[0] / "pipe"]


def test_a_folder_that_does_not_exist_cannot_be_watched(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Folders([tmp_path / "none"], lambda root, present: present)


def test_a_site_may_ask_for_polling(new_clinic):
    clinic = new_clinic(poll=True)
    with clinic.service():
        clinic.drop("film.dcm", dicom(1))
        clinic.wait_for(1)
    assert clinic.outcomes() == {"film.dcm": "screened"}
