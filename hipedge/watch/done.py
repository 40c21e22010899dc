"""Moving finished films out of the way, where the site wants it: after their commit, by rename."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from hipedge.errors import ConfigError
from hipedge.store import Finished, Queue
from hipedge.watch.logging import event
from hipedge.watch.settle import FileStat


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
        films, targets, taken = list(finished), dict[Path, Path](), set[Path]()
        errors = list[OSError]()
        for one in films:
            try:
                targets[one.path] = self._target(one, taken, queue)
            except OSError as error:
                errors.append(error)
        if targets:
            queue.move(targets)
        for one in films:
            try:
                if one.path in targets and FileStat.at(one.path).signature == one.signature:
                    targets[one.path].parent.mkdir(parents=True, exist_ok=True)
                    one.path.rename(targets[one.path])
            except OSError as error:
                errors.append(error)
        for failed in errors:
            event(logging.WARNING, "not_moved", error=type(failed).__name__)
        return not errors

    def _target(self, one: Finished, taken: set[Path], queue: Queue) -> Path:
        """Return where a film was about to go, or else a name that nothing has, or had.

        What a site has taken away from here keeps its name in the database. Raises `OSError`.
        """
        if one.moved_to is not None and not _exists(one.moved_to):
            return one.moved_to
        root = next(root for root in self._roots if one.path.is_relative_to(root))
        wanted = self._folder / one.path.relative_to(root)
        names = (
            wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            for number in count(1)
        )
        target = next(
            name
            for name in names
            if name not in taken and not _exists(name) and not queue.knows(name)
        )
        taken.add(target)
        return target


def _exists(path: Path) -> bool:
    """Say whether there is anything of this name; `Path.exists` follows links."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True
