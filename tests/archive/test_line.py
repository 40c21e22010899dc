"""The stages on Ray are those of `screen`: the merged database has the very same rows."""

import sqlite3
import subprocess
from dataclasses import replace

import pytest

pytest.importorskip("pyarrow", reason="needs the extra ray")

from benchmarks.archive import rows
from hipedge.archive.folder import ArchiveFolder
from hipedge.archive.job import job_of
from hipedge.archive.lease import Lease
from hipedge.archive.merge import merge
from hipedge.archive.stages import Inference, Reader
from hipedge.archive.strikes import Strikes
from hipedge.archive.table import outcomes_of
from hipedge.errors import Code, ConfigError, HipedgeError, StoreError
from hipedge.store.store import Store
from hipedge.types import Refusal
from tests.archive.line import archive, request, screened, shard_table, stages, write_films
from tests.watch.clinic import dicom


@pytest.fixture
def asked(tmp_path, untrained_model):
    return request(
        tmp_path / "films", untrained_model, write_films(tmp_path / "films"), shard_films=4
    )


def merged(out, db):
    with Store(db) as store:
        return merge(ArchiveFolder(out), store)


def test_the_merged_rows_are_those_that_screen_writes(tmp_path, asked):
    archive(asked, tmp_path / "out")
    summary = merged(tmp_path / "out", tmp_path / "merged.db")
    screened(asked, tmp_path / "screened.db")
    found, expected = rows(tmp_path / "merged.db"), rows(tmp_path / "screened.db")
    assert found == expected
    assert [len(table) for table in found] == [18, 13, 19]
    assert summary.screened == 13
    assert summary.left_aside == 1


def test_films_of_a_patient_are_linked_as_screen_links_them(tmp_path, asked):
    identity = {"PatientID": "17", "PatientBirthDate": "19500102", "StudyDate": "20240301"}
    for number in range(2):
        (tmp_path / f"films/{number:04}.dcm").write_bytes(dicom(number, **identity))
    asked = replace(asked, patient_key=bytes(range(32)))
    archive(asked, tmp_path / "out")
    merged(tmp_path / "out", tmp_path / "merged.db")
    screened(asked, tmp_path / "screened.db")
    assert rows(tmp_path / "merged.db") == rows(tmp_path / "screened.db")
    sql = "select patient, studied_on from files where patient is not null"
    linked = set(sqlite3.connect(tmp_path / "merged.db").execute(sql))
    assert len(linked) == 1
    assert linked.pop()[1] == "2024-03-01"


def test_merging_again_or_half_way_adds_nothing_twice(tmp_path, asked):
    out, db = tmp_path / "out", tmp_path / "merged.db"
    archive(asked, out, most=2)
    merged(out, db)
    archive(asked, out)
    merged(out, db)
    once = rows(db)
    summary = merged(out, db)
    assert rows(db) == once
    assert summary.screened == 0
    screened(asked, tmp_path / "screened.db")
    assert once == rows(tmp_path / "screened.db")


def test_shards_that_are_done_are_not_done_again(tmp_path, asked):
    out = tmp_path / "out"
    first = archive(asked, out, most=3)
    files = {path: path.stat().st_mtime_ns for path in out.glob("outcomes/*/*.parquet")}
    assert len(files) == len(first) == 3
    again = archive(asked, out)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert sum(report.films for report in [*first, *again]) == ArchiveFolder(out).manifest().films


def test_a_run_is_not_resumed_with_another_model_rule_or_csv(tmp_path, asked, reference_model):
    out = tmp_path / "out"
    archive(asked, out, most=1)
    other = replace(asked.rule, min_confidence=0.9)
    for changed in (
        replace(asked, model=reference_model, model_path=None),
        replace(asked, rule=other),
        replace(asked, hips_file=None),
        replace(asked, patient_key=bytes(32)),
    ):
        with pytest.raises(ConfigError, match="another"):
            archive(changed, out)
    archive(asked, out)


def test_a_node_with_another_model_or_another_folder_says_so(tmp_path, asked, reference_model):
    with stages(asked, tmp_path / "out") as (folder, manifest, _):
        there = replace(asked, model_path=reference_model.path)
        job = job_of(there, folder, manifest, Lease(folder.lock), workers=1)
        row = shard_table([0])
        for stage, other, message in (
            (Inference, job, "another model"),
            (Inference, replace(job, run_id="other"), "must be shared"),
            (Reader, replace(job, out=tmp_path / "nothing"), "does not share"),
        ):
            (table,) = stage(other)(row)
            assert message in table["error"][0].as_py()


def test_an_actor_whose_driver_was_replaced_records_nothing(tmp_path, asked):
    out = tmp_path / "out"
    with stages(asked, out) as (folder, _, do):
        do(0)
        folder.lock.write_text(folder.lock.read_text().replace('"token":"', '"token":"x'))
        with pytest.raises(HipedgeError, match="another driver"):
            do(1)
    assert list(folder.done(5)) == [0]


def test_a_full_disk_stops_the_job_and_what_is_done_stays(tmp_path, asked):
    out = tmp_path / "out"
    archive(asked, out, most=1)
    part = out / "outcomes/part=0000"
    kept = {path.name: path.read_bytes() for path in part.iterdir()}
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(part)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr.strip()}")
    try:
        (part / "filler").write_bytes(bytes(60 << 10))
        with pytest.raises(HipedgeError, match=r"no space is left.*run the same command again"):
            archive(asked, out)
        assert [path.name for path in part.iterdir()] == ["filler"]  # no half of a file
    finally:
        subprocess.run(["umount", str(part)], check=True)
    assert {path.name: path.read_bytes() for path in part.iterdir()} == kept
    archive(asked, out)
    assert not ArchiveFolder(out).pending(5)


def test_a_damaged_file_of_outcomes_is_named_and_can_be_made_anew(tmp_path, asked):
    out, db = tmp_path / "out", tmp_path / "merged.db"
    archive(asked, out)
    path = ArchiveFolder(out).outcomes(2)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"shard-0000002.*delete it"):
        merged(out, db)
    path.unlink()
    archive(asked, out)
    merged(out, db)
    screened(asked, tmp_path / "screened.db")
    assert rows(db) == rows(tmp_path / "screened.db")


def test_a_film_at_which_a_reader_died_three_times_is_quarantined_and_the_others_are_read(
    tmp_path, asked
):
    out = tmp_path / "out"
    with stages(asked, out) as (folder, _, do):
        strikes = Strikes(folder.attempts, 0)
        strikes.begin()  # the first death, of which nobody knows the cause
        for _death in range(2):
            assert strikes.begin()
            note = strikes.at_hand(1)
            note.__enter__()  # and the reader is no more
        report = do(0)
    assert report.summary.refused == {Code.WORKER_DIED: 1}
    assert report.summary.screened == 3
    outcomes, _ = outcomes_of(folder.read(0))
    assert [one.outcome.source.name for one in outcomes if isinstance(one.outcome, Refusal)] == [
        "0001.dcm"
    ]
    assert list(folder.attempts.iterdir()) == []
