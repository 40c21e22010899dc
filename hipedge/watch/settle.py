"""When a file is read: after it has not changed for a while, by a monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from hipedge.dicom.whole import ends_in_zeros, is_whole
from hipedge.errors import Code, InstallationError
from hipedge.pipeline.fork_server import SCREENING
from hipedge.pipeline.preprocess import error_location
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.types import Known, Refusal

# The least number of checks of a file before it is read.
MIN_CHECKS = 3


@dataclass(frozen=True)
class FileStat:
    """The metadata of a file, which changes with its content."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def at(cls, path: Path) -> FileStat:
        """Read the metadata of a file. Raises `OSError`."""
        status = path.stat()
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    @property
    def signature(self) -> str:
        """The text that identifies the content in the database.

        It leaves out the device, whose number may change whenever the file system is mounted.
        """
        return f"{self.inode}:{self.size}:{self.mtime_ns}:{self.ctime_ns}"


@dataclass(frozen=True)
class Settled:
    """A file that has settled, with its metadata then; `last_chance` if it may wait no longer."""

    path: Path
    stat: FileStat
    last_chance: bool


@dataclass(frozen=True)
class Unsettled:
    """A file that has changed since it had settled, or is incomplete: it must settle again."""

    source: Path


@dataclass(frozen=True)
class _Watched:
    stat: FileStat
    since: float
    checks: int
    not_before: float


class Settling:
    """The unfinished files, and since when each has not changed.

    A file settles when it has not changed for `settle_s`. A file that ends early, or in zeros, may
    take `patience_s` from its last change to be completed.
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

    def __contains__(self, path: Path) -> bool:
        return path in self._watched

    def add(self, paths: Iterable[Path]) -> None:
        """Watch these files; those that are watched already keep their times."""
        for path in paths:
            self._watched.setdefault(path, None)

    def check(self) -> list[Path]:
        """Check every file for changes; return those that do not exist.

        Any other error restarts the time of a file.
        """
        missing = list[Path]()
        for path, before in self._watched.items():
            try:
                stat = FileStat.at(path)
            except (FileNotFoundError, NotADirectoryError):
                missing.append(path)
            except OSError:
                self._watched[path] = None
            else:
                self._watched[path] = self._next(before, stat)
        return missing

    def forget(self, paths: Iterable[Path]) -> None:
        """Stop watching these files."""
        for path in paths:
            self._watched.pop(path, None)

    def settled(self, count: int, allowed: Callable[[Path], bool]) -> list[Settled]:
        """Return up to `count` allowed files that have settled, in the order of discovery."""
        now, settled = self._clock(), list[Settled]()
        for path, watched in self._watched.items():
            if len(settled) == count:
                break
            if watched and self._is_settled(watched, now) and allowed(path):
                last_chance = now - watched.since >= self._patience_s
                settled.append(Settled(path, watched.stat, last_chance))
        return settled

    def postpone(self, path: Path) -> None:
        """Wait for a file that was not ready, each time longer unless it changes."""
        watched = self._watched.get(path)
        if watched is not None:
            wait_s = max(self._settle_s, self._clock() - watched.since)
            self._watched[path] = replace(watched, not_before=self._clock() + wait_s)

    def _next(self, before: _Watched | None, stat: FileStat) -> _Watched:
        if before is None or before.stat != stat:
            now = self._clock()
            return _Watched(stat, now, 1, now + self._settle_s)
        return replace(before, checks=before.checks + 1)

    def _is_settled(self, watched: _Watched, now: float) -> bool:
        return watched.checks >= MIN_CHECKS and now >= watched.not_before


@dataclass(frozen=True)
class SettledPreprocessor:
    """A preprocessor for files that may still be written to."""

    imports: ClassVar[tuple[str, ...]] = (__name__, *SCREENING)

    preprocessor: Preprocessor

    def __call__(self, item: Settled) -> Prepared | Refusal | Unsettled:
        """Preprocess a file that is complete and has not changed, neither before nor meanwhile."""
        try:
            return self._read(item)
        except (FileNotFoundError, NotADirectoryError):
            return Unsettled(item.path)  # the next check reports it as missing
        except OSError as error:
            if not item.last_chance:
                return Unsettled(item.path)
            return Refusal(item.path, Code.UNREADABLE, type(error).__name__)
        except InstallationError:
            raise  # it concerns every film, as in `Preprocessor`
        except Exception as error:
            # As in `Preprocessor`, a fault of hipedge costs no other film.
            return Refusal(item.path, Code.UNEXPECTED_ERROR, error_location(error))

    def _read(self, item: Settled) -> Prepared | Refusal | Unsettled:
        if FileStat.at(item.path) != item.stat:
            return Unsettled(item.path)
        whole = is_whole(item.path)
        if not item.last_chance and (not whole or ends_in_zeros(item.path)):
            return Unsettled(item.path)
        result = self.preprocessor(item.path)
        if FileStat.at(item.path) != item.stat:
            return Unsettled(item.path)
        assert not isinstance(result, Known)  # this preprocessor knows no contents
        if isinstance(result, Prepared) and not whole:
            detail = "the file ends early"
            film = result.film
            return Refusal(
                item.path, Code.TRUNCATED, detail, film.content_hash, film, sha256=film.sha256
            )
        return result
