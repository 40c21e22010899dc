"""The commands of docs/clinic.md that receive and fetch films are run as they are written."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from hipedge.config import load_settings
from hipedge.dicom.read import read
from tests.dicom.dicom_films import film
from tests.network.node import AE_TITLE, PATH, Node, dcmtk
from tests.pacs import AE_TITLE as PACS
from tests.pacs import Orthanc, free_port, loopback_environment, need, on_loopback, orthanc
from tests.watch.clinic import paint

__all__ = ["on_loopback", "orthanc"]

PAGE = (Path(__file__).parents[2] / "docs/clinic.md").read_text(encoding="utf-8")


def block(name):
    """The code block of the page that follows the comment with this name."""
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)[1]


@contextlib.contextmanager
def shell(script, folder, **environment):
    """Run a script in the background in a folder; end all its processes at the end."""
    script = f'hipedge() {{ "{sys.executable}" -m hipedge "$@"; }}\n{script}'
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-ec", script],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def wait(condition, folder):
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(sqlite3.OperationalError):
            if condition():
                return
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.1)


@pytest.fixture
def film_file(tmp_path):
    path = tmp_path / "sent.dcm"
    path.write_bytes(film(paint("normal"), bits=12, SOPInstanceUID="1.2.3"))
    return path


@pytest.mark.slow
def test_what_is_received_is_screened(tmp_path, film_file, untrained_model):
    install, *commands = block("receive").splitlines()
    assert install == "pip install 'hipedge[clinic,service]'"
    port = free_port()
    environment = {
        "HIPEDGE_RECEIVE_PORT": str(port),
        "HIPEDGE_METRICS_PORT": "0",
        "HIPEDGE_RESERVE_MB": "0",
        "HIPEDGE_SETTLE_S": "0.3",
        "HIPEDGE_MODEL": str(untrained_model.path),
    }

    def states():
        with contextlib.closing(
            sqlite3.connect(f"file:{tmp_path}/hipedge.db?mode=ro", uri=True)
        ) as db:
            return db.execute("select state from paths").fetchall()

    with shell("\n".join(commands), tmp_path, **environment):
        wait(lambda: "listening" in (tmp_path / "log").read_text(), tmp_path)
        sent = dcmtk("storescu", "-aec", AE_TITLE, "localhost", port, film_file)
        assert sent.returncode == 0, sent.stderr
        wait(lambda: states() in ([("not_applicable",)], [("screened",)]), tmp_path)


def test_orthanc_forwards_radiographs_and_no_results(tmp_path, on_loopback):
    node = Node(tmp_path)
    lua = tmp_path / "hipedge.lua"
    lua.write_text(block("lua"))
    settings = json.loads(block("orthanc").replace("/etc/orthanc/hipedge.lua", str(lua)))
    elements = {"PatientID": "1", "SeriesInstanceUID": "1.2.4", "bits": 12}
    with node.running():
        settings["DicomModalities"]["hipedge"][2] = node.port
        with Orthanc(tmp_path / "orthanc", on_loopback).up(**settings) as pacs:
            for number, (modality, sender) in enumerate(
                [("MR", "XRAY"), ("DX", AE_TITLE), ("DX", "XRAY"), ("CR", "XRAY")]
            ):
                path = tmp_path / "film.dcm"
                uid = f"1.2.3.{number}"
                path.write_bytes(
                    film(paint("normal"), Modality=modality, SOPInstanceUID=uid, **elements)
                )
                address = ("localhost", pacs.dicom_port, path)
                assert dcmtk("storescu", "-aet", sender, "-aec", PACS, *address).returncode == 0
            node.wait(lambda: len(node.films) == 2)
    assert {dcmread(path).SOPInstanceUID for path in node.films} == {"1.2.3.2", "1.2.3.3"}


def test_storescp_writes_what_watch_reads(tmp_path, film_file):
    need("storescp")
    (tmp_path / "incoming").mkdir()
    port = free_port()
    command = block("storescp").replace(" 11112", f" {port}")
    folder = tmp_path / "loopback"
    folder.mkdir()
    with shell(command, tmp_path, **{**loopback_environment(folder), "PATH": PATH}):
        wait(lambda: dcmtk("echoscu", "localhost", port).returncode == 0, tmp_path)
        assert dcmtk("storescu", "localhost", port, film_file).returncode == 0
    (arrived,) = (tmp_path / "incoming").iterdir()
    assert read(arrived).film.sop_instance_uid == "1.2.3"


@pytest.mark.slow
def test_what_is_fetched_can_be_screened(tmp_path, orthanc, untrained_model):
    orthanc.add(
        film(
            paint("normal"), bits=12, PatientID="1", SeriesInstanceUID="1.2.4", StudyDate="20190310"
        )
    )
    script = block("fetch").replace("https://pacs.example/dicom-web", orthanc.web)
    script = script.replace("--hours 20-6 --per-minute 30", "--per-minute 100000")
    script = script.replace("2019-01-01", "2019-03-09").replace("2019-12-31", "2019-03-11")
    environment = {"HIPEDGE_MODEL": str(untrained_model.path), "HIPEDGE_RESERVE_MB": "0"}
    with shell(script, tmp_path, **environment) as process:
        assert process.wait(100) == 0, (tmp_path / "log").read_text()
    assert len(list((tmp_path / "archive").glob("*.dcm"))) == 1
    assert "1 films fetched" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_the_settings_that_the_page_shows_are_valid(tmp_path, text):
    file = tmp_path / "hipedge.toml"
    file.write_text(text)
    load_settings({}, file, {})
