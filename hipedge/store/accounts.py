"""The database of `hipedge serve` alone: its users, their sessions, and who did what.

It is a file of its own, beside the one that films are recorded in: the log of who saw which case
must be written also while that one is locked, migrated or read-only, and every page that is looked
at would otherwise take the lock that `hipedge watch` needs. A copy of the results then holds no
hash of a password either. Answers about findings are results, and lie with them (`Feedback`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from sqlite_utils import Database, Migrations

from hipedge.errors import InputError
from hipedge.store.connection import BUSY_TIMEOUT_S, Connection, now_text, utc_now, utc_text

migrations = Migrations("hipedge-web")


class Role(str, Enum):
    """What a user may do: look at cases; also answer; also read the log."""

    VIEWER = "viewer"
    READER = "reader"
    ADMIN = "admin"

    def allows(self, needed: Role) -> bool:
        """Return whether this role includes another."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class User:
    """A user. `password_hash` is Argon2's encoded hash."""

    name: str
    role: Role
    password_hash: str
    disabled: bool


@dataclass(frozen=True)
class Login:
    """A session: its user with the present role, and the token that its forms must carry."""

    user: str
    role: Role
    form_token: str


@dataclass(frozen=True)
class AuditEntry:
    """One line of the log. `content_hash` is the content of the film that it is about."""

    at: str
    user: str
    address: str
    event: str
    content_hash: str | None
    detail: str


class Accounts(Connection):
    """The users, sessions and log; a `Connection` to a database of its own.

    Threads of one process that write at once share a lock, `writing`. SQLite alone makes writers
    wait by sleeping for longer and longer: fifty readers would wait for seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        writing: AbstractContextManager[object] | None = None,
    ) -> None:
        self._writing = nullcontext() if writing is None else writing
        super().__init__(path, busy_timeout_s=busy_timeout_s, migrations=migrations)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block's changes together, as `Connection.transaction`."""
        with self._writing, super().transaction():
            yield

    def users(self) -> list[User]:
        """Return all users by name."""
        rows = self.query("select * from users order by name")
        return [_user(row) for row in rows]

    def user(self, name: str) -> User | None:
        """Return a user; None where there is none of this name."""
        rows = self.query("select * from users where name = ?", [name])
        return next((_user(row) for row in rows), None)

    def add_user(self, name: str, role: Role, password_hash: str) -> None:
        """Add a user. Raises `InputError` if there is one of this name."""
        if self.user(name) is not None:
            raise InputError(f"there is a user {name!r} already")
        row = {
            "name": name,
            "role": role.value,
            "password_hash": password_hash,
            "created_at": now_text(),
        }
        with self.transaction():
            self.insert("users", row)

    def set_password(self, name: str, password_hash: str) -> None:
        """Replace a password, and end the user's sessions. Raises `InputError` for no such user."""
        self._change(name, "password_hash = ?", password_hash)

    def set_role(self, name: str, role: Role) -> None:
        """Change a user's role. Raises `InputError` if there is no such user."""
        self._change(name, "role = ?", role.value)

    def set_disabled(self, name: str, *, disabled: bool) -> None:
        """Disable or enable a user. Raises `InputError` if there is no such user."""
        self._change(name, "disabled = ?", int(disabled))

    def start_session(
        self,
        token_hash: str,
        user: str,
        form_token: str,
        role: Role,
        *,
        address: str,
        longest: timedelta,
    ) -> None:
        """Record a session by the hash of its token, and that the user has logged in.

        `role` counts for a person without account. Sessions that are older than `longest` are
        deleted. All of it is one transaction: each waits for the disk, and many log in at once.
        """
        now = now_text()
        session = {
            "token_hash": token_hash,
            "user": user,
            "role": role.value,
            "form_token": form_token,
            "started_at": now,
            "seen_at": now,
        }
        with self.transaction():
            limit = utc_text(utc_now() - longest)
            self.execute("delete from sessions where started_at < ?", [limit])
            self.insert("sessions", session)
            self._insert_line(user, address, "login", None, "")

    def session(self, token_hash: str, idle: timedelta, longest: timedelta) -> Login | None:
        """Return a session that is neither idle nor too old, and whose user is not disabled.

        Its role is the user's present one. That it was used is written at most once a minute.
        """
        now = utc_now()
        rows = self.query(
            "select sessions.user, form_token, seen_at, coalesce(users.role, sessions.role) as role"
            " from sessions left join users on users.name = sessions.user"
            " where token_hash = ? and seen_at >= ? and started_at >= ?"
            " and coalesce(users.disabled, 0) = 0",
            [token_hash, utc_text(now - idle), utc_text(now - longest)],
        )
        if not rows:
            return None
        (row,) = rows
        if row["seen_at"] < utc_text(now - min(timedelta(minutes=1), idle / 2)):
            with self.transaction():
                self.execute(
                    "update sessions set seen_at = ? where token_hash = ?", [now_text(), token_hash]
                )
        return Login(row["user"], Role(row["role"]), row["form_token"])

    def end_session(self, token_hash: str) -> None:
        """End a session."""
        with self.transaction():
            self.execute("delete from sessions where token_hash = ?", [token_hash])

    def log(
        self, user: str, address: str, event: str, content_hash: str | None = None, detail: str = ""
    ) -> None:
        """Append a line to the log."""
        with self.transaction():
            self._insert_line(user, address, event, content_hash, detail)

    def _insert_line(
        self, user: str, address: str, event: str, content_hash: str | None, detail: str
    ) -> None:
        row = {
            "at": now_text(),
            "user": user,
            "address": address,
            "event": event,
            "content_hash": content_hash,
            "detail": detail,
        }
        self.insert("audit", row)

    def audit(self, before_id: int | None = None, rows: int = 100) -> list[tuple[int, AuditEntry]]:
        """Return lines of the log with their numbers, newest first."""
        found = self.query(
            "select * from audit where id < ? order by id desc limit ?",
            [2**63 - 1 if before_id is None else before_id, rows],
        )
        return [
            (
                row["id"],
                AuditEntry(
                    row["at"], row["user"], row["address"], row["event"], row["content_hash"],
                    row["detail"],
                ),
            )
            for row in found
        ]  # fmt: skip

    def films_seen(self, user: str, content_hashes: Collection[str]) -> int:
        """Return how many of these films a user has looked at outside of studies."""
        rows = self.query(
            "select distinct content_hash from audit where user = ? and event in ('case', 'film')"
            " and content_hash is not null",
            [user],
        )
        return len({row["content_hash"] for row in rows} & set(content_hashes))

    def _change(self, name: str, change: str, value: object) -> None:
        """Change a user and end the user's sessions."""
        with self.transaction():
            if not self.execute(f"update users set {change} where name = ?", [value, name]):
                raise InputError(f"there is no user {name!r}")
            self.execute("delete from sessions where user = ?", [name])


def _user(row: Mapping[str, Any]) -> User:
    return User(row["name"], Role(row["role"]), row["password_hash"], bool(row["disabled"]))


@migrations()
def create_tables(db: Database) -> None:
    """Create the first schema."""
    for statement in _FIRST_SCHEMA:
        db.execute(statement)


_FIRST_SCHEMA = (
    """
    create table users (
        name text primary key,
        role text not null check (role in ('viewer', 'reader', 'admin')),
        password_hash text not null,
        disabled integer not null default 0,
        created_at text not null
    ) strict
    """,
    """
    create table sessions (
        token_hash text primary key,        -- SHA-256 of the cookie, which is not kept
        user text not null,
        role text not null,                 -- of a person without account
        form_token text not null,
        started_at text not null,
        seen_at text not null
    ) strict
    """,
    "create index sessions_by_user on sessions (user)",
    """
    create table audit (
        id integer primary key autoincrement,  -- so that a line removed at the end leaves a gap
        at text not null,
        user text not null,
        address text not null,
        event text not null,
        sha256 text,
        detail text not null
    ) strict
    """,
    "create index audit_by_film on audit (sha256)",
    """
    create trigger audit_stays before update on audit
        begin select raise(abort, 'a line of the log is not changed'); end
    """,
    """
    create trigger audit_is_kept before delete on audit
        begin select raise(abort, 'a line of the log is not deleted'); end
    """,
)


@migrations()
def name_contents_by_blake3(db: Database) -> None:
    """Rename the column: only films that hipedge 0.2 or before recorded are named by SHA-256."""
    db.execute("alter table audit rename column sha256 to content_hash")
