"""Moving finished films to the site's `done_dir`: by rename, after the results are committed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from hipedge.errors import ConfigError
from hipedge.service_log import event
from hipedge.store.queue import Finished, Queue
from hipedge.watch.settle import FileStat


class DoneDir:
    """A folder outside the watched ones, on the same file system. No file in it is overwritten.

    Raises `ConfigError` for a folder that cannot serve.
    """

    def __init__(self, folder: Path, roots: Sequence[Path]) -> None:
        self._folder = folder.resolve()
        self._roots = [root.resolve() for root in roots]
        if not self._folder.is_dir():
            raise ConfigError(f"done_dir is not a folder: {folder}")
        for root in self._roots:
            if self._folder.is_relative_to(root) or root.is_relative_to(self._folder):
                raise ConfigError(f"done_dir must lie outside the watched folder {root}")
            if self._folder.stat().st_dev != root.stat().st_dev:
                raise ConfigError(
                    f"done_dir must be on the file system of {root}, as films are renamed"
                )

    def move(self, finished: Iterable[Finished], queue: Queue) -> bool:
        """Move films; return whether all could be moved.

        The targets are committed before, so that no film is lost sight of in a crash.
        """
        films, targets, taken = list(finished), dict[Path, Path](), set[Path]()
        errors = list[OSError]()
        for film in films:
            try:
                targets[film.path] = self._target(film, taken, queue)
            except OSError as error:
                errors.append(error)
        if targets:
            queue.record_moves(targets)
        for film in films:
            try:
                if film.path in targets and FileStat.at(film.path).signature == film.signature:
                    targets[film.path].parent.mkdir(parents=True, exist_ok=True)
                    film.path.rename(targets[film.path])
            except OSError as error:
                errors.append(error)
        for failure in errors:
            event(logging.WARNING, "move_failed", error=type(failure).__name__)
        return not errors

    def _target(self, film: Finished, taken: set[Path], queue: Queue) -> Path:
        """Return the target of an interrupted move, or else a new name.

        A new name is one that no file has and that no recorded film has had: names of films that
        the site has removed from here are not reused. Raises `OSError`.
        """
        if film.moved_to is not None and not _exists(film.moved_to):
            return film.moved_to
        root = next(root for root in self._roots if film.path.is_relative_to(root))
        wanted = self._folder / film.path.relative_to(root)
        names = (
            wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            for number in count(1)
        )
        target = next(
            name
            for name in names
            if name not in taken and not _exists(name) and not queue.has_path(name)
        )
        taken.add(target)
        return target


def _exists(path: Path) -> bool:
    """Return whether anything has this name, a broken link included. Raises `OSError`."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True
