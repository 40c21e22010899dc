"""One driver at a time: the lease on the folder of an archive run.

The driver writes a new number into `lock.json` every few seconds. Another one that wants the folder
watches that file: where it does not change for `LEASE_S`, its owner is dead. Only the waiting
machine's own monotonic clock counts, never a time that another machine has written, so clocks that
differ do no harm. On the owner's machine a process that no longer exists is noticed at once.

The lease saves work, it does not protect results: two drivers that were both at work, as after a
network partition, would write the same files (`hipedge.archive.folder`).
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hipedge.archive.folder import translated_disk_errors
from hipedge.errors import StoreError, StoreUnavailable
from hipedge.files import write_atomically

if TYPE_CHECKING:
    from typing_extensions import Self

BEAT_S = 5.0
LEASE_S = 30.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Owner:
    """Who holds a lease: a random token, where it runs, and a number that each beat raises.

    `started` is the start of the process in clock ticks since boot (proc(5)), since the kernel
    gives numbers of processes again.
    """

    token: str
    host: str
    boot_id: str
    pid: int
    started: int
    beat: int = 0

    @classmethod
    def here(cls) -> Owner:
        """Return this process as an owner."""
        boot_id = _BOOT_ID.read_text().strip()
        started = _started(os.getpid())
        assert started is not None
        return cls(secrets.token_hex(8), socket.gethostname(), boot_id, os.getpid(), started)

    @property
    def is_dead(self) -> bool:
        """Whether the process is certainly gone; False for processes of another machine."""
        here = (_BOOT_ID.read_text().strip(), socket.gethostname())
        if (self.boot_id, self.host) != here:
            return False
        return _started(self.pid) != self.started


class Lease:
    """The lease on a lock file; a context manager, which beats in a thread of its own."""

    def __init__(self, path: Path, *, lease_s: float = LEASE_S, beat_s: float = BEAT_S) -> None:
        """Take the lease when entered. Raises `StoreError` where a living driver holds it."""
        self._path, self._lease_s, self._beat_s = path, lease_s, beat_s
        self._owner = Owner.here()
        self._stop = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def token(self) -> str:
        """What `holds` recognises this lease by."""
        return self._owner.token

    def __enter__(self) -> Self:
        self._wait_for_owner()
        self._write(0)
        if not holds(self._path, self.token):
            raise StoreError(f"{self._path.parent} was taken by another driver just now")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._lost is None and holds(self._path, self.token):
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise `StoreError` where the lease was lost: this process was thought to be dead."""
        if self._lost is not None:
            raise StoreError(self._lost)

    def _wait_for_owner(self) -> None:
        """Return once there is no owner, or it has not beaten for `lease_s`."""
        seen, since = read_owner(self._path), time.monotonic()
        while seen is not None and not seen.is_dead:
            if time.monotonic() - since >= self._lease_s:
                return
            time.sleep(min(self._beat_s, self._lease_s) / 5)
            if (now := read_owner(self._path)) != seen:
                if now is None:
                    return
                raise StoreError(
                    f"{self._path.parent} is being written by process {now.pid} on {now.host}: wait"
                    " for it, or name another folder with --out"
                )

    def _keep(self) -> None:
        beat = 0
        while not self._stop.wait(self._beat_s):
            beat += 1
            try:
                if not holds(self._path, self.token):
                    self._lost = f"another driver has taken over {self._path.parent}"
                    return
                self._write(beat)
            except (OSError, StoreUnavailable):
                continue  # a full disk stops the actors; one that is busy may recover

    def _write(self, beat: int) -> None:
        values = asdict(self._owner) | {"beat": beat}
        with translated_disk_errors(self._path.parent):
            write_atomically(self._path, msgspec.json.encode(values))


def read_owner(path: Path) -> Owner | None:
    """Return who holds a lock file, or None where nobody does."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Owner)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise StoreError(f"{path} is no lock of an archive run: delete it ({error})") from error


def holds(path: Path, token: str) -> bool:
    """Return whether the lease with this token is the present one."""
    owner = read_owner(path)
    return owner is not None and owner.token == token


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name of the program may hold anything
    return None if fields[0] in "ZX" else int(fields[19])
