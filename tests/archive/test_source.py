"""A source is a folder, a manifest or an object store, and is never held in memory as a whole."""

import multiprocessing
import os
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra ray")

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from hipedge.archive.folder import ArchiveFolder, Manifest
from hipedge.archive.source import download, is_object, list_source
from hipedge.archive.stages import Copies
from hipedge.errors import Code, InputError, Refused
from hipedge.pipeline.discover import LeftAside, discover
from hipedge.store.rows import path_from_text, path_to_text
from hipedge.types import Refusal


def manifest(**changes):
    values = {"shard_films": 4, "pipeline_version": 1, "hips_sha256": None, "patient_key_id": None}
    names = ("run_id", "source", "model_id", "model_name", "model_status", "card", "rule")
    return Manifest(**dict.fromkeys(names, "") | values | changes)


def test_a_folder_is_listed_as_screen_lists_it(tmp_path):
    for name in ("b/2.dcm", "a/1.dcm", "c.txt", ".hidden/3.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "pipe").symlink_to("/dev/zero")
    found, expected = list(list_source(str(tmp_path))), discover([tmp_path])
    assert [one for one in found if isinstance(one, Path)] == list(expected.files)
    refused = [one.source for one in found if isinstance(one, Refusal)]
    assert refused == [refusal.source for refusal in expected.refusals]
    assert sum(isinstance(one, LeftAside) for one in found) == 2


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_names_films_by_path_or_uri(tmp_path, kind):
    names = ["a.dcm", "/archive/b.dcm", "s3://films/2024/c.dcm", "file:///archive/d%20e.dcm"]
    file = tmp_path / f"films.{kind}"
    if kind == "csv":
        file.write_text("path\n" + "\n".join(names) + "\n")
    else:
        pq.write_table(pa.table({"path": names, "patient": range(4)}), file)
    found = list(list_source(str(file)))
    assert found[:2] == [tmp_path / "a.dcm", Path("/archive/b.dcm")]
    assert path_to_text(found[2]) == names[2]
    assert is_object(found[2])
    assert found[3] == Path("/archive/d e.dcm")


@pytest.mark.parametrize("key", ["s3://films//c.dcm", "s3://films/./c.dcm"])
def test_a_key_that_cannot_be_kept_as_it_is_is_refused(tmp_path, key):
    (tmp_path / "films.csv").write_text(f"uri\n{key}\n")
    (found,) = list_source(str(tmp_path / "films.csv"))
    assert isinstance(found, Refusal)
    assert found.code is Code.UNREADABLE


@pytest.mark.parametrize("text", ["name\nx\n", "path,uri\na,s3://b/c\n"])
def test_a_manifest_with_a_row_that_names_no_film_is_an_error(tmp_path, text):
    (tmp_path / "films.csv").write_text(text)
    with pytest.raises(InputError):
        list(list_source(str(tmp_path / "films.csv")))


def test_a_source_that_does_not_exist_is_an_error(tmp_path):
    for source in (str(tmp_path / "films"), "memory://nowhere/films", "nosuch://bucket/films"):
        with pytest.raises(InputError):
            list(list_source(source))


@pytest.fixture
def store():
    """An object store in this process."""
    filesystem = fsspec.filesystem("memory")
    for name, data in {"a/1.dcm": b"one", "a/2.dcm": b"two", "a/notes.txt": b"no film"}.items():
        filesystem.pipe(f"/films/{name}", data)
    filesystem.pipe("/films/a/dicom.txt", bytes(128) + b"DICM")
    yield filesystem
    filesystem.rm("/films", recursive=True)


def test_objects_are_listed_copied_and_named_by_their_uri(store, tmp_path):
    found = list(list_source("memory://films"))
    names = [path_to_text(one) for one in found if isinstance(one, Path)]
    assert [name.rsplit("/", 1)[1] for name in names] == ["1.dcm", "2.dcm", "dicom.txt"]
    assert sum(isinstance(one, LeftAside) for one in found) == 1
    path = path_from_text(names[0])
    download(path, tmp_path / "copy", 100)
    assert (tmp_path / "copy").read_bytes() == b"one"
    with pytest.raises(Refused, match="more than 2 bytes"):
        download(path, tmp_path / "copy", 2)
    missing = path.with_name("3.dcm")
    with Copies([path, missing, tmp_path / "local"]) as copies:
        read = list(copies)
        assert read[1] == tmp_path / "local"
        assert read[0].read_bytes() == b"one"
        assert copies.source(read[0]) == path
        assert not read[0].exists()
    assert [(refusal.source, refusal.code) for refusal in copies.refusals] == [
        (missing, Code.UNREADABLE)
    ]


def test_every_path_of_a_list_is_in_one_shard_also_one_that_is_no_utf8(tmp_path):
    odd = Path(os.fsdecode(b"/archive/\xff.dcm"))
    refusal = Refusal(Path("/archive/folder"), Code.UNREADABLE, "PermissionError on a folder")
    listed = [*(Path(f"/archive/{n}") for n in range(1100)), odd, refusal]
    folder = ArchiveFolder(tmp_path / "out")
    begun = folder.begin(manifest(), [*listed, LeftAside(Path("/x"), is_folder=False)])
    assert (begun.shards, begun.films, begun.left_aside) == (276, 1102, 1)
    found = [row for shard in range(begun.shards) for row in folder.listed(shard)]
    assert found[:-1] == listed[:-1]
    assert (found[-1].source, found[-1].detail) == (refusal.source, refusal.detail)
    assert folder.manifest() == begun


def memory_of_listing(out, count):
    """Return the most memory in bytes that listing so many paths takes."""
    paths = (Path(f"/archive/{n:07}") for n in range(count))
    tracemalloc.start()
    ArchiveFolder(out).begin(manifest(shard_films=128), paths)
    return tracemalloc.get_traced_memory()[1]


def test_listing_a_million_paths_takes_little_memory(tmp_path):
    # In a process of its own: what threads of other tests allocate is no part of it.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        most = pool.apply(memory_of_listing, (tmp_path / "out", 60_000))
    assert most < 4 << 20
