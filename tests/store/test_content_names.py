"""Contents are named by BLAKE3, and those of older databases keep their SHA-256."""

import hashlib
import multiprocessing
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from sqlite_utils import Database

from hipedge.dicom.read import Payload
from hipedge.errors import Code, StoreError
from hipedge.store import schema
from hipedge.store.feedback import Feedback, Shown, Verdict
from hipedge.store.queue import Queue
from hipedge.store.store import Store
from hipedge.types import Category, Known, Refusal, Side
from tests.builders import RULE, film, screened
from tests.old_database import make_old, rows
from tests.store.test_store import RULES, start

LATER = datetime.now(timezone.utc) + timedelta(days=2)


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two", "broken", "later"):
        (tmp_path / f"{name}.dcm").write_bytes(name.encode())
    return tmp_path


def on_disk(folder, name, sha256=True):
    """A film as a worker returns it; with SHA-256 where the database asks for it."""
    payload = Payload((folder / f"{name}.dcm").read_bytes())
    hashes = {"content_hash": payload.content_hash, "sha256": payload.sha256 if sha256 else None}
    return replace(film(name, pixels=name, uid=f"1.2.{name}", folder=folder), **hashes)


def answer(store, name, reader="rita"):
    shown = Shown(name, "model", RULE.rule_id, 0, Side.RIGHT, Category.NORMAL, False)
    return Feedback(store).append(shown, Verdict.RIGHT, Category.NORMAL, reader=reader)


@pytest.fixture
def old(folder):
    """A database of hipedge 0.2: two films with an answer each, and one that was not read."""
    db = folder / "cases.db"
    with Store(db) as store:
        one, two, broken = (
            on_disk(folder, name, sha256=False) for name in ("one", "two", "broken")
        )
        refused = Refusal(broken.source, Code.TOO_LARGE, content_hash=broken.content_hash)
        store.record(start(store), [screened(one), screened(two), refused], RULE)
        answer(store, one.content_hash)
        answer(store, two.content_hash)
    make_old(db, folder.glob("*.dcm"))
    return db


def sha(folder, name):
    return hashlib.sha256((folder / f"{name}.dcm").read_bytes()).hexdigest()


def test_the_old_database_of_these_tests_is_one(old, folder):
    assert set(rows(old, "select sha256 from files")) == {
        (sha(folder, name),) for name in ("one", "two", "broken")
    }
    assert set(rows(old, "select sha256 from feedback")) == {
        (sha(folder, "one"),),
        (sha(folder, "two"),),
    }


def test_what_was_recorded_keeps_its_name_and_every_row(old, folder):
    everything = {
        table: rows(old, f"select * from {table}")
        for table in ("files", "hips", "decisions", "paths", "feedback", "runs", "outbox")
    }
    with Store(old):
        pass
    for table, before in everything.items():
        assert rows(old, f"select * from {table}") == before
    assert rows(old, "pragma integrity_check") == [("ok",)]


def test_an_answer_still_cannot_be_changed_after_the_migration(old):
    with Store(old) as store, pytest.raises(StoreError, match="not changed"), store.transaction():
        store.execute("update feedback set content_hash = 'another'")


def test_an_old_content_is_known_by_sha256_until_it_is_met_and_then_by_blake3(old, folder):
    one, two = on_disk(folder, "one"), on_disk(folder, "two")
    with Store(old) as store:
        assert store.knows_by_sha256()
        assert one.sha256 in store.contents("model")
        assert one.content_hash not in store.contents("model")
        store.link(start(store), [Known(one.source, one.content_hash, one.sha256)])
        assert one.content_hash in store.contents("model")
        assert two.content_hash not in store.contents("model")
        assert store.knows_by_sha256()
        broken = on_disk(folder, "broken")
        store.link(
            start(store),
            [Known(each.source, each.content_hash, each.sha256) for each in (two, broken)],
        )
        assert not store.knows_by_sha256()  # no film costs a second hash any more
        store.link(start(store), [Known(folder / "copy.dcm", one.content_hash)])
        (case,) = store.find(RULES, str(folder / "copy.dcm"))
        assert case.content_hash == one.sha256
    assert rows(old, "select count(*) from files") == [(3,)]


def test_a_film_of_an_old_database_is_not_screened_into_a_second_row(old, folder):
    """As from `watch`, which knows no contents before it reads a film."""
    one = on_disk(folder, "one")
    with Store(old) as store:
        (outcome,) = store.record(start(store), [screened(one)], RULE)
        assert outcome.code is Code.SAME_PIXELS
        (case,) = store.find(RULES, one.sop_instance_uid)
        assert [each.reader for each in Feedback(store).of_film(case.content_hash)] == ["rita"]
    assert rows(old, "select count(*) from files") == [(3,)]


def test_a_refused_film_of_an_old_database_that_can_be_read_now_replaces_its_row(old, folder):
    broken = on_disk(folder, "broken")
    with Store(old) as store:
        store.record(start(store), [screened(broken)], RULE)
        (case,) = store.find(RULES, broken.sop_instance_uid)
        assert (case.code, case.content_hash) == (None, broken.sha256)
    assert rows(old, "select count(*) from files") == [(3,)]


def test_another_file_of_a_film_in_an_old_database_is_its_duplicate(old, folder):
    one = on_disk(folder, "one")
    later = on_disk(folder, "later")
    twin = replace(later, pixel_hash=one.pixel_hash, sop_instance_uid=one.sop_instance_uid)
    with Store(old) as store:
        (outcome,) = store.record(start(store), [screened(twin)], RULE)
    assert outcome.code is Code.SAME_PIXELS
    sql = "select f.content_hash from files d join files f on f.id = d.duplicate_of"
    assert rows(old, sql) == [(one.sha256,)]


def test_a_new_film_in_an_old_database_is_named_by_blake3(old, folder):
    later = on_disk(folder, "later")
    with Store(old) as store:
        store.record(start(store), [screened(later)], RULE)
        (case,) = store.find(RULES, later.sop_instance_uid)
        assert case.content_hash == later.content_hash
        answer(store, case.content_hash)
        assert len(Feedback(store).studies()) == 3


def test_a_film_whose_result_was_removed_finds_its_answers_again(old, folder):
    one = on_disk(folder, "one")
    with Store(old) as store:
        assert Queue(store).prune(LATER) == 3
        store.record(start(store), [screened(one)], RULE)
        (case,) = store.all_cases(RULES)
        assert len(Feedback(store).of_film(case.content_hash)) == 1


def test_a_case_of_an_old_database_is_found_by_both_hashes_where_both_are_known(old, folder):
    one = on_disk(folder, "one")
    digits = one.content_hash.removeprefix("blake3:")
    with Store(old) as store:
        assert [case.path for case in store.find(RULES, one.sha256[:8])] == [one.source]
        assert store.find(RULES, digits[:8]) == []
        store.link(start(store), [Known(one.source, one.content_hash, one.sha256)])
        for key in (one.sha256, one.sha256[:8], digits, digits[:8].upper(), one.content_hash):
            assert [case.path for case in store.find(RULES, key)] == [one.source]


def test_a_migration_that_a_crash_cuts_short_leaves_the_old_database(old, monkeypatch):
    before = rows(old, "select * from files"), rows(old, "select * from feedback")
    schema_before = rows(old, "select sql from sqlite_master order by name")
    last = next(m for m in schema.migrations._migrations if m.name == "name_contents_by_blake3")
    whole = last.fn

    def cut_short(db: Database):
        whole(db)
        os._exit(9)

    monkeypatch.setattr(last, "fn", cut_short)
    process = multiprocessing.get_context("fork").Process(target=Store, args=(old,))
    process.start()
    process.join()
    assert process.exitcode == 9
    monkeypatch.undo()
    assert rows(old, "select sql from sqlite_master order by name") == schema_before
    assert (rows(old, "select * from files"), rows(old, "select * from feedback")) == before
    with Store(old) as store:
        assert store.knows_by_sha256()


def test_a_new_database_never_asks_for_a_second_hash(folder):
    with Store(folder / "new.db") as store:
        store.record(start(store), [screened(on_disk(folder, "one", sha256=False))], RULE)
        assert not store.knows_by_sha256()
