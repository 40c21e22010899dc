"""Databases as hipedge 0.2 left them, which named contents by SHA-256."""

import hashlib
import sqlite3
from contextlib import closing

from sqlite_utils import Database

from hipedge.dicom.read import Payload
from hipedge.store import accounts, schema, studies
from hipedge.store.connection import Connection

MIGRATION = "name_contents_by_blake3"
MIGRATIONS = {"site": schema.migrations, "web": accounts.migrations, "study": studies.migrations}


def make_old(db, files, kind="site"):
    """Replace a database by one of the schema before, with the same rows.

    Contents have the names that they had then: the SHA-256 of `files`.
    """
    data = [path.read_bytes() for path in files if path.is_file()]
    names = {Payload(one).content_hash: hashlib.sha256(one).hexdigest() for one in data}
    new = db.with_name("new")
    with Connection(db, migrations=MIGRATIONS[kind]) as made:
        made.query("pragma wal_checkpoint(truncate)")
    db.rename(new)
    old = Database(db)
    MIGRATIONS[kind].apply(old, stop_before=MIGRATION)
    with closing(old.conn):
        old.conn.create_function("old_name", 1, lambda name: name and names[name])
        old.execute("attach ? as new", [str(new)])
        for table in old.table_names():
            columns = [column.name for column in old[table].columns]
            values = ", ".join("old_name(content_hash)" if c == "sha256" else c for c in columns)
            if table not in ("_sqlite_migrations", "transitions"):
                old.execute(
                    f"insert into {table} ({', '.join(columns)}) select {values} from new.{table}"
                )
        old.conn.commit()
    new.unlink()
    return names


def rows(db, sql):
    """Return rows of a database, whatever its schema."""
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchall()
