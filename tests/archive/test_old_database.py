"""Screening and merging into a database that names contents by SHA-256."""

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra ray")

from benchmarks.archive import rows
from hipedge.archive.folder import ArchiveFolder
from hipedge.archive.merge import merge
from hipedge.store.store import Store
from tests.archive.line import archive, request, screened, write_films
from tests.old_database import make_old
from tests.watch.clinic import dicom

NEW = 3


@pytest.fixture
def asked(tmp_path, untrained_model):
    films = tmp_path / "films"
    return request(films, untrained_model, write_films(films, 12), shard_films=32)


def old(asked, db, held_back=()):
    """Screen the films of a run, but for those held back, into a database; make it an old one."""
    films = Path(asked.source)
    for path in held_back:
        path.rename(films.parent / path.name)
    screened(asked, db)
    make_old(db, films.rglob("*"))
    for path in held_back:
        (films.parent / path.name).rename(path)
    return db


def test_films_of_an_old_database_are_recognised_and_not_screened_again(tmp_path, asked):
    films = Path(asked.source)
    later = [films / f"{number:04}.dcm" for number in range(12 - NEW, 12)]
    db = old(asked, tmp_path / "old.db", later)
    with Store(db) as store:
        assert store.knows_by_sha256()
        (before,) = store.query("select max(id) as newest, count(*) as n from hips")
    screened(asked, db)
    with Store(db) as store:
        # All old contents have been met, and the next run computes one hash.
        assert not store.knows_by_sha256()
        (after,) = store.query("select count(*) as n from hips where id > ?", [before["newest"]])
        assert after["n"] == NEW
        (named,) = store.query(
            "select count(*) as new from files where content_hash like 'blake3:%'"
        )
        assert named["new"] == NEW
    screened(asked, tmp_path / "afresh.db")
    ours, theirs = rows(db), rows(tmp_path / "afresh.db")
    assert [len(table) for table in ours] == [len(table) for table in theirs]


def test_merging_into_an_old_database_gives_the_rows_of_screen(tmp_path, asked):
    films = Path(asked.source)
    later = [films / f"{number:04}.dcm" for number in range(12 - NEW, 12)]
    by_merge = old(asked, tmp_path / "merged.db", later)
    by_screen = old(asked, tmp_path / "screened.db", later)
    archive(asked, tmp_path / "out")
    with Store(by_merge) as store:
        summary = merge(ArchiveFolder(tmp_path / "out"), store)
        assert not store.knows_by_sha256()
    screened(asked, by_screen)
    assert rows(by_merge) == rows(by_screen)
    assert summary.screened == NEW
    with Store(by_merge) as store:
        again = merge(ArchiveFolder(tmp_path / "out"), store)
    assert again.screened == 0
    assert rows(by_merge) == rows(by_screen)


def test_a_film_that_has_gone_before_the_merge_has_no_second_finding(tmp_path, asked):
    db = old(asked, tmp_path / "old.db")
    archive(asked, tmp_path / "out")
    (Path(asked.source) / "0000.dcm").write_bytes(dicom(50))
    with Store(db) as store:
        (before,) = store.query("select count(*) as n from hips")
        merge(ArchiveFolder(tmp_path / "out"), store)
        (after,) = store.query("select count(*) as n from hips")
        (twice,) = store.query(
            "select d.state, f.path from files d join files f on f.id = d.duplicate_of"
            " where d.content_hash like 'blake3:%'"
        )
    assert before == after
    assert twice["state"] == "duplicate"
    assert twice["path"].endswith("0000.dcm")
