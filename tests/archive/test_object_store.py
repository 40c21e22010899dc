"""Films in an S3 store are listed, fetched and recorded as those of a folder are.

The store is moto's server: S3's protocol over HTTP, which pyarrow's S3 client talks to.
"""

import sqlite3
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra ray")
pytest.importorskip("moto", reason="needs the extra dev")

from moto.server import ThreadedMotoServer
from pyarrow import fs

from hipedge.archive import source
from hipedge.archive.folder import ArchiveFolder
from hipedge.archive.merge import merge
from hipedge.archive.source import download, list_source
from hipedge.errors import Code, InputError, Refused
from hipedge.store.rows import path_from_text, path_to_text
from hipedge.store.store import Store
from tests.archive.line import archive, request, screened, write_films

CONTENTS = (
    "select f.content_hash, f.state, f.code, f.detail, f.pixel_hash, h.side, h.x0_px, h.logits,"
    " d.category, d.probabilities from files f left join hips h on h.file_id = f.id"
    " left join decisions d on d.hip_id = h.id"
)


@pytest.fixture
def bucket(monkeypatch):
    """An empty bucket `films`, which the environment's credentials open."""
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    url = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    source._filesystem.cache_clear()  # of another test's server
    opened = fs.S3FileSystem(endpoint_override=url, allow_bucket_creation=True)
    opened.create_dir("films")
    yield opened
    with urllib.request.urlopen(f"{url}/moto-api/reset", data=b""):  # its state is the process's
        store.stop()


def put(bucket, key, data):
    with bucket.open_output_stream(f"films/{key}") as stream:
        stream.write(data)


def test_objects_of_a_bucket_are_listed_in_order_and_copied(bucket, tmp_path):
    for key in ("b/3.dcm", "a/2.dcm", "a/1 ü+%.dcm", "a/notes.txt"):
        put(bucket, key, key.encode())
    found = [one for one in list_source("s3://films") if isinstance(one, Path)]
    names = list(map(path_to_text, found))
    assert names == ["s3://films/a/1 ü+%.dcm", "s3://films/a/2.dcm", "s3://films/b/3.dcm"]
    for name in names:
        download(path_from_text(name), tmp_path / "copy", 100)
        assert (tmp_path / "copy").read_text() == name.removeprefix("s3://films/")
    with pytest.raises(Refused, match="more than 3 bytes"):
        download(path_from_text(names[0]), tmp_path / "copy", 3)


def test_an_object_that_was_deleted_is_refused_and_a_bucket_that_is_none_is_an_error(
    bucket, tmp_path
):
    with pytest.raises(Refused) as refused:
        download(path_from_text("s3://films/gone.dcm"), tmp_path / "copy", 100)
    assert refused.value.code is Code.UNREADABLE
    with pytest.raises(InputError):
        list(list_source("s3://nowhere/films"))


def test_films_of_a_bucket_have_the_rows_that_the_same_files_have(
    bucket, tmp_path, untrained_model
):
    hips = write_films(tmp_path / "films")
    for path in (tmp_path / "films").iterdir():
        if path.is_file() and not path.is_symlink():
            put(bucket, path.name, path.read_bytes())
    (tmp_path / "films/pipe").unlink()  # a store has none
    asked = request("s3://films", untrained_model, hips)
    archive(asked, tmp_path / "out")
    with Store(tmp_path / "merged.db") as store:
        summary = merge(ArchiveFolder(tmp_path / "out"), store)
    screened(request(tmp_path / "films", untrained_model, hips), tmp_path / "screened.db")
    merged, expected = (
        sorted(map(repr, sqlite3.connect(tmp_path / name).execute(CONTENTS)))
        for name in ("merged.db", "screened.db")
    )
    assert merged == expected
    assert summary.screened == 13
