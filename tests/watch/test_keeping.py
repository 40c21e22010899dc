"""Promise 15, and the commands for the service: status, retry, prune, backup."""

import json
import os
import sqlite3
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlite_utils import Database

from hipedge.cli import main
from hipedge.errors import Code, ConfigError, StoreError
from hipedge.store.outbox import Outbox
from hipedge.store.queue import Queue
from hipedge.store.schema import migrations
from hipedge.store.service import Service, backup
from hipedge.store.states import TRANSITIONS, PathState
from hipedge.store.store import Store
from hipedge.types import Category, Refusal
from hipedge.watch.done import DoneDir
from hipedge.watch.retry import RetryResult, retry
from hipedge.watch.settle import FileStat
from hipedge.watch.status import read_status
from tests.builders import RULE, content, film, scored_hip, screened
from tests.store.test_store import start
from tests.watch import faults
from tests.watch.clinic import dicom

RULES = {"model": RULE}
LATER = datetime.now(timezone.utc) + timedelta(days=1)


@pytest.fixture
def db(tmp_path):
    return tmp_path / "cases.db"


@pytest.fixture
def store(db):
    with Store(db) as opened:
        yield opened


def hipedge(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0, capsys.readouterr()


def finish(store, *outcomes, channels=()):
    store.claim([getattr(o, "source", None) or o.film.source for o in outcomes])
    store.record(start(store), outcomes, RULE, channels)


def quarantined(name, code=Code.DECODE_FAILED):
    return Refusal(film(name).source, code, content_hash=content(name))


def test_the_table_in_the_database_is_the_table_in_the_code(store):
    rows = store.query("select from_state, to_state from transitions")
    found = {(PathState(row["from_state"]), PathState(row["to_state"])) for row in rows}
    assert found == {(state, after) for state, then in TRANSITIONS.items() for after in then}


@pytest.mark.parametrize("start_", PathState)
@pytest.mark.parametrize("end", PathState)
def test_the_database_refuses_every_other_step(store, start_, end):
    with store.transaction():
        store.execute(
            "insert into paths (path, attempts, seen_at, state) values ('/x', 0, '', ?)",
            [start_.value],
        )
    step = "update paths set state = ? where path = '/x'"
    if end is start_ or end in TRANSITIONS[start_]:
        assert store.execute(step, [end.value]) == 1
    else:
        with pytest.raises(sqlite3.IntegrityError, match="no such step"):
            store.execute(step, [end.value])


def test_a_database_of_the_first_schema_is_migrated_and_its_paths_have_their_states(db):
    old = Database(db)
    migrations.apply(old, stop_before="follow_paths")
    old.execute("insert into models values ('m', 'test', 'untrained', '{}')")
    old.execute("insert into runs values (1, '', null, 'm', 1, 'fake', '', '{}')")
    old.execute(
        "insert into files (id, path, run_id, model_id, pipeline_version, recorded_at, state,"
        " code, marks, attempts, timings_ms)"
        " values (7, '/in/b', 1, 'm', 1, '', 'quarantined', 'truncated', '[]', 1, '{}')"
    )
    old.execute("insert into paths values ('/in/b', 7, 1, ''), ('/in/open', null, 1, '')")
    old.conn.commit()
    old.close()
    with Store(db) as store:
        rows = store.query("select path, state from paths order by path")
        assert [row["state"] for row in rows] == ["quarantined", "seen"]
        assert set(Queue(store).unfinished()) == {Path("/in/open")}


@pytest.mark.promise(15)
def test_prune_removes_old_results_and_nothing_that_is_not_finished(store):
    finish(store, screened(film("told"), scored_hip(Category.OSTEOARTHRITIS)), channels=["spool"])
    finish(store, screened(film("old")), quarantined("bad"))
    store.claim([film("open").source])
    queue = Queue(store)
    assert queue.prune(datetime.now(timezone.utc) - timedelta(days=1)) == 0
    assert queue.prune(LATER) == 2  # but the one of which nobody has been told yet
    assert [row["content_hash"] for row in store.query("select content_hash from files")] == [
        content("told")
    ]
    assert [row["n"] for row in store.query("select count(*) as n from hips")] == [1]
    assert queue.unfinished() == {film("open").source: 1}
    (message,) = Outbox(store).pending("spool", 9)
    Outbox(store).mark_delivered(message)
    assert queue.prune(LATER) == 1
    assert queue.unfinished() == {film("open").source: 1}


@pytest.mark.promise(15)
@pytest.mark.parametrize("pruned_first", ["original", "both"])
def test_an_original_is_pruned_though_its_duplicate_is_younger(store, pruned_first):
    finish(store, screened(film("original", uid="1.2.3")))
    between = datetime.now(timezone.utc)
    finish(store, screened(film("duplicate", uid="1.2.3")))
    states = "select state, duplicate_of from files order by id"
    assert store.query(states) == [
        {"state": "screened", "duplicate_of": None},
        {"state": "duplicate", "duplicate_of": 1},
    ]
    if pruned_first == "original":
        assert Queue(store).prune(between) == 1
        assert store.query(states) == [{"state": "duplicate", "duplicate_of": None}]
    assert Queue(store).prune(LATER) == (1 if pruned_first == "original" else 2)
    assert store.query(states) == []
    assert store.query("select count(*) as n from decisions") == [{"n": 0}]


@pytest.mark.promise(15)
def test_what_was_pruned_is_not_screened_again_where_it_still_lies(clinic):
    clinic.drop("film.dcm", dicom(1))
    with clinic.service():
        clinic.wait_for(1)
    with Store(clinic.db) as store:
        assert Queue(store).prune(LATER) == 1
    with clinic.service() as service:
        clinic.wait_until_up(service)
        clinic.drop("other.dcm", dicom(2))
        clinic.wait_for(2)
    assert clinic.rows("select count(*) from files") == [(1,)]


@pytest.mark.promise(15)
def test_a_backup_under_load_is_whole(db, tmp_path):
    with Store(db) as store:
        finish(store, screened(film("first")))
    copy = tmp_path / "copy.db"
    ended = threading.Event()
    written = []

    def write():
        with Store(db) as store:
            run = start(store)
            while not ended.is_set():
                number = len(written)
                store.claim([film(f"{number}").source])
                store.record(run, [screened(film(f"{number}", uid=f"1.{number}"))], RULE)
                written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            before = len(written)
            backup(db, copy)
            with Store(copy) as restored:
                (row,) = restored.query("select count(*) as n from files")
                assert row["n"] >= before
                (row,) = restored.query("select count(*) as n from hips")
                assert row["n"] >= before
    finally:
        ended.set()
        writer.join()
    assert written


def test_a_backup_of_nothing_or_to_nowhere_is_an_error_and_leaves_no_half_copy(store, db, tmp_path):
    with pytest.raises(StoreError, match="no database"):
        backup(tmp_path / "none.db", tmp_path / "copy.db")
    with pytest.raises(StoreError, match="cannot be copied"):
        backup(db, tmp_path / "none" / "copy.db")
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("name", ["cases.db", "link.db", "cases.db-wal", "cases.db-journal"])
def test_a_database_is_never_backed_up_onto_itself(tmp_path, capsys, name):
    live = tmp_path / "cases.db"
    (tmp_path / "link.db").symlink_to("cases.db")
    target = tmp_path / name
    with Store(live) as store:
        finish(store, screened(film("one")))
        inode = live.stat().st_ino
        status, said = hipedge(capsys, "backup", "-o", target, "--db", live)
        assert status == 2
        assert "live database" in said.err.replace("\n", " ")
        assert live.stat().st_ino == inode
        finish(store, screened(film("two", uid="1.2")))
    with Store(live) as store:
        assert store.query("select count(*) as n from files") == [{"n": 2}]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_backup_can_be_read_by_whom_the_database_can_and_never_by_more(
    store, db, tmp_path, monkeypatch, mode
):
    db.chmod(mode)
    seen = []

    def connect(path, **options):
        seen.extend(file.stat().st_mode & 0o777 for file in tmp_path.glob("*copy.db*"))
        return sqlite3_connect(path, **options)

    sqlite3_connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    umask = os.umask(0o022)
    try:
        backup(db, tmp_path / "copy.db")
    finally:
        os.umask(umask)
    assert seen
    assert [other for other in seen if other & ~mode] == []
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == mode


def refuse(store, path, code=Code.DECODE_FAILED, data=None):
    """Quarantine what lies, or lay, at a path."""
    finish(store, Refusal(path, code, content_hash=content(data or path.name)))


def write(path, content=b"a film"):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_retry_lets_quarantined_files_be_read_again_by_code_or_id(store, tmp_path):
    first, second = write(tmp_path / "one"), write(tmp_path / "two")
    refuse(store, first)
    refuse(store, second, Code.TRUNCATED)
    finish(store, screened(film("three")))
    queue = Queue(store)
    assert retry(store, code=Code.TRUNCATED) == RetryResult(queued=(2,), missing=())
    assert queue.unfinished() == {second: 0}
    assert retry(store, [3]) == RetryResult(queued=(), missing=())  # screened: nothing to try again
    assert retry(store, [1]) == RetryResult(queued=(1,), missing=())
    assert queue.unfinished() == {first: 0, second: 0}


def test_a_quarantined_case_keeps_its_row_until_its_new_attempt_is_recorded(store, tmp_path):
    path = write(tmp_path / "film")
    refuse(store, path, data="film")
    retry(store)
    assert [case.code for case in store.all_cases(RULES)] == [Code.DECODE_FAILED]
    assert store.contents("model") == frozenset()  # else `screen` would not read it
    store.claim([path])
    again = screened(replace(film("film"), source=path))
    store.record(start(store), [again], RULE)
    assert [(case.file_id, case.code) for case in store.all_cases(RULES)] == [(1, None)]
    assert Queue(store).counts() == {PathState.SCREENED: 1}


def test_a_film_that_is_gone_stays_on_the_list_and_retry_says_so(store, tmp_path, db, capsys):
    refuse(store, tmp_path / "gone")
    refuse(store, write(tmp_path / "here"))
    status, said = hipedge(capsys, "retry", "--db", db)
    assert status == 0
    assert said.out.splitlines() == [
        "1 quarantined files will be read again",
        "1 no longer exist and stay on the list: 1",
    ]
    assert Queue(store).counts() == {PathState.QUARANTINED: 1, PathState.SEEN: 1}
    assert [case.file_id for case in store.worklist(RULES)] == [1, 2]


def test_a_quarantined_content_that_was_overwritten_stays_on_the_list(store, tmp_path):
    path = write(tmp_path / "film")
    refuse(store, path, data="first")
    Queue(store).observe({path: "another content"})
    assert retry(store) == RetryResult(queued=(), missing=(1,))
    refuse(store, path, data="second")
    assert retry(store) == RetryResult(queued=(2,), missing=(1,))
    assert [case.file_id for case in store.worklist(RULES)] == [1, 2]


def test_a_moved_film_is_read_where_it_lies_also_when_its_name_is_in_use_again(store, tmp_path):
    incoming, done = tmp_path / "incoming", tmp_path / "done"
    queue, name = Queue(store), incoming / "IM1"
    for number in (1, 2):
        refuse(store, name, data=f"content {number}")
        moved = write(done / f"IM{number}")
        queue.record_moves({name: moved})
        queue.observe({name: f"another content after {number}"})
    write(name)
    refuse(store, name, data="content 3")
    paths = {case.file_id: case.path for case in store.worklist(RULES)}
    assert paths == {1: done / "IM1", 2: done / "IM2", 3: name}
    assert retry(store) == RetryResult(queued=(1, 2, 3), missing=())
    assert set(queue.unfinished()) == {done / "IM1", done / "IM2", name}


def test_the_refusal_of_a_folder_that_can_be_listed_again_is_withdrawn(clinic):
    films = clinic.incoming / "folder"
    films.mkdir()
    (films / "film.dcm").write_bytes(dicom(1))
    (clinic.incoming / "other").mkdir()
    marker = clinic.folder / "locked"
    marker.touch()
    with clinic.service(unlistable, marker) as service:
        clinic.wait(lambda: clinic.outcomes() == {"folder": "unreadable", "other": "unreadable"})
        marker.unlink()
        clinic.wait(lambda: clinic.outcomes() == {"film.dcm": "screened"})
        assert clinic.rows("select state from files") == [("screened",)]
        marker.touch()  # as often as it happens
        clinic.wait(lambda: clinic.outcomes().get("other") == "unreadable")
        assert service.is_alive()
    (clinic.incoming / "other").rmdir()
    marker.unlink()
    with clinic.service() as service:
        clinic.wait_until_up(service)
    # What was in a folder that is gone, nobody knows.
    assert clinic.outcomes() == {"film.dcm": "screened", "other": "unreadable"}


def unlistable(marker):
    """No folder below the watched one can be listed for as long as a file exists."""

    def make(scandir):
        def faulty(path):
            if marker.exists() and Path(path).parent.name == "incoming":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        return faulty

    faults.replace(os, "scandir", make)


def test_a_folder_that_could_not_be_listed_is_no_film_to_be_read_again(store, tmp_path):
    refuse(store, tmp_path, Code.UNREADABLE)
    assert retry(store) == RetryResult(queued=(), missing=(1,))


def test_a_move_that_was_cut_short_overwrites_nothing_that_came_there_since(store, tmp_path):
    incoming, done, queue = tmp_path / "incoming", tmp_path / "done", Queue(store)
    path, others = write(incoming / "film"), write(done / "film", b"of others")
    found = {path: FileStat.at(path).signature}
    queue.observe(found)
    store.claim([path], found)
    store.record(
        start(store), [Refusal(path, Code.DECODE_FAILED, content_hash=content("film"))], RULE
    )
    queue.record_moves({path: others})
    assert DoneDir(done, [incoming]).move(queue.finished(found), queue)
    assert (others.read_bytes(), (done / "film-2").read_bytes()) == (b"of others", b"a film")


@pytest.fixture
def films(store, tmp_path):
    """Make finished films in a watched folder, with what the queue says of them."""

    def make(*names):
        paths = [write(tmp_path / "incoming" / name, name.encode()) for name in names]
        found = {path: FileStat.at(path).signature for path in paths}
        Queue(store).observe(found)
        store.claim(found, found)
        outcomes = [
            Refusal(path, Code.DECODE_FAILED, content_hash=content(path.name)) for path in paths
        ]
        store.record(start(store), outcomes, RULE)
        return Queue(store).finished(found)

    (tmp_path / "incoming").mkdir()
    (tmp_path / "done").mkdir()
    return make


def test_films_of_one_name_are_moved_side_by_side(store, films, tmp_path):
    first, second = tmp_path / "incoming", tmp_path / "second"
    second.mkdir()
    finished = films("a.dcm")
    other = write(second / "a.dcm", b"other")
    done = DoneDir(tmp_path / "done", [first, second])
    finished.append(replace(finished[0], path=other, signature=FileStat.at(other).signature))
    assert done.move(finished, Queue(store))
    moved = {path.name: path.read_bytes() for path in (tmp_path / "done").iterdir()}
    assert moved == {"a.dcm": b"a.dcm", "a-2.dcm": b"other"}


def test_a_move_that_was_interrupted_goes_on_to_the_same_name(store, films, tmp_path):
    (film_,) = films("a.dcm")
    target = tmp_path / "done" / "other name"
    done = DoneDir(tmp_path / "done", [tmp_path / "incoming"])
    assert done.move([replace(film_, moved_to=target)], Queue(store))
    assert target.read_bytes() == b"a.dcm"


def test_a_film_that_has_changed_since_it_was_recorded_is_not_moved(store, films, tmp_path):
    (film_,) = films("a.dcm")
    film_.path.write_bytes(b"another film")
    done = DoneDir(tmp_path / "done", [tmp_path / "incoming"])
    assert done.move([film_], Queue(store))
    assert film_.path.exists()


def test_a_film_that_cannot_be_moved_is_reported_and_the_others_are_moved(
    store, films, tmp_path, caplog
):
    finished = films("a.dcm", "b.dcm")
    finished[0].path.unlink()
    done = DoneDir(tmp_path / "done", [tmp_path / "incoming"])
    assert not done.move(finished, Queue(store))
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["b.dcm"]
    assert [record.fields for record in caplog.records] == [{"error": "FileNotFoundError"}]


@pytest.mark.parametrize(
    ("done", "complaint"),
    [
        ("none", "not a folder"),
        ("incoming/done", "outside the watched folder"),
        (".", "outside the watched folder"),
        ("/dev/shm", "on the file system"),
    ],
)
def test_a_folder_that_cannot_serve_as_done_dir_is_an_error(tmp_path, done, complaint):
    (tmp_path / "incoming" / "done").mkdir(parents=True)
    if done == "/dev/shm" and Path(done).stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with pytest.raises(ConfigError, match=complaint):
        DoneDir(tmp_path / done, [tmp_path / "incoming"])


def test_a_quarantined_film_that_was_moved_is_read_again_by_the_running_service(
    clinic_with_done_dir, capsys
):
    clinic, done = clinic_with_done_dir(patience_s=0.1)
    clinic.drop("film.dcm", dicom(1, BitsAllocated=32))
    clinic.drop("IM1", b"")
    with clinic.service():
        clinic.wait(lambda: len(list(done.iterdir())) == 2)
        (done / "film.dcm").write_bytes(dicom(1))
        (done / "IM1").write_bytes(dicom(2))
        status, said = hipedge(capsys, "retry", "--db", clinic.db)
        assert (status, said.out) == (0, "2 quarantined files will be read again\n")
        clinic.wait(lambda: clinic.outcomes() == {"film.dcm": "screened", "IM1": "screened"})
    paths = clinic.rows("select path, state from files order by path")
    assert ("%s" % (done / "IM1"), "screened") in paths


def test_a_retried_film_gets_its_result_from_the_running_service(clinic, capsys):
    path = clinic.drop("film.dcm", dicom(1, BitsAllocated=32))
    with clinic.service():
        clinic.wait_for(1)
        assert clinic.outcomes() == {"film.dcm": "unsupported_pixels"}
        status, said = hipedge(capsys, "retry", "--db", clinic.db)
        assert status == 0
        assert "1 quarantined" in said.out
        path.write_bytes(dicom(1))
        clinic.wait(lambda: clinic.outcomes() == {"film.dcm": "screened"})


def test_status_tells_of_the_queue_the_refusals_and_the_alarms(store, db, capsys):
    finish(store, screened(film("one")), quarantined("two"), quarantined("three"))
    Queue(store).observe({film("four").source: "1:2:3:4"})
    Service(store).beat(1)
    Service(store).set_alarms(frozenset({"folder_gone"}))
    found = read_status(db)
    assert (found.waiting, found.totals.refused, found.problems) == (
        1,
        {"decode_failed": 2},
        ["folder_gone"],
    )
    status, said = hipedge(capsys, "status", "--db", db, "--json")
    told = json.loads(said.out)
    assert status == 0
    assert told["paths"] == {"quarantined": 2, "screened": 1, "seen": 1}
    assert told["heartbeat"]["model"] == "test"
    status, said = hipedge(capsys, "status", "--db", db)
    for text in ("decode_failed", "folder_gone", "fake", "last scan"):
        assert text in said.out


def test_status_check_exits_1_for_an_alarm_and_for_a_service_that_is_still(store, db, capsys):
    finish(store, screened(film("one")))
    assert hipedge(capsys, "status", "--db", db, "--check")[0] == 1  # it never ran
    Service(store).beat(1)
    assert hipedge(capsys, "status", "--db", db, "--check")[0] == 0
    assert read_status(db, datetime.now(timezone.utc) + timedelta(minutes=6)).problems == ["stale"]
    Service(store).set_alarms(frozenset({"disk_reserve"}))
    assert hipedge(capsys, "status", "--db", db, "--check")[0] == 1


def test_prune_needs_an_age_in_days(store, db, capsys):
    assert hipedge(capsys, "prune", "--older-than", "tomorrow", "--db", db)[0] == 2
    status, said = hipedge(capsys, "prune", "--older-than", "365d", "--db", db)
    assert (status, said.out) == (0, "0 results removed\n")


@pytest.mark.parametrize("command", [["retry"], ["status"], ["prune", "--older-than", "1d"]])
def test_without_a_database_the_commands_say_so(tmp_path, capsys, command):
    status, said = hipedge(capsys, *command, "--db", tmp_path / "none.db")
    assert status == 2
    assert "there is no database" in said.err


def test_backup_is_a_command_too(store, db, tmp_path, capsys):
    finish(store, screened(film("one")))
    status, said = hipedge(capsys, "backup", "-o", tmp_path / "copy.db", "--db", db)
    assert status == 0
    assert "a checked copy" in said.out.replace("\n", " ")
    with Store(tmp_path / "copy.db") as copy:
        assert copy.query("select count(*) as n from files") == [{"n": 1}]
