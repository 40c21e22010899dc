"""The line keeps every film: copies that are under way together end as one result."""

import json
import shutil

import pytest

from hipedge.backends.fake import FakeBackend
from hipedge.config import Settings
from hipedge.errors import InstallationError
from hipedge.locate.given import read_hips_csv
from hipedge.model import ModelFolder
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.screen import screen
from hipedge.pipeline.workers import Limits
from hipedge.rules.site_rule import site_rule
from hipedge.store.store import Store
from hipedge.types import Category
from hipedge.watch.retry import RetryResult, retry
from tests.dicom.dicom_films import EXPLICIT, RLE
from tests.watch.clinic import ROOT_UID, SIZE_PX, dicom


@pytest.fixture
def incoming(tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path, incoming, untrained_model):
    """Screen what is incoming with a backend that answers late; return the summary and the rows."""
    hips = tmp_path / "hips.csv"
    marked = "".join(f"{ROOT_UID}.{n},right,0,0,{SIZE_PX},{SIZE_PX}\n" for n in range(9))
    hips.write_text("sop_instance_uid,side,x0,y0,x1,y1\n" + marked)

    def screened(latency_s=0.3, nan=False, model=untrained_model):
        backend = NotANumber if nan else FakeBackend
        with (
            BatchScheduler(lambda: backend(SIZE_PX, latency_s=latency_s)) as batches,
            Store(tmp_path / "cases.db") as store,
        ):
            summary = screen(
                [incoming],
                model=model,
                batches=batches,
                reason="test",
                store=store,
                rule=site_rule(untrained_model.card, Settings()),
                given_hips=read_hips_csv(hips),
                workers=1,
                limits=Limits(),
                opened=lambda _: None,
                progress=lambda *_: None,
            )
            versions = json.loads(store.query("select versions from runs")[-1]["versions"])
            assert "areas of jpeg2k" in versions
            rows = store.query(
                "select state, duplicate_of, (select count(*) from hips where file_id = files.id)"
                " as hips from files order by id"
            )
            paths = store.query("select count(*) as n, count(distinct file_id) as files from paths")
            return summary, [tuple(row.values()) for row in rows], tuple(paths[0].values())

    return screened


class NotANumber(FakeBackend):
    """A model that fails on all that it sees."""

    def _infer(self, batch):
        logits, maps = super()._infer(batch)
        return logits * float("nan"), maps


@pytest.mark.promise(14)
def test_copies_of_a_file_that_are_under_way_together_are_one_result(run, incoming):
    (incoming / "a.dcm").write_bytes(dicom(1, Category.FEMORAL_NECK_FRACTURE))
    for name in "bcd":
        shutil.copy(incoming / "a.dcm", incoming / f"{name}.dcm")
    summary, rows, paths = run()
    assert rows == [("screened", None, 1)]
    assert paths == (4, 1)
    assert (summary.screened, summary.hips, sum(summary.flagged.values())) == (1, 1, 1)
    assert sum(summary.refused.values()) == 3


@pytest.mark.promise(14)
def test_of_one_film_in_two_encodings_the_first_to_be_scored_is_the_result(run, incoming):
    (incoming / "a.dcm").write_bytes(dicom(1, syntax=EXPLICIT))
    (incoming / "b.dcm").write_bytes(dicom(1, syntax=RLE))
    summary, rows, paths = run()
    assert rows == [("screened", None, 1), ("duplicate", 1, 0)]
    assert paths == (2, 2)
    assert (summary.screened, summary.refused.total()) == (1, 1)


@pytest.mark.promise(14)
def test_a_film_is_no_duplicate_of_one_that_could_not_be_scored(run, incoming):
    (incoming / "a.dcm").write_bytes(dicom(1, syntax=EXPLICIT))
    _, rows, _ = run(nan=True)
    assert rows == [("quarantined", None, 0)]
    (incoming / "b.dcm").write_bytes(dicom(1, syntax=RLE))
    _, rows, _ = run()
    assert rows == [("quarantined", None, 0), ("screened", None, 1)]


def test_a_quarantined_film_is_read_again_after_retry_and_not_before(run, incoming, tmp_path):
    (incoming / "a.dcm").write_bytes(dicom(1))
    run(nan=True)
    _, rows, _ = run()
    assert rows == [("quarantined", None, 0)]
    with Store(tmp_path / "cases.db") as store:
        assert retry(store) == RetryResult(queued=(1,), missing=())
    _, rows, _ = run()
    assert rows == [("screened", None, 1)]


def test_what_the_header_said_is_kept_where_no_hip_is_found(run, incoming, tmp_path):
    film = dicom(1).replace(f"{ROOT_UID}.1".encode(), f"{ROOT_UID}.0".encode())
    (incoming / "a.dcm").write_bytes(b"MZ" + film[2:])
    hips = tmp_path / "hips.csv"
    hips.write_text(hips.read_text().replace(f"{ROOT_UID}.0,", f"{ROOT_UID}.99,"))
    run()
    with Store(tmp_path / "cases.db") as store:
        (row,) = store.query("select code, sop_instance_uid, height_px, marks from files")
    assert tuple(row.values()) == ("no_hip_found", f"{ROOT_UID}.0", SIZE_PX, '["polyglot"]')


def test_a_locator_that_cannot_be_opened_ends_the_run_and_costs_no_film(
    run, incoming, tmp_path, untrained_model
):
    class WithLocator(ModelFolder):
        locator = tmp_path / "locator.onnx"

    WithLocator.locator.write_bytes(b"of another version")
    (incoming / "a.dcm").write_bytes(dicom(99))
    with pytest.raises(InstallationError, match="locator"):
        run(model=WithLocator(**vars(untrained_model)))
    with Store(tmp_path / "cases.db") as store:
        assert not store.query("select * from files")
