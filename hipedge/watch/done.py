"""Moving finished films out of the way, where the site wants it: after their commit, by rename."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from hipedge.errors import ConfigError
from hipedge.store import Finished, Queue
from hipedge.watch.journal import event
from hipedge.watch.settle import Look


class DoneDir:
    """A folder on the same file system, outside the watched ones; nothing in it is overwritten."""

    def __init__(self, folder: Path, roots: Sequence[Path]) -> None:
        self._folder = folder.resolve()
        self._roots = [root.resolve() for root in roots]
        if not self._folder.is_dir():
            raise ConfigError(f"done_dir is no folder: {folder}")
        for root in self._roots:
            if self._folder.is_relative_to(root) or root.is_relative_to(self._folder):
                raise ConfigError(f"done_dir must lie outside the watched folder {root}")
            if self._folder.stat().st_dev != root.stat().st_dev:
                raise ConfigError(f"done_dir must be on the file system of {root}, to rename there")

    def move(self, finished: Iterable[Finished], queue: Queue) -> bool:
        """Move films; return whether that went well.

        Where each goes is committed before: a crash in between leaves nothing to search for.
        """
        films = list(finished)
        taken = {one.moved_to for one in films}
        targets = {one.path: one.moved_to or self._free_name(one.path, taken) for one in films}
        if targets:
            queue.move(targets)
        failures = 0
        for one in films:
            try:
                if Look.at(one.path).signature == one.signature:
                    targets[one.path].parent.mkdir(parents=True, exist_ok=True)
                    one.path.rename(targets[one.path])
            except OSError as error:
                failures += 1
                event(logging.WARNING, "not_moved", error=type(error).__name__)
        return failures == 0

    def _free_name(self, path: Path, taken: set[Path | None]) -> Path:
        root = next(root for root in self._roots if path.is_relative_to(root))
        wanted = self._folder / path.relative_to(root)
        names = (
            wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            for number in count(1)
        )
        target = next(name for name in names if name not in taken and not name.exists())
        taken.add(target)
        return target
