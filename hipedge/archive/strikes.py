"""Films that kill what reads them.

A film that kills its worker process is quarantined by `hipedge.pipeline.workers`. What is left is a
film, or whatever else, that takes the whole reader with it: Ray starts another reader, which would
die of it again, for ever. So a shard that was begun before and not finished is read film by film,
with a note on the disk of the film at hand. A film that was at hand at two deaths, after the death
in which the shard was begun first, has killed its reader three times: it is quarantined unread.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hipedge.files import PRIVATE

NOTED_DEATHS = 2


class Strikes:
    """The notes of one shard: how often it was begun, and which films were at hand at a death."""

    def __init__(self, folder: Path, shard: int) -> None:
        self._begun = folder / f"shard-{shard:07d}.begun"
        self._films = folder / f"shard-{shard:07d}.films"

    def begin(self) -> bool:
        """Note that the shard is being read; return whether it was begun before."""
        return _append(self._begun, b".") > 1

    @contextmanager
    def at_hand(self, film: int) -> Iterator[None]:
        """Note on the disk that a film of the shard is at hand, as long as the block runs."""
        _append(self._films, f"+{film}\n".encode())
        yield
        _append(self._films, f"-{film}\n".encode())

    def quarantined(self) -> frozenset[int]:
        """Return the films that are not to be read again."""
        try:
            notes = self._films.read_text().split()
        except FileNotFoundError:
            return frozenset()
        begun, ended = Counter[str](), Counter[str]()
        for note in notes:
            (begun if note[0] == "+" else ended)[note[1:]] += 1
        return frozenset(int(film) for film in begun if begun[film] - ended[film] >= NOTED_DEATHS)

    def forget(self) -> None:
        """Remove the notes: the shard is done."""
        for path in (self._begun, self._films):
            path.unlink(missing_ok=True)


def _append(path: Path, note: bytes) -> int:
    """Append to a file; return its size. Not synced: what dies is a process, not the machine."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
    try:
        os.write(descriptor, note)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
