"""Letting quarantined films be read anew, each where it lies now."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hipedge.errors import Code
from hipedge.store import Queue, Store


@dataclass(frozen=True)
class Retried:
    """The quarantined files that will be read anew, and those that are gone, by id."""

    anew: tuple[int, ...]
    gone: tuple[int, ...]


def retry(store: Store, file_ids: Iterable[int] = (), code: Code | None = None) -> Retried:
    """Let quarantined files be read anew, by id, by code, or all.

    Each keeps its row, and so its place on the list, until its new attempt is recorded.
    """
    queue = Queue(store)
    found = queue.quarantined(file_ids, code)
    lying = {file_id: dict(_where_they_lie(seen)) for file_id, seen in found.items()}
    queue.requeue(lying)
    return Retried(
        tuple(file_id for file_id, places in lying.items() if places),
        tuple(file_id for file_id, places in lying.items() if not places),
    )


def _where_they_lie(seen: Mapping[Path, Path | None]) -> Iterator[tuple[Path, Path]]:
    """Yield each path at which a film was seen and still lies, or from which it was moved."""
    for path, moved_to in seen.items():
        for place in (path, moved_to):
            if place is not None and _is_file(place):
                yield path, place
                break


def _is_file(path: Path) -> bool:
    """Say whether a film may lie there. Where we may not look, the service may."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
