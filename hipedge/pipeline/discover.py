"""The first stage: which files to read, in a stable order, and which paths cannot be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from hipedge.errors import Code, InputError
from hipedge.types import Refusal

# Suffixes of files that are not radiographs. A DICOM file with such a name is still read, so that
# no case is lost by its name alone.
SIDECAR_SUFFIXES = frozenset(
    {".cfg", ".csv", ".db", ".db-journal", ".db-shm", ".db-wal", ".html", ".ini", ".json", ".log"}
    | {".md", ".pdf", ".py", ".sqlite", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
)

# Renamed or removed since its folder was listed: the next walk finds it under its new name.
GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class Discovered:
    """The files to read, the paths that cannot be read, and what is left aside.

    Left aside are files that are not images by their names, and hidden or linked folders.
    """

    files: tuple[Path, ...]
    refusals: tuple[Refusal, ...]
    left_aside: tuple[Path, ...]
    folders_left_aside: tuple[Path, ...]

    def count_left_aside(self) -> int:
        """Count the files left aside. Folders that were not entered are walked now.

        The target of a link to a parent folder is not counted: it was walked already.
        """
        inside = {file for folder in self.folders_left_aside for file in _files_in(folder)}
        return len(self.left_aside) + len(inside.difference(self.files, self.left_aside))


@dataclass(frozen=True)
class LeftAside:
    """A path that is not read: a file that is no image by its name, or a folder not entered."""

    path: Path
    is_folder: bool


def discover(paths: Iterable[Path]) -> Discovered:
    """Find the files under `paths`, each a file or a folder; folders recursively, in name order.

    A file that is reached twice is listed once; a file that has disappeared is not listed. Links
    to folders are not followed, so that a loop of links cannot trap the walk. Raises `InputError`
    for a path that does not exist: a mistyped name must not look like an empty folder.
    """
    files: dict[Path, None] = {}
    refusals: dict[Path, Refusal] = {}
    left_aside: dict[Path, None] = {}
    folders_left_aside: list[Path] = []
    for top in paths:
        for found in explore(top):
            if isinstance(found, Refusal):
                refusals[found.source] = found
            elif isinstance(found, Path):
                files[found] = None
            elif found.is_folder:
                folders_left_aside.append(found.path)
            else:
                left_aside[found.path] = None
    return Discovered(
        tuple(files), tuple(refusals.values()), tuple(left_aside), tuple(folders_left_aside)
    )


def explore(top: Path) -> Iterator[Path | Refusal | LeftAside]:
    """Yield what lies at or below a file or folder as `discover` sorts it, one after the other.

    However many files there are, only one folder at a time is held in memory. Raises `InputError`
    for a path that does not exist.
    """
    if not os.path.lexists(top):
        raise InputError(f"no such file or folder: {top}")
    root = top.resolve()
    for found in _walk(root):
        if not isinstance(found, Path):
            yield found
        elif _is_regular(found):
            is_aside = found != root and _is_sidecar(found)
            yield LeftAside(found, is_folder=False) if is_aside else found
        elif not _is_gone(found):
            yield Refusal(found, Code.UNREADABLE, "not a regular file")


def can_list(path: Path) -> bool:
    """Return whether a path is a folder that can be listed."""
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except OSError:
        return False
    return True


def listable_again(
    unread: Iterable[Path], tops: Iterable[Path], refusals: Iterable[Refusal]
) -> list[Path]:
    """Return the folders in `unread`, below one of `tops`, that can be listed by now.

    `unread` are paths that could not be read before, `refusals` those of the latest `discover`.
    """
    named = [top.resolve() for top in tops]
    refused = {refusal.source for refusal in refusals}
    return [
        path
        for path in unread
        if path not in refused and any(map(path.is_relative_to, named)) and can_list(path)
    ]


def _walk(top: Path) -> Iterator[Path | Refusal | LeftAside]:
    """Yield all paths at or below `top` that are not folders, and the folders not entered."""
    if not top.is_dir():
        yield top
        return
    errors = list[OSError]()
    for folder, subfolders, names in os.walk(top, onerror=errors.append):
        yield from _unlistable(errors)
        entered = list[str]()
        for name in sorted(subfolders):
            path = Path(folder, name)
            # `Path.is_symlink` raises where a folder can be listed but not searched.
            if name.startswith(".") or os.path.islink(path):  # noqa: PTH114
                yield LeftAside(path, is_folder=True)
            else:
                entered.append(name)
        subfolders[:] = entered
        yield from (Path(folder, name) for name in sorted(names))
    yield from _unlistable(errors)


def _unlistable(errors: list[OSError]) -> Iterator[Refusal]:
    """Yield the refusals of folders that could not be listed, and clear the list of them."""
    for error in errors:
        if not isinstance(error, GONE):
            detail = f"{type(error).__name__} on a folder"
            yield Refusal(Path(error.filename), Code.UNREADABLE, detail)
    errors.clear()


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the real paths of the files in a folder; none where it is a link to a parent."""
    real = folder.resolve()
    if not folder.is_relative_to(real) or real == folder:
        for inner, _, names in os.walk(real):
            yield from (Path(inner, name) for name in names)


def _is_regular(path: Path) -> bool:
    """Return whether a path is a regular file: a pipe or a device could block when opened."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _is_gone(path: Path) -> bool:
    """Return whether the path no longer exists, not even as a dangling link."""
    try:
        path.lstat()
    except GONE:
        return True
    except OSError:
        return False
    return False


def has_sidecar_name(path: PurePath) -> bool:
    """Return whether a name is hidden or a sidecar's, so that only its content can be an image."""
    return path.name.startswith(".") or path.suffix.lower() in SIDECAR_SUFFIXES


def begins_like_dicom(head: bytes) -> bool:
    """Return whether the first 132 bytes of a file are those of DICOM (PS3.10 7.1)."""
    return head[128:132] == b"DICM"


def _is_sidecar(path: Path) -> bool:
    """Return whether the name is hidden or a sidecar's, and the content is not DICOM."""
    if not has_sidecar_name(path):
        return False
    try:
        with path.open("rb") as file:
            return not begins_like_dicom(file.read(132))
    except OSError:
        return False
