"""One connection to a database: how it is opened, and its errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from sqlite_utils import Database

from hipedge.errors import StoreError, StoreUnavailable
from hipedge.store.rows import Row
from hipedge.store.schema import migrations

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

BUSY_TIMEOUT_S = 30.0
# https://www.sqlite.org/wal.html: WAL could corrupt a database, rarely, until 3.51.3.
FIRST_SOUND_WAL = (3, 51, 3)
# SQLITE_BUSY, SQLITE_FULL and SQLITE_IOERR in SQLite's own words: Python 3.10 gives no codes.
PASSING = ("database is locked", "database or disk is full", "disk I/O error")


class Connection:
    """A database, opened by `with`. Every method raises `StoreError` where SQLite refuses."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open `path`, creating and migrating it unless `read_only`."""
        self.path = path
        self._read_only = read_only
        with self._translated(), ExitStack() as on_failure:
            connection = on_failure.enter_context(closing(_connect(path, read_only=read_only)))
            self._db = Database(connection)
            self._db.execute("pragma foreign_keys = on")
            if not read_only:
                _set_durability(self._db)
                migrations.apply(self._db)
            elif migrations.pending(self._db):
                raise StoreError(
                    f"{path} was not made by this version of hipedge: "
                    "`hipedge screen` with it, once, makes or migrates it"
                )
            on_failure.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement; return how many rows it changed."""
        return int(self._db.execute(sql, list(parameters)).rowcount)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each row of parameters."""
        self._db.conn.executemany(sql, rows)

    def insert(self, table: str, row: Row) -> int:
        """Insert a row; return its id."""
        names = ", ".join(row)
        slots = ", ".join("?" * len(row))
        cursor = self._db.execute(
            f"insert into {table} ({names}) values ({slots})", list(row.values())
        )
        return int(cursor.lastrowid or 0)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the rows of a query, by column."""
        with self._translated():
            return list(self._db.query(sql, list(parameters)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take the write lock at the start: SQLite waits for a lock only there."""
        with self._translated():
            self._db.execute("begin immediate")
            try:
                yield
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            passing = str(error).startswith(PASSING)
            raise (StoreUnavailable if passing else StoreError)(f"{self.path}: {error}") from error


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rwc"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)


def _set_durability(db: Database) -> None:
    """Make a commit survive a power cut: WAL where it is sound, a rollback journal elsewhere."""
    wal = sqlite3.sqlite_version_info >= FIRST_SOUND_WAL
    db.execute(f"pragma journal_mode = {'wal' if wal else 'delete'}")
    db.execute(f"pragma synchronous = {'full' if wal else 'extra'}")


def now_text() -> str:
    """Return the present moment as the tables hold it: UTC, in an order that sorts."""
    return utc_text(datetime.now(timezone.utc))


def utc_text(moment: datetime) -> str:
    """Return a moment as the tables hold it; without a time zone it is local time."""
    try:
        utc = moment.astimezone(timezone.utc)
    except (OverflowError, ValueError):
        # Within a day of the calendar's first or last year, where local time cannot be converted.
        utc = moment
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
