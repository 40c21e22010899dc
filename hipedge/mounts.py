"""On which file system a path lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MOUNT_INFO = Path("/proc/self/mountinfo")
# SQLite cannot rely on their locks (https://www.sqlite.org/lockingv3.html, 6.0), and the kernel
# reports no event for a change that another machine makes.
NETWORK_FILE_SYSTEMS = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|ncpfs|ocfs2|gfs2|davfs"
    r"|fuse\.(sshfs|glusterfs|ceph|s3fs|rclone|davfs|smbnetfs)|fuse\.cephfs"
)


@dataclass(frozen=True)
class Mount:
    """The mount point and type of a file system."""

    point: Path
    type: str

    @property
    def is_network(self) -> bool:
        """Whether the file system is on another machine."""
        return NETWORK_FILE_SYSTEMS.fullmatch(self.type) is not None


def mount_of(path: Path, mount_info: Path = MOUNT_INFO) -> Mount:
    """Return the file system of `path`, which need not exist (proc(5), mountinfo)."""
    path = path.resolve()
    found = Mount(Path("/"), "unknown")
    for line in mount_info.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        point = Path(_unescaped(left.split()[4]))
        if path.is_relative_to(point) and len(point.parts) >= len(found.point.parts):
            found = Mount(point, right.split()[0])
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
