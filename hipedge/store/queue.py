"""The queue of `hipedge watch`: one row and one state for each path, from discovery to its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hipedge.errors import Code
from hipedge.store.connection import Connection, now_text, placeholders, utc_text
from hipedge.store.rows import path_from_text, path_to_text
from hipedge.store.states import TERMINAL, PathState

UNFINISHED = tuple(state.value for state in PathState if state not in TERMINAL)
_UNFINISHED = f"({placeholders(UNFINISHED)})"
# The newest row of each content, among rows of other models and pipeline versions.
_NEWEST = "select max(id) from files group by coalesce(content_hash, path)"


@dataclass(frozen=True)
class Finished:
    """A path whose film has its result. `moved_to` is where it was moved, or is to be moved."""

    path: Path
    signature: str
    moved_to: Path | None


class Queue:
    """The states of paths, kept in the database alone. A `signature` identifies a path's content.

    Each method is one transaction, and raises `StoreError` for a transition between states that
    is not in `TRANSITIONS`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def observe(self, found: Mapping[Path, str]) -> None:
        """Record a scan's paths and signatures: new paths, and finished paths with new content."""
        rows = [(path_to_text(path), signature) for path, signature in found.items()]
        db = self._connection
        with db.transaction():
            db.execute("create temp table if not exists found (path text primary key, signature)")
            db.execute("delete from found")
            db.execute_many("insert into found values (?, ?)", rows)
            db.execute(
                "insert into paths (path, attempts, seen_at, arrived_at, state, signature)"
                " select path, 0, ?1, ?1, 'seen', signature from found"
                " where path not in (select path from paths)",
                [now_text()],
            )
            db.execute(
                "update paths set state = 'seen', signature = found.signature, seen_at = ?,"
                " arrived_at = ?, attempts = 0, file_id = null, moved_to = null from found"
                " where found.path = paths.path and paths.signature is not found.signature"
                f" and paths.state not in {_UNFINISHED}",
                [*[now_text()] * 2, *UNFINISHED],
            )

    def unfinished(self) -> dict[Path, int]:
        """Return the unfinished paths, in the order of discovery, and their numbers of attempts."""
        rows = self._connection.query(
            f"select path, attempts from paths where state in {_UNFINISHED} order by rowid",
            UNFINISHED,
        )
        return {path_from_text(row["path"]): row["attempts"] for row in rows}

    def mark_settling(self, paths: Iterable[Path]) -> None:
        """Record that these paths are watched until they have stopped changing."""
        self._update(paths, "state = 'settling'", "state = 'seen'")

    def release(self, paths: Iterable[Path]) -> None:
        """Give back claims on these paths, and do not count their attempts."""
        change = "state = 'settling', attempts = max(0, attempts - 1)"
        self._update(paths, change, "state = 'claimed'")

    def mark_vanished(self, paths: Iterable[Path]) -> None:
        """Record that these paths are gone, where they are unfinished."""
        change = "state = 'vanished', signature = null"
        self._update(paths, change, f"state in {_UNFINISHED}", UNFINISHED)

    def finished(self, found: Mapping[Path, str]) -> list[Finished]:
        """Return the paths of the last `observe` that are finished and have not changed since."""
        rows = self._connection.query(
            "select paths.path, paths.signature, moved_to from found join paths using (path)"
            " where paths.signature = found.signature and file_id is not null"
            f" and paths.state not in {_UNFINISHED}",
            UNFINISHED,
        )
        return [
            Finished(
                path_from_text(row["path"]),
                row["signature"],
                path_from_text(row["moved_to"]) if row["moved_to"] else None,
            )
            for row in rows
        ]

    def record_moves(self, targets: Mapping[Path, Path]) -> None:
        """Commit where finished films will be moved, so that a crash in between loses none."""
        rows = [(path_to_text(target), path_to_text(path)) for path, target in targets.items()]
        with self._connection.transaction():
            self._connection.execute_many("update paths set moved_to = ? where path = ?", rows)
            # Not of an earlier content of this path: that was overwritten, not moved.
            self._connection.execute_many(
                "update files set path = ?1 where path = ?2 and (content_hash is null or id ="
                " (select file_id from paths where path = ?2))",
                rows,
            )

    def has_path(self, path: Path) -> bool:
        """Return whether a film was ever recorded at this path, or is to be moved there."""
        text = path_to_text(path)
        return bool(
            self._connection.query(
                "select 1 from files where path = ? union all select 1 from paths where path = ?"
                " union all select 1 from paths where moved_to = ? limit 1",
                [text, text, text],
            )
        )

    def counts(self) -> dict[PathState, int]:
        """Return the number of paths by state."""
        rows = self._connection.query("select state, count(*) as n from paths group by state")
        return {PathState(row["state"]): row["n"] for row in rows}

    def quarantined(
        self, file_ids: Iterable[int] = (), code: Code | None = None
    ) -> dict[int, dict[Path, Path | None]]:
        """Return the quarantined files with these ids and this code, or all of them, by id.

        Each comes with the paths at which it was found, and where it was moved from there; paths
        that hold another content by now are left out.
        """
        ids = list(file_ids)
        by_id = f"id in ({placeholders(ids)})" if ids else "1"
        chosen = (
            f"select id from files where id in ({_NEWEST})"
            f" and state = 'quarantined' and {by_id} and (? is null or code = ?)"
        )
        parameters = [*ids, *[code.value if code else None] * 2]
        found = dict[int, dict[Path, Path | None]]()
        for row in self._connection.query(f"{chosen} order by id", parameters):
            found[row["id"]] = {}
        rows = self._connection.query(
            f"select file_id, path, moved_to from paths where file_id in ({chosen})"
            f" union all select id, path, null from files where id in ({chosen})"
            " and not exists (select 1 from paths where paths.path = files.path)"
            " and not exists (select 1 from paths where moved_to = files.path)",
            parameters * 2,
        )
        for row in rows:
            moved_to = path_from_text(row["moved_to"]) if row["moved_to"] else None
            found.setdefault(row["file_id"], {})[path_from_text(row["path"])] = moved_to
        return found

    def requeue(self, current: Mapping[int, Mapping[Path, Path]]) -> None:
        """Queue quarantined files, by id: each path of a file, and where the file is now."""
        rows = [
            (file_id, path_to_text(path), path_to_text(place))
            for file_id, places in current.items()
            for path, place in places.items()
        ]
        db = self._connection
        with db.transaction():
            for file_id, path, place in rows:
                db.execute(
                    "update or ignore paths set path = ?, state = 'seen', signature = null,"
                    " attempts = 0, moved_to = null where path = ? and file_id = ?"
                    f" and state not in {_UNFINISHED}",
                    [place, path, file_id, *UNFINISHED],
                )
                db.execute(
                    "insert or ignore into paths (path, file_id, attempts, seen_at, state)"
                    " values (?, ?, 0, ?, 'seen')",
                    [place, file_id, now_text()],
                )
                db.execute("update or ignore files set path = ? where id = ?", [place, file_id])

    def unread(self) -> list[Path]:
        """Return the quarantined paths of which no byte was read, folders among them."""
        rows = self._connection.query(
            "select path from files where content_hash is null and state = 'quarantined'"
            " order by id"
        )
        return [path_from_text(row["path"]) for row in rows]

    def withdraw(self, folders: Iterable[Path]) -> None:
        """Remove the refusals of folders that can be listed by now: their films have own rows."""
        rows = [(path_to_text(folder),) for folder in folders]
        with self._connection.transaction():
            self._connection.execute_many(
                "delete from paths where file_id in"
                " (select id from files where path = ? and content_hash is null)",
                rows,
            )
            self._connection.execute_many(
                "delete from files where path = ? and content_hash is null", rows
            )

    def prune(self, older_than: datetime) -> int:
        """Remove results recorded before a time, with their hips; return how many.

        A file that is unfinished or has an undelivered notification stays. The paths stay too, so
        that films that still lie there are not screened again.
        """
        db = self._connection
        with db.transaction():
            old = (
                "select id from files where recorded_at < ? and id not in"
                " (select file_id from outbox where delivered_at is null) and id not in"
                f" (select file_id from paths where file_id is not null and state in {_UNFINISHED})"
            )
            parameters = [utc_text(older_than), *UNFINISHED]
            db.execute(
                f"update files set duplicate_of = null where duplicate_of in ({old})", parameters
            )
            return db.execute(f"delete from files where id in ({old})", parameters)

    def _update(
        self, paths: Iterable[Path], change: str, condition: str, parameters: Sequence[str] = ()
    ) -> None:
        rows = [(path_to_text(path), *parameters) for path in paths]
        if rows:
            sql = f"update paths set {change} where path = ? and {condition}"
            with self._connection.transaction():
                self._connection.execute_many(sql, rows)
