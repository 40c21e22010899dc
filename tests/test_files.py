"""Files are written whole or not at all, private where they must be; caches have a folder."""

import os
import stat
from pathlib import Path

import pytest

from hipedge import files
from hipedge.cli import main
from hipedge.errors import InstallationError
from hipedge.files import (
    PRIVATE,
    cache_folder,
    home_folder,
    private_opener,
    replacing,
    set_home,
    write_atomically,
)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user with neither HOME nor an entry in the user database."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"hipedge-{os.getuid()}"


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        fail_while_writing(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def fail_while_writing(path):
    with replacing(path) as partial:
        partial.write_bytes(b"half")
        raise ZeroDivisionError


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as one, replacing(path) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"


def test_data_and_name_are_synced_before_the_write_returns(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def note(descriptor):
        synced.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(tmp_path / "file", b"data")
    assert synced == [stat.S_IFREG, stat.S_IFDIR]
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_private_file_is_private_whatever_the_umask(tmp_path, umask):
    write_atomically(tmp_path / "atomic", b"data", PRIVATE)
    with open(tmp_path / "opened", "wb", opener=private_opener):
        pass
    assert mode_of(tmp_path / "atomic") == mode_of(tmp_path / "opened") == 0o600


def test_another_file_has_the_permissions_that_the_umask_leaves(tmp_path, umask):
    write_atomically(tmp_path / "file", b"data")
    assert mode_of(tmp_path / "file") == 0o666 & ~umask


def test_the_cache_is_where_xdg_says_or_under_the_home_folder(monkeypatch, tmp_path):
    assert cache_folder({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/hipedge")
    monkeypatch.setenv("HOME", str(tmp_path))
    for environment in ({}, {"XDG_CACHE_HOME": ""}):
        assert cache_folder(environment) == tmp_path / ".cache/hipedge"


def test_a_user_without_a_home_folder_has_a_private_temporary_one(homeless):
    assert cache_folder({}) == homeless / ".cache/hipedge"
    assert mode_of(homeless) == 0o700
    assert home_folder() == homeless  # also when it is there already
    set_home()
    assert os.environ["HOME"] == str(homeless)


def test_every_command_has_a_home_folder(homeless):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    assert os.environ["HOME"] == str(homeless)


def test_a_home_folder_that_is_set_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    set_home()
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.parametrize("planted", ["file", "link", "writable", "foreign"])
def test_a_temporary_folder_that_another_user_could_have_planted_is_not_used(homeless, planted):
    if planted == "file":
        homeless.touch()
    elif planted == "link":
        homeless.parent.joinpath("theirs").mkdir(0o700)
        homeless.symlink_to("theirs")
    elif planted == "writable":
        homeless.mkdir()
        homeless.chmod(0o770)
    else:
        if os.getuid() != 0:
            pytest.skip("only root can give a folder to another user")
        homeless.mkdir(0o700)
        os.chown(homeless, 12345, 12345)
    with pytest.raises(InstallationError, match="set HOME"):
        home_folder()


def test_where_no_folder_can_be_created_one_line_says_so(homeless, monkeypatch):
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: "/nowhere/at/all")
    with pytest.raises(InstallationError, match=r"no home folder.*set HOME"):
        home_folder()
