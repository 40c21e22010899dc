"""When a file is taken: after a while without any change, on a clock that cannot jump."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hipedge.dicom import ends_in_zeros, is_whole
from hipedge.errors import Code, InstallationError
from hipedge.pipeline.preprocess import Known, Prepared, Preprocessor, error_location
from hipedge.types import Refusal

# How often a file is looked at, at least, before it is taken.
LOOKS = 3


@dataclass(frozen=True)
class FileStat:
    """What the file system says of a file. Another content gives another look."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def at(cls, path: Path) -> FileStat:
        """Look at a file. Raises `OSError`."""
        status = path.stat()
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    @property
    def signature(self) -> str:
        """What stands for the content in the database.

        Without the device, whose number is another one whenever the file system is mounted anew.
        """
        return f"{self.inode}:{self.size}:{self.mtime_ns}:{self.ctime_ns}"


@dataclass(frozen=True)
class Settled:
    """A file to be read as it was when it had settled; `last_chance` if it may wait no longer."""

    path: Path
    look: FileStat
    last_chance: bool


@dataclass(frozen=True)
class Unsettled:
    """A file that has changed since it had settled, or is not there to its end: look again."""

    source: Path


@dataclass(frozen=True)
class _Watched:
    look: FileStat
    since: float
    looks: int
    not_before: float


class Settling:
    """The files that are not finished, and how long each has been the same.

    A file that ends too early, or in zeros, is given `patience_s`, from its last change, to be
    completed.
    """

    def __init__(
        self,
        settle_s: float,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settle_s = settle_s
        self._patience_s = patience_s
        self._clock = clock
        self._watched = dict[Path, _Watched | None]()

    def __len__(self) -> int:
        return len(self._watched)

    def __contains__(self, path: Path) -> bool:
        return path in self._watched

    def add(self, paths: Iterable[Path]) -> None:
        """Watch these too; those that are watched already go on as they were."""
        for path in paths:
            self._watched.setdefault(path, None)

    def look(self) -> list[Path]:
        """Look at every file; return those that are gone. Errors other than that change nothing."""
        gone = list[Path]()
        for path, before in self._watched.items():
            try:
                look = FileStat.at(path)
            except (FileNotFoundError, NotADirectoryError):
                gone.append(path)
            except OSError:
                self._watched[path] = None
            else:
                self._watched[path] = self._next(before, look)
        return gone

    def forget(self, paths: Iterable[Path]) -> None:
        """Watch these no more."""
        for path in paths:
            self._watched.pop(path, None)

    def take(self, count: int, allowed: Callable[[Path], bool]) -> list[Settled]:
        """Return up to `count` files that have settled, in the order in which they came."""
        now, taken = self._clock(), list[Settled]()
        for path, watched in self._watched.items():
            if len(taken) == count:
                break
            if watched and self._is_settled(watched, now) and allowed(path):
                last_chance = now - watched.since >= self._patience_s
                taken.append(Settled(path, watched.look, last_chance))
        return taken

    def put_back(self, path: Path) -> None:
        """Wait for a file that was not ready, longer and longer while it does not change."""
        watched = self._watched.get(path)
        if watched is not None:
            wait_s = max(self._settle_s, self._clock() - watched.since)
            self._watched[path] = replace(watched, not_before=self._clock() + wait_s)

    def _next(self, before: _Watched | None, look: FileStat) -> _Watched:
        if before is None or before.look != look:
            now = self._clock()
            return _Watched(look, now, 1, now + self._settle_s)
        return replace(before, looks=before.looks + 1)

    def _is_settled(self, watched: _Watched, now: float) -> bool:
        return watched.looks >= LOOKS and now >= watched.not_before


@dataclass(frozen=True)
class SettledPreprocessor:
    """The front half of the line for files that may still be written to."""

    front: Preprocessor

    def __call__(self, item: Settled) -> Prepared | Refusal | Unsettled:
        """Read the file, if it is what had settled, before and after; and only a whole one."""
        try:
            return self._read(item)
        except (FileNotFoundError, NotADirectoryError):
            return Unsettled(item.path)  # the next look finds it gone
        except OSError as error:
            if not item.last_chance:
                return Unsettled(item.path)
            return Refusal(item.path, Code.UNREADABLE, type(error).__name__)
        except InstallationError:
            raise  # as in the front: it would cost every film
        except Exception as error:
            # As in the front: a fault of ours costs one film.
            return Refusal(item.path, Code.UNEXPECTED_ERROR, error_location(error))

    def _read(self, item: Settled) -> Prepared | Refusal | Unsettled:
        if FileStat.at(item.path) != item.look:
            return Unsettled(item.path)
        whole = is_whole(item.path)
        if not item.last_chance and (not whole or ends_in_zeros(item.path)):
            return Unsettled(item.path)
        result = self.front(item.path)
        if FileStat.at(item.path) != item.look:
            return Unsettled(item.path)
        assert not isinstance(result, Known)  # of a front that was told of none
        if isinstance(result, Prepared) and not whole:
            detail = "the file ends early"
            return Refusal(item.path, Code.TRUNCATED, detail, result.film.sha256, result.film)
        return result
