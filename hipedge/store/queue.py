"""The paths of a watched folder, from first sight to their end: one row each, one state each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hipedge.errors import Code
from hipedge.store.connection import Connection, now_text, utc_text
from hipedge.store.rows import path_from_text, path_to_text
from hipedge.store.states import TERMINAL, PathState

UNFINISHED = tuple(state.value for state in PathState if state not in TERMINAL)


@dataclass(frozen=True)
class Finished:
    """A path whose film has its result; `moved_to` is where it goes, or went."""

    path: Path
    signature: str
    moved_to: Path | None


class Queue:
    """What is to be done, kept in the database alone. `signature` stands for a path's content.

    Each method is one transaction. An impossible step between states raises `StoreError`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def see(self, found: Mapping[Path, str]) -> None:
        """Note what a scan found: new paths, and finished ones whose content is another now."""
        rows = [(path_to_text(path), signature) for path, signature in found.items()]
        db = self._connection
        with db.transaction():
            db.execute("create temp table if not exists found (path text primary key, signature)")
            db.execute("delete from found")
            db.execute_many("insert into found values (?, ?)", rows)
            db.execute(
                "insert into paths (path, attempts, seen_at, state, signature)"
                " select path, 0, ?, 'seen', signature from found"
                " where path not in (select path from paths)",
                [now_text()],
            )
            db.execute(
                "update paths set state = 'seen', signature = found.signature, seen_at = ?,"
                " attempts = 0, file_id = null, moved_to = null from found"
                " where found.path = paths.path and paths.signature is not found.signature"
                f" and paths.state not in ({_slots(UNFINISHED)})",
                [now_text(), *UNFINISHED],
            )

    def unfinished(self) -> dict[Path, int]:
        """Return the paths that have no end yet, first seen first, and how often each was tried."""
        rows = self._connection.query(
            f"select path, attempts from paths where state in ({_slots(UNFINISHED)})"
            " order by rowid",
            UNFINISHED,
        )
        return {path_from_text(row["path"]): row["attempts"] for row in rows}

    def settle(self, paths: Iterable[Path]) -> None:
        """Note that these paths have been seen again, and are watched until they stay the same."""
        self._move(paths, "state = 'settling'", "state = 'seen'")

    def release(self, paths: Iterable[Path]) -> None:
        """Take claims back, as if they had not been tried."""
        change = "state = 'settling', attempts = max(0, attempts - 1)"
        self._move(paths, change, "state = 'claimed'")

    def vanish(self, paths: Iterable[Path]) -> None:
        """Note that these paths are gone, if they have no end yet."""
        change = "state = 'vanished', signature = null"
        self._move(paths, change, f"state in ({_slots(UNFINISHED)})", UNFINISHED)

    def finished(self, found: Mapping[Path, str]) -> list[Finished]:
        """Return which of the paths that `see` was just told of have their end, unchanged since."""
        rows = self._connection.query(
            "select paths.path, paths.signature, moved_to from found join paths using (path)"
            " where paths.signature = found.signature and file_id is not null"
            f" and paths.state not in ({_slots(UNFINISHED)})",
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

    def move(self, targets: Mapping[Path, Path]) -> None:
        """Commit where finished films are about to be moved, so that a crash cannot lose them."""
        rows = [(path_to_text(to), path_to_text(path)) for path, to in targets.items()]
        with self._connection.transaction():
            self._connection.execute_many("update paths set moved_to = ? where path = ?", rows)
            # What was overwritten at a path does not lie where its successor goes.
            self._connection.execute_many(
                "update files set path = ?1 where path = ?2 and (sha256 is null or id ="
                " (select file_id from paths where path = ?2))",
                rows,
            )

    def knows(self, path: Path) -> bool:
        """Say whether a film was ever recorded at this path, or is about to be moved there."""
        text = path_to_text(path)
        return bool(
            self._connection.query(
                "select 1 from files where path = ? union all select 1 from paths where path = ?"
                " union all select 1 from paths where moved_to = ? limit 1",
                [text, text, text],
            )
        )

    def counts(self) -> dict[PathState, int]:
        """Return how many paths there are in each state."""
        rows = self._connection.query("select state, count(*) as n from paths group by state")
        return {PathState(row["state"]): row["n"] for row in rows}

    def quarantined(
        self, file_ids: Iterable[int] = (), code: Code | None = None
    ) -> dict[int, dict[Path, Path | None]]:
        """Return the quarantined files with these ids and this code, or all, by id.

        With each come the paths where it was seen, and where it was moved from there, as far as
        they hold nothing else now.
        """
        ids = list(file_ids)
        by_id = f"id in ({_slots(ids)})" if ids else "1"
        chosen = (
            "select id from files where id in"
            " (select max(id) from files group by coalesce(sha256, path))"
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

    def requeue(self, lying: Mapping[int, Mapping[Path, Path]]) -> None:
        """See quarantined files again, by id: each path where one was seen, where it lies now."""
        rows = [
            (file_id, path_to_text(path), path_to_text(place))
            for file_id, places in lying.items()
            for path, place in places.items()
        ]
        db = self._connection
        with db.transaction():
            for file_id, path, place in rows:
                db.execute(
                    "update or ignore paths set path = ?, state = 'seen', signature = null,"
                    " attempts = 0, moved_to = null where path = ? and file_id = ?"
                    f" and state not in ({_slots(UNFINISHED)})",
                    [place, path, file_id, *UNFINISHED],
                )
                db.execute(
                    "insert or ignore into paths (path, file_id, attempts, seen_at, state)"
                    " values (?, ?, 0, ?, 'seen')",
                    [place, file_id, now_text()],
                )
                db.execute("update or ignore files set path = ? where id = ?", [place, file_id])

    def prune(self, older_than: datetime) -> int:
        """Remove results recorded before a moment, with their hips; return how many.

        A file that is not finished, or of which a notification is still to be delivered, stays.
        Its path stays too, so that it is not screened again where it still lies.
        """
        db = self._connection
        with db.transaction():
            old = (
                "select id from files where recorded_at < ? and id not in"
                " (select file_id from outbox where delivered_at is null) and id not in"
                f" (select file_id from paths where file_id is not null and state in"
                f" ({_slots(UNFINISHED)}))"
            )
            parameters = [utc_text(older_than), *UNFINISHED]
            db.execute(
                f"update files set duplicate_of = null where duplicate_of in ({old})", parameters
            )
            return db.execute(f"delete from files where id in ({old})", parameters)

    def _move(
        self, paths: Iterable[Path], change: str, condition: str, parameters: Sequence[str] = ()
    ) -> None:
        rows = [(path_to_text(path), *parameters) for path in paths]
        if rows:
            sql = f"update paths set {change} where path = ? and {condition}"
            with self._connection.transaction():
                self._connection.execute_many(sql, rows)


def _slots(values: Iterable[object]) -> str:
    return ",".join("?" for _ in values)
