import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from hipedge.errors import Code, InputError
from hipedge.pipeline.discover import discover


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_folders_are_walked_deeply_in_name_order(tmp_path):
    for name in ("b/2.dcm", "a/10", "b/1.dcm", "c"):
        write(tmp_path / name)
    found = discover([tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found.files] == [
        "c",
        "a/10",
        "b/1.dcm",
        "b/2.dcm",
    ]


def test_a_file_reached_twice_is_listed_once(tmp_path):
    film = write(tmp_path / "film.dcm")
    assert discover([tmp_path, film, tmp_path]).files == (film,)


def test_a_relative_path_is_listed_as_an_absolute_one(tmp_path, monkeypatch):
    film = write(tmp_path / "film.dcm")
    monkeypatch.chdir(tmp_path)
    assert discover([film.relative_to(tmp_path)]).files == (film,)


def test_sidecars_and_hidden_files_are_left_aside_and_counted(tmp_path):
    film = write(tmp_path / "film.dcm")
    asides = {write(tmp_path / "film.json"), write(tmp_path / ".film.dcm.part")}
    found = discover([tmp_path])
    assert found.files == (film,)
    assert set(found.left_aside) == asides


def test_what_lies_in_hidden_and_linked_folders_is_left_aside_and_counted(tmp_path):
    incoming = tmp_path / "incoming"
    film = write(incoming / "film.dcm")
    for name in ("incoming/.hidden/1.dcm", "incoming/.hidden/a/2.dcm", "archive/3.dcm"):
        write(tmp_path / name)
    (incoming / "linked").symlink_to(tmp_path / "archive")
    (incoming / "again").symlink_to(tmp_path / "archive")
    (tmp_path / "archive/further").symlink_to(tmp_path)
    found = discover([incoming])
    assert found.files == (film,)
    assert found.count_left_aside() == 3


def test_a_link_to_what_is_found_anyway_leaves_nothing_aside(tmp_path):
    films = write(tmp_path / "a/film.dcm"), write(tmp_path / "b/film.dcm")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/all").symlink_to("/")
    (tmp_path / "a/aside").symlink_to(tmp_path / "b")
    found = discover([tmp_path])
    assert (found.files, found.count_left_aside()) == (films, 0)


def test_a_dicom_file_under_a_sidecars_name_is_not_lost(tmp_path):
    film = write(tmp_path / "film.txt", bytes(128) + b"DICM")
    assert discover([tmp_path]).files == (film,)


def test_a_file_that_the_user_names_is_read_whatever_its_name(tmp_path):
    note = write(tmp_path / "note.txt")
    assert discover([note]).files == (note,)


def test_a_path_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="mistyped"):
        discover([tmp_path / "mistyped"])


def test_a_loop_of_links_ends(tmp_path):
    film = write(tmp_path / "a/film.dcm")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert discover([tmp_path]).files == (film,)


def test_a_pipe_and_a_broken_link_are_refused_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    found = discover([tmp_path])
    assert found.files == ()
    assert {(refusal.source.name, refusal.code) for refusal in found.refusals} == {
        ("pipe", Code.UNREADABLE),
        ("broken", Code.UNREADABLE),
    }


class Listed(AbstractContextManager):
    """A folder's entries as they were, as os.scandir gives them."""

    def __init__(self, entries):
        self._entries = iter(entries)

    def __next__(self):
        return next(self._entries)

    def __exit__(self, *_):
        pass


def test_what_is_gone_when_the_walk_reaches_it_is_nothing_that_could_not_be_read(
    tmp_path, monkeypatch
):
    film = write(tmp_path / "film.dcm")
    for name in ("a/1.dcm", "b/1.dcm", "part.dcm"):
        write(tmp_path / name)
    list_folder = os.scandir

    def list_and_lose(path):
        """Take away all but the film once the first folder is listed, before it is looked at."""
        monkeypatch.undo()
        entries = list(list_folder(path))
        (tmp_path / "part.dcm").unlink()
        shutil.rmtree(tmp_path / "a")
        shutil.rmtree(tmp_path / "b")
        write(tmp_path / "b")
        return Listed(entries)

    monkeypatch.setattr(os, "scandir", list_and_lose)
    found = discover([tmp_path])
    assert (found.files, found.refusals) == ((film,), ())


def test_a_folder_without_rights_is_refused_and_the_rest_is_found(tmp_path):
    write(tmp_path / "locked/film.dcm")
    write(tmp_path / "open/film.dcm")
    (tmp_path / "locked").chmod(0)
    script = (
        "import os, sys; from pathlib import Path; from hipedge.pipeline.discover import discover\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "found = discover([Path(sys.argv[1])])\n"
        "print(len(found.files), [(r.source.name, r.code.value) for r in found.refusals])"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)  # pytest's own folders are closed to other users
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    (tmp_path / "locked").chmod(0o700)
    assert done.stdout == "1 [('locked', 'unreadable')]\n"
