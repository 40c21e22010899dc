"""`hipedge send`: by hand, what the settings say, and never twice."""

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from hipedge.cli import app
from hipedge.store.outbox import ResultPolicy
from hipedge.store.store import Store
from hipedge.types import Category, Side
from tests.pacs import AE_TITLE
from tests.results.recorded import record, scored

URGENT, NORMAL = Category.FEMORAL_NECK_FRACTURE, Category.NORMAL


@pytest.fixture
def site(tmp_path, monkeypatch, untrained_model):
    """A site with a flagged film (1) and another (2), recorded before there was a PACS."""
    from hipedge.model.card import card_json

    monkeypatch.chdir(tmp_path)
    with Store(tmp_path / "hipedge.db") as store:
        run = store.start_run(
            model_id="model",
            model_name="test",
            model_status="untrained",
            card=card_json(untrained_model.card).decode(),
            backend="fake",
            backend_reason="asked for",
            versions={},
        )
        for number, category in enumerate([URGENT, NORMAL], 1):
            hips = scored(category), scored(category, Side.LEFT)
            record(store, tmp_path, *hips, number=number, policy=ResultPolicy(), run=run)
    return tmp_path


def send(*arguments):
    result = CliRunner().invoke(app, ["send", *arguments])
    return result.exit_code, result.output, result.exception


def configure(site, server):
    (site / "hipedge.toml").write_text(
        f'pacs_host = "127.0.0.1"\npacs_port = {server.dicom_port}\npacs_ae_title = "{AE_TITLE}"\n'
    )


def test_flagged_films_are_sent_and_a_second_time_nothing_is(site, orthanc):
    configure(site, orthanc)
    for _ in range(2):
        code, output, _ = send()
        assert (code, output) == (0, "1 results are delivered, 0 wait\n")
        assert len(orthanc.instances()) == 2
    code, output, _ = send("--unflagged")
    assert output == "2 results are delivered, 0 wait\n"
    assert len(orthanc.instances()) == 4
    code, output, _ = send("2", "--again")
    assert (code, output) == (0, "1 results are delivered, 0 wait\n")
    assert len(orthanc.instances()) == 4


def test_what_cannot_be_delivered_waits_and_the_exit_status_says_so(site):
    (site / "hipedge.toml").write_text('pacs_host = "127.0.0.1"\npacs_port = 1\n')
    code, output, _ = send()
    assert code == 1
    assert "0 results are delivered, 1 wait" in output
    assert "no connection to the receiver" in output


def test_results_can_be_written_to_a_folder_without_a_pacs(site):
    code, output, _ = send("1", "-o", "out")
    assert code == 0
    assert output.splitlines() == ["out/1-sc.dcm", "out/1-sr.dcm"]
    assert [dcmread(site / name).Modality for name in output.splitlines()] == ["OT", "SR"]
    with Store(site / "hipedge.db") as store:
        assert store.query("select * from outbox") == []


@pytest.mark.parametrize("key", ["7", "no such film"])
def test_a_case_that_is_not_there_is_an_error(site, key):
    _, _, error = send(key)
    assert "no case" in str(error)
