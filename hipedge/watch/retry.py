"""Queueing quarantined films to be read again, each at its present path."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hipedge.errors import Code
from hipedge.store.queue import Queue
from hipedge.store.store import Store


@dataclass(frozen=True)
class RetryResult:
    """The ids of the quarantined files that were queued, and of those that no longer exist."""

    queued: tuple[int, ...]
    missing: tuple[int, ...]


def retry(store: Store, file_ids: Iterable[int] = (), code: Code | None = None) -> RetryResult:
    """Queue quarantined files to be read again: all, or those with these ids and this code.

    Each keeps its row, and thus its place on the worklist, until the new attempt is recorded.
    """
    queue = Queue(store)
    quarantined = queue.quarantined(file_ids, code)
    current = {file_id: dict(_existing(paths)) for file_id, paths in quarantined.items()}
    queue.requeue(current)
    return RetryResult(
        tuple(file_id for file_id, paths in current.items() if paths),
        tuple(file_id for file_id, paths in current.items() if not paths),
    )


def _existing(paths: Mapping[Path, Path | None]) -> Iterator[tuple[Path, Path]]:
    """Yield each path whose film exists, and where the film is: there, or moved from there."""
    for path, moved_to in paths.items():
        for place in (path, moved_to):
            if place is not None and _may_be_file(place):
                yield path, place
                break


def _may_be_file(path: Path) -> bool:
    """Return whether a path is a file, or may be one for a user with other permissions."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
