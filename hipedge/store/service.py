"""The rows of the service itself (heartbeat, alarms, watched folders), and backups."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hipedge.errors import InputError, StoreError
from hipedge.files import PRIVATE, replacing
from hipedge.store.connection import BUSY_TIMEOUT_S, Connection, now_text, placeholders, utc_text
from hipedge.store.rows import path_from_text, path_to_text


@dataclass(frozen=True)
class Heartbeat:
    """The last completed scan of `hipedge watch`, and what it runs."""

    pid: int
    started_at: str
    scanned_at: str
    backend: str
    backend_reason: str
    model: str
    model_status: str


@dataclass(frozen=True)
class Totals:
    """Refusals by code, files recorded in the last hour and day, and the last screened film."""

    refused: Mapping[str, int]
    last_hour: int
    last_day: int
    last_screened_at: str | None


class Service:
    """The rows that `hipedge watch` writes about itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, run_id: int) -> None:
        """Record that this process has completed a scan."""
        row = {"id": 1, "pid": os.getpid(), "scanned_at": now_text(), "run_id": run_id}
        with self._connection.transaction():
            self._connection.table("service").upsert(row, pk="id")

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat, or None if no service ever ran on this database."""
        rows = self._connection.query(
            "select pid, runs.started_at, scanned_at, backend, backend_reason,"
            " name as model, status as model_status from service"
            " join runs on runs.id = run_id join models on models.model_id = runs.model_id"
        )
        return next((Heartbeat(**row) for row in rows), None)

    def set_alarms(self, names: frozenset[str]) -> None:
        """Record the alarms that are on; one that was on already keeps the time of its start."""
        with self._connection.transaction():
            alarms = self._connection.table("alarms")
            alarms.delete_where(f"name not in ({placeholders(names)})", sorted(names))
            alarms.insert_all(
                ({"name": name, "since": now_text()} for name in sorted(names)), ignore=True
            )

    def alarms(self) -> dict[str, str]:
        """Return the alarms that are on, each with the time since when."""
        rows = self._connection.query("select name, since from alarms order by since, name")
        return {row["name"]: row["since"] for row in rows}

    def mount_point(self, root: Path, present: Path) -> Path:
        """Return the mount point under which a folder was first watched, which may be `present`."""
        row = {"path": path_to_text(root), "mount_point": path_to_text(present)}
        with self._connection.transaction():
            self._connection.table("roots").insert(row, ignore=True)
        rows = self._connection.query(
            "select mount_point from roots where path = ?", [path_to_text(root)]
        )
        return path_from_text(rows[0]["mount_point"])

    def roots(self) -> list[Path]:
        """Return the folders that are or were watched."""
        rows = self._connection.query("select path from roots order by path")
        return [path_from_text(row["path"]) for row in rows]

    def totals(self, hour_ago: datetime, day_ago: datetime) -> Totals:
        """Return the totals; refusals are counted in the newest row of each content."""
        refused = self._connection.query(
            "select code, count(*) as n from files where code is not null"
            " and id in (select max(id) from files group by coalesce(content_hash, path))"
            " group by code order by n desc, code"
        )
        (row,) = self._connection.query(
            "select sum(recorded_at >= ?) as hour, sum(recorded_at >= ?) as day,"
            " max(iif(state = 'screened', recorded_at, null)) as last from files",
            [utc_text(hour_ago), utc_text(day_ago)],
        )
        return Totals(
            {refusal["code"]: refusal["n"] for refusal in refused},
            row["hour"] or 0,
            row["day"] or 0,
            row["last"],
        )


def backup(source: Path, target: Path) -> None:
    """Copy a database that is in use, check the copy, and only then rename it to `target`.

    Uses SQLite's online backup (https://www.sqlite.org/backup.html). The copy has the permissions
    of the database. Raises `InputError` if `target` is the database itself, and `StoreError` if
    the copy cannot be made or fails its integrity check.
    """
    if not source.exists():
        raise StoreError(f"there is no database {source}")
    try:
        if _is_part_of_database(target, source):
            raise InputError(
                f"{target} would overwrite the live database {source}: name another file"
            )
        with replacing(target) as partial:
            partial.touch(PRIVATE, exist_ok=False)  # SQLite keeps the mode of an existing file
            _copy(source, partial)
            with partial.open("rb+") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(source.stat().st_mode))
                os.fsync(file.fileno())
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{source} cannot be copied to {target}: {error}") from error


def _copy(source: Path, target: Path) -> None:
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
        (verdict,) = copy.execute("pragma integrity_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"the copy of {source} is damaged: {verdict}")


def _is_part_of_database(path: Path, database: Path) -> bool:
    """Return whether a path is a database, under any name, or one of its journals."""
    live = database.resolve()
    names = (live.name + suffix for suffix in ("", "-journal", "-wal", "-shm"))
    return path.resolve() in map(live.with_name, names) or (
        path.exists() and path.samefile(database)
    )
