"""The folder for films that arrive: each appears in it complete, on the disk, under a random name.

A film is written into a hidden folder within it, which `hipedge watch` does not enter, and renamed
when it is complete. Nothing that a peer sends becomes part of a name.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING

from hipedge.errors import InputError
from hipedge.files import private_opener

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

ARRIVING = ".arriving"
SUFFIX = ".dcm"
# A disk, a quota, or the limit of a file's size: more space must be made available.
_OUT_OF_SPACE = (ENOSPC, EDQUOT, EFBIG)


class Spool:
    """A folder into which films are put; used as a context, by one process at a time.

    What a process that was killed has left incomplete is removed at the start: nobody was told that
    it had arrived. No film is accepted while less than `reserve_bytes` are free on the disk.
    """

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        """Raise `InputError` where films cannot be put into the folder."""
        self._folder = folder.absolute()
        self._arriving = self._folder / ARRIVING
        self._reserve_bytes = reserve_bytes
        self._opened = ExitStack()
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder}")

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            try:
                self._arriving.mkdir(0o700, exist_ok=True)
                self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
                opened.callback(os.close, self._descriptor)
                lock = private_opener(str(self._arriving / "lock"), os.O_RDWR | os.O_CREAT)
                opened.callback(os.close, lock)
                self._take(lock)
                for left in self._arriving.glob(f"*{SUFFIX}"):
                    left.unlink()
            except OSError as error:
                raise InputError(f"{self._folder} cannot be used: {error.strerror}") from error
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()

    def begin(self) -> SpooledFilm:
        """Begin a film. Raises `OSError`, with ENOSPC where too little space is free."""
        if shutil.disk_usage(self._folder).free < self._reserve_bytes:
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        name = secrets.token_hex(16) + SUFFIX
        return SpooledFilm(self._arriving / name, self._folder / name, self._descriptor)

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another `hipedge receive` or `hipedge fetch` writes into {self._folder}"
            ) from error


class SpooledFilm:
    """A film that is being written. It must end by `keep` or `discard`."""

    def __init__(self, partial: Path, final: Path, folder: int) -> None:
        self._partial, self._final, self._folder = partial, final, folder
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(private_opener(str(partial), flags), "wb")

    def write(self, data: bytes | memoryview) -> None:
        """Append data. Raises `OSError`."""
        self._file.write(data)

    def keep(self) -> Path:
        """Let the film appear, once it is on the disk; return its path. Raises `OSError`.

        When this returns, the content and the name survive a power cut.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._partial, self._final)  # noqa: PTH104
        os.fsync(self._folder)
        return self._final

    def discard(self) -> None:
        """Remove the film, if it has not appeared."""
        with suppress(OSError):  # buffered data that could not be written
            self._file.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)


def is_out_of_space(error: OSError) -> bool:
    """Return whether an error means that there is no space, rather than a damaged disk."""
    return error.errno in _OUT_OF_SPACE


def write_film(spool: Spool, parts: Iterable[bytes | memoryview]) -> Path:
    """Put a film of several parts into the spool. Raises `OSError`, and leaves nothing then."""
    film = spool.begin()
    try:
        for part in parts:
            film.write(part)
        return film.keep()
    finally:
        film.discard()
