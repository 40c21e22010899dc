"""What the service tells of itself: its pulse, its alarms, its folders; and copies of it all."""

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
from hipedge.store.connection import BUSY_TIMEOUT_S, Connection, now_text, utc_text
from hipedge.store.rows import path_to_text


@dataclass(frozen=True)
class Heartbeat:
    """The last sign of life of `hipedge watch`."""

    pid: int
    started_at: str
    scanned_at: str
    backend: str
    backend_reason: str
    model: str
    model_status: str


@dataclass(frozen=True)
class Totals:
    """What was recorded: refusals by code, files in the last hour and day, the last success."""

    refused: Mapping[str, int]
    last_hour: int
    last_day: int
    last_screened_at: str | None


class Service:
    """The service's own rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, run_id: int) -> None:
        """Commit that a scan is complete, by the process that runs this."""
        with self._connection.transaction():
            self._connection.execute(
                "insert into service (id, pid, scanned_at, run_id) values (1, ?, ?, ?)"
                " on conflict (id) do update set pid = excluded.pid,"
                " scanned_at = excluded.scanned_at, run_id = excluded.run_id",
                [os.getpid(), now_text(), run_id],
            )

    def pulse(self) -> Heartbeat | None:
        """Return the last beat, or None where no service ever ran on this database."""
        rows = self._connection.query(
            "select pid, runs.started_at, scanned_at, backend, backend_reason,"
            " name as model, status as model_status from service"
            " join runs on runs.id = run_id join models on models.model_id = runs.model_id"
        )
        return next((Heartbeat(**row) for row in rows), None)

    def set_alarms(self, names: frozenset[str]) -> None:
        """Keep exactly these alarms, each since it was first raised."""
        with self._connection.transaction():
            for row in self._connection.query("select name from alarms"):
                if row["name"] not in names:
                    self._connection.execute("delete from alarms where name = ?", [row["name"]])
            self._connection.execute_many(
                "insert or ignore into alarms values (?, ?)",
                [(name, now_text()) for name in sorted(names)],
            )

    def alarms(self) -> dict[str, str]:
        """Return the alarms that are on, and since when."""
        rows = self._connection.query("select name, since from alarms order by since, name")
        return {row["name"]: row["since"] for row in rows}

    def mount_point(self, root: Path, present: Path) -> Path:
        """Return the mount point under which a folder was first watched: at first, `present`."""
        with self._connection.transaction():
            self._connection.execute(
                "insert or ignore into roots values (?, ?)",
                [path_to_text(root), path_to_text(present)],
            )
        rows = self._connection.query(
            "select mount_point from roots where path = ?", [path_to_text(root)]
        )
        return Path(rows[0]["mount_point"])

    def totals(self, hour_ago: datetime, day_ago: datetime) -> Totals:
        """Return what was recorded, of the newest row of each content."""
        refused = self._connection.query(
            "select code, count(*) as n from files where code is not null"
            " and id in (select max(id) from files group by coalesce(sha256, path))"
            " group by code order by n desc, code"
        )
        (row,) = self._connection.query(
            "select sum(recorded_at >= ?) as hour, sum(recorded_at >= ?) as day,"
            " max(iif(state = 'screened', recorded_at, null)) as last from files",
            [utc_text(hour_ago), utc_text(day_ago)],
        )
        return Totals(
            {one["code"]: one["n"] for one in refused},
            row["hour"] or 0,
            row["day"] or 0,
            row["last"],
        )


def backup(source: Path, target: Path) -> None:
    """Copy a database that is in use, check the copy, and only then give it its name.

    By https://www.sqlite.org/backup.html. Whoever may read the database may read the copy, and
    nobody else: both hold UIDs and paths. Raises `InputError` for a copy onto the database itself,
    and `StoreError` where the copy is not sound.
    """
    if not source.exists():
        raise StoreError(f"there is no database {source}")
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        if any(_is_of_database(path, source) for path in (target, unfinished)):
            raise InputError(
                f"{target} would overwrite the live database {source}: name another file"
            )
        unfinished.unlink(missing_ok=True)
        unfinished.touch(0o600, exist_ok=False)  # what SQLite finds keeps its mode
        uri = f"{source.absolute().as_uri()}?mode=ro"
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as live,
            closing(sqlite3.connect(unfinished)) as copy,
        ):
            live.backup(copy)
            (verdict,) = copy.execute("pragma integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(f"the copy of {source} is not sound: {verdict}")
        with unfinished.open("rb+") as file:
            os.fchmod(file.fileno(), stat.S_IMODE(source.stat().st_mode))
            os.fsync(file.fileno())
        unfinished.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{source} cannot be copied to {target}: {error}") from error


def _is_of_database(path: Path, database: Path) -> bool:
    """Say whether a path is a database, by whatever name, or a journal of it."""
    live = database.resolve()
    names = (live.name + end for end in ("", "-journal", "-wal", "-shm"))
    return path.resolve() in map(live.with_name, names) or (
        path.exists() and path.samefile(database)
    )
