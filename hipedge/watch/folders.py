"""The watched folders: scanning them, and whether their file systems are mounted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hipedge.errors import InputError, StoreError
from hipedge.mounts import MOUNT_INFO, mount_of
from hipedge.pipeline.discover import can_list, discover
from hipedge.types import Refusal
from hipedge.watch.settle import FileStat


def refuse_network(db: Path, mount_info: Path = MOUNT_INFO) -> None:
    """Raise `StoreError` for a database on a network file system."""
    mount = mount_of(db.absolute().parent, mount_info)
    if mount.is_network:
        raise StoreError(
            f"{db} would lie on {mount.type}, whose locks SQLite cannot rely on: "
            "choose a folder on a local disk"
        )


@dataclass
class Scan:
    """The result of one scan of all folders; `missing` are those that could not be scanned."""

    found: dict[Path, FileStat] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)


class Folders:
    """The watched folders.

    `mount_point` is called once for each folder, with the folder and its present mount point, and
    returns the mount point under which it was first watched. Raises `InputError` for a folder
    that does not exist.
    """

    def __init__(
        self,
        roots: Iterable[Path],
        mount_point: Callable[[Path, Path], Path],
        mount_info: Path = MOUNT_INFO,
    ) -> None:
        self.roots = tuple(dict.fromkeys(root.absolute() for root in roots))
        self._mount_info = mount_info
        for root in self.roots:
            if not root.is_dir():
                raise InputError(f"no such folder: {root}")
        self._mount_points = {
            root: mount_point(root, mount_of(root, mount_info).point) for root in self.roots
        }

    @property
    def are_remote(self) -> bool:
        """Whether one of them is on a network file system, whose changes may cause no events."""
        return any(mount_of(root, self._mount_info).is_network for root in self.roots)

    def missing(self) -> list[Path]:
        """Return the folders that do not exist, or whose file system is not mounted.

        The mount point of an unmounted file system is usually an empty folder, which must not be
        mistaken for a watched folder without files.
        """
        return [root for root in self.roots if not self._is_present(root)]

    def _is_present(self, root: Path) -> bool:
        if not can_list(root):  # stat(2) succeeds on a stale NFS handle
            return False
        return mount_of(root, self._mount_info).point == self._mount_points[root]

    def scan(self) -> Scan:
        """Scan the folders that are present, recursively."""
        scan = Scan(missing=self.missing())
        present = [root for root in self.roots if root not in scan.missing]
        for root in present:
            try:
                discovered = discover([root])
            except InputError:
                scan.missing.append(root)
                continue
            scan.found.update(_stats(discovered.files))
            scan.refusals.extend(discovered.refusals)
        return scan


def _stats(paths: Iterable[Path]) -> Iterator[tuple[Path, FileStat]]:
    for path in paths:
        try:
            yield path, FileStat.at(path)
        except OSError:
            continue  # removed since it was listed
