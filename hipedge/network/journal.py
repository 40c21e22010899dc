"""What has been fetched, as lines of a file, so that an interrupted back-fill goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hipedge.errors import InputError
from hipedge.files import private_opener

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

INSTANCE, STUDY = "instance", "study"


class Journal:
    """A file of lines: `instance UID`, and `study UID COUNT` for a study that was fetched whole.

    A line counts once its end is on the disk. A film that was kept without its line, because the
    process was killed between, is fetched again, and `watch` records it as a duplicate.
    """

    def __init__(self, path: Path) -> None:
        """Read the file, if it exists. Raises `InputError`."""
        self._instances = set[str]()
        self._studies = dict[str, str]()
        try:
            self._file = os.fdopen(
                private_opener(str(path), os.O_RDWR | os.O_CREAT), "r+b", buffering=0
            )
            data = self._file.readall()
            whole = data.rfind(b"\n") + 1
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as error:
            raise InputError(f"{path} cannot be used: {error.strerror}") from error
        for line in data[:whole].decode("ascii", "replace").splitlines():
            kind, _, rest = line.partition(" ")
            if kind == INSTANCE:
                self._instances.add(rest)
            elif kind == STUDY:
                uid, _, count = rest.partition(" ")
                self._studies[uid] = count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def has_instance(self, uid: str) -> bool:
        """Return whether an instance has been fetched."""
        return uid in self._instances

    def has_study(self, uid: str, count: int) -> bool:
        """Return whether a study was fetched whole when it had so many instances."""
        return self._studies.get(uid) == str(count)

    def add_instance(self, uid: str) -> None:
        """Note that an instance has been fetched."""
        self._instances.add(uid)
        self._append(f"{INSTANCE} {uid}")

    def add_study(self, uid: str, count: int) -> None:
        """Note that a study of so many instances has been fetched whole."""
        self._studies[uid] = str(count)
        self._append(f"{STUDY} {uid} {count}")

    def _append(self, line: str) -> None:
        self._file.write(f"{line}\n".encode("ascii"))
        os.fsync(self._file.fileno())
