"""Writing files: atomically, privately, and as CSV without formulas; the cache folder."""

from __future__ import annotations

import csv
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from hipedge.errors import InstallationError

# Text that a spreadsheet may evaluate, with any apostrophes that already escape it; numbers are
# not escaped.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}(;{_NUMBER})*")

# Of files that hold UIDs, ages or paths; a stricter umask still applies.
PRIVATE = 0o600


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block succeeds.

    A reader sees the old file or the new one, never a part. The temporary name is unique, so that
    processes that share a folder do not write into each other's files. It is removed on failure.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file atomically and durably: its data and its name are synced to the disk.

    `mode` holds the permission bits of the file, less the umask.
    """
    with (
        replacing(path) as partial,
        os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file,
    ):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def private_opener(path: str, flags: int) -> int:
    """Open a file so that only its owner can read it; an `opener` for `open`.

    A file that exists keeps its permissions.
    """
    return os.open(path, flags, PRIVATE)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return hipedge's folder in the user's cache (the XDG Base Directory Specification).

    Raises `InstallationError` as `home_folder` does.
    """
    return Path(environment.get("XDG_CACHE_HOME") or home_folder() / ".cache") / "hipedge"


def home_folder() -> Path:
    """Return the user's home folder, or a private temporary one for a user who has none.

    With neither HOME nor an entry in the user database (`docker run --user 54321`), that is
    `hipedge-UID` in the folder for temporary files. Raises `InstallationError` if that folder
    cannot be created, or belongs to another user, who could have put files into it.
    """
    try:
        return Path.home()
    except RuntimeError:
        folder = Path(tempfile.gettempdir(), f"hipedge-{os.getuid()}")
    try:
        folder.mkdir(0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise InstallationError(
            f"this user has no home folder, and {folder} cannot be created ({error.strerror}): "
            "set HOME"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise InstallationError(
            f"this user has no home folder, and {folder} is not private to this user: set HOME"
        )
    return folder


def set_home() -> None:
    """Set HOME where it is not: libraries such as OpenVINO need a home folder when imported."""
    os.environ.setdefault("HOME", str(home_folder()))


def write_csv(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows as CSV; text that a spreadsheet would evaluate is escaped."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(escape_formula, header))
    writer.writerows(map(escape_formula, row) for row in rows)


def escape_formula(cell: object) -> object:
    """Return a CSV cell that no spreadsheet evaluates as a formula.

    Text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe
    in front, which spreadsheets hide (OWASP, "CSV Injection"). Numbers stay numbers, also those
    formatted as text. `hipedge.csv_input` removes the apostrophe again.
    """
    if isinstance(cell, (int, float)) or cell is None:
        return cell
    text = str(cell)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBERS.fullmatch(text) else text
