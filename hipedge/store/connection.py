"""One connection to a database: opening it durably, transactions, and translated errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from sqlite_utils import Database, Migrations
from sqlite_utils.db import Table

from hipedge.errors import StoreError, StoreUnavailable
from hipedge.files import PRIVATE
from hipedge.store.rows import Row
from hipedge.store.schema import migrations as site_migrations

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

BUSY_TIMEOUT_S = 30.0
# https://www.sqlite.org/wal.html: WAL could corrupt a database, rarely, until 3.51.3.
FIRST_SOUND_WAL = (3, 51, 3)
# The messages of SQLITE_BUSY, SQLITE_FULL and SQLITE_IOERR: Python 3.10 gives no error codes.
TRANSIENT_ERRORS = ("database is locked", "database or disk is full", "disk I/O error")


class Connection:
    """A connection to a database, closed at the end of a `with` block.

    The methods raise `StoreError` where SQLite reports an error, and `StoreUnavailable` where
    that error may pass (database locked, disk full, disk error).
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        migrations: Migrations = site_migrations,
    ) -> None:
        """Open `path`; unless `read_only`, create and migrate it as needed.

        A new database can be read by its owner alone. Where another process holds the lock,
        every statement waits for it up to `busy_timeout_s`.
        """
        self.path = path
        self._read_only = read_only
        with self._translated(), ExitStack() as on_failure:
            connection = on_failure.enter_context(
                closing(_connect(path, read_only=read_only, busy_timeout_s=busy_timeout_s))
            )
            self._db = Database(connection)
            self._db.execute("pragma foreign_keys = on")
            if not read_only:
                _set_durability(self._db)
                self._migrate(migrations)
            elif migrations.pending(self._db):
                raise StoreError(
                    f"{path} has not the schema of this version of hipedge: "
                    "run `hipedge screen` with it once, which creates or migrates it"
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

    def _migrate(self, migrations: Migrations) -> None:
        """Bring the schema up to date, in one transaction: each commit waits for the disk.

        Where there is nothing to do no lock is taken, so that other processes may write meanwhile.
        """
        if migrations.pending(self._db):
            with self.transaction():
                migrations.apply(self._db)

    def table(self, name: str) -> Table:
        """Return a table of sqlite-utils; write to it within a `transaction`."""
        with self._translated():  # sqlite-utils reads the schema here
            return self._db.table(name)

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Execute a statement; return the number of rows that it changed."""
        return int(self._db.execute(sql, list(parameters)).rowcount)

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute a statement once for each row of parameters."""
        self._db.conn.executemany(sql, rows)

    def insert(self, table: str, row: Row) -> int:
        """Insert a row; return its id.

        `Table.insert` takes ten times as long, since it reads the schema each time, and every
        film has about five rows.
        """
        names = ", ".join(row)
        cursor = self._db.execute(
            f"insert into {table} ({names}) values ({placeholders(row)})", list(row.values())
        )
        return int(cursor.lastrowid or 0)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the rows of a query as dictionaries."""
        with self._translated():
            return list(self._db.query(sql, list(parameters)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block's changes together, or roll them all back if it raises.

        The write lock is taken at the start: only there does SQLite wait for another writer.
        """
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
            transient = str(error).startswith(TRANSIENT_ERRORS)
            kind = StoreUnavailable if transient else StoreError
            raise kind(f"{self.path}: {error}") from error


def _connect(path: Path, *, read_only: bool, busy_timeout_s: float) -> sqlite3.Connection:
    if not read_only:
        # SQLite gives its journals the permissions of the database. If the file exists or cannot
        # be created, SQLite opens it or reports why not.
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
    mode = "ro" if read_only else "rwc"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=busy_timeout_s)


def _set_durability(db: Database) -> None:
    """Make commits survive a power cut: WAL where it is sound, else a rollback journal."""
    wal = sqlite3.sqlite_version_info >= FIRST_SOUND_WAL
    db.execute(f"pragma journal_mode = {'wal' if wal else 'delete'}")
    db.execute(f"pragma synchronous = {'full' if wal else 'extra'}")


def placeholders(values: Iterable[object]) -> str:
    """Return a question mark for each value, for the parameters of a statement."""
    return ", ".join("?" for _ in values)


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(timezone.utc)


def now_text() -> str:
    """Return the present time as the tables hold it."""
    return utc_text(utc_now())


def utc_moment(text: str) -> datetime:
    """Return a time of the tables, which `utc_text` wrote, with its time zone."""
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def utc_text(moment: datetime) -> str:
    """Return a time as the tables hold it: UTC in ISO 8601, so that text order is time order.

    Without a time zone it is local time.
    """
    try:
        utc = moment.astimezone(timezone.utc)
    except (OverflowError, ValueError):
        # Within a day of the calendar's first or last year, where local time cannot be converted.
        utc = moment
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
