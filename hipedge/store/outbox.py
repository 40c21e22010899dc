"""The outbox: each message is committed with the result that it reports.

Its channels are notifications, and receivers of results (PACS), for which `ResultPolicy` says which
cases are sent.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from hipedge.errors import CODES, Code, State
from hipedge.store.connection import Connection, now_text, placeholders, utc_text


@dataclass(frozen=True)
class ResultPolicy:
    """The channels on which results are sent, and of which cases besides the flagged ones.

    `unflagged` adds all other screened films, `not_read` the films that should have been screened
    and could not be.
    """

    channels: tuple[str, ...] = ()
    unflagged: bool = False
    not_read: bool = False


# Nobody can tell to which study, or whether to any, such a file belongs.
_WITHOUT_STUDY = (Code.UNREADABLE, Code.EMPTY_FILE, Code.NOT_AN_IMAGE, Code.MALFORMED_HEADER)


def is_reportable(code: Code) -> bool:
    """Return whether a refusal is reported: a film that should have been screened and was not.

    What hipedge is not made for (other body parts, modalities, objects) is not, nor are duplicates.
    """
    quarantined = CODES[code].state is State.QUARANTINED and code not in _WITHOUT_STUDY
    return quarantined or code is Code.NO_HIP_FOUND


@dataclass(frozen=True)
class Message:
    """A case to be reported on one channel. `key` stays the same over all attempts."""

    message_id: int
    key: str
    file_id: int
    rule_id: str
    attempts: int = field(default=0, compare=False)


class Outbox:
    """The undelivered messages of each channel, most urgent first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def pending(self, channel: str, limit: int) -> list[Message]:
        """Return messages to deliver, by urgency, then fewest attempts, then age."""
        return self._pending(channel, "priority, attempts", limit)

    def least_tried(self, channel: str, limit: int) -> list[Message]:
        """Return messages to deliver, by fewest attempts, then urgency, then age."""
        return self._pending(channel, "attempts, priority", limit)

    def due(self, channel: str, now: datetime, limit: int) -> list[Message]:
        """Return the messages that may be tried now, by urgency, then fewest attempts, then age."""
        return self._query(
            "delivered_at is null and channel = ? and (retry_at is null or retry_at <= ?)"
            " order by priority, attempts, id limit ?",
            [channel, utc_text(now), limit],
        )

    def claim(self, message: Message, now: datetime, retry_at: datetime) -> bool:
        """Count an attempt before it is made; return whether the message is still due.

        Nobody tries it again before `retry_at`, also if this process dies of it.
        """
        return self._update(
            message,
            "attempts = attempts + 1, retry_at = ?",
            utc_text(retry_at),
            condition="delivered_at is null and (retry_at is null or retry_at <= ?)",
            parameters=[utc_text(now)],
        )

    def postpone(self, message: Message, retry_at: datetime) -> None:
        """Set when a message is tried again."""
        self._update(message, "retry_at = ?", utc_text(retry_at))

    def troubled(self, channel: str) -> bool:
        """Return whether a message was tried three times, and is not delivered."""
        sql = "select 1 from outbox where channel = ? and delivered_at is null and attempts > 2"
        return bool(self._connection.query(f"{sql} limit 1", [channel]))

    def discard(self, message: Message) -> None:
        """Remove a message that can never be delivered."""
        with self._connection.transaction():
            self._connection.execute("delete from outbox where id = ?", [message.message_id])

    def undelivered(self, keys: Collection[str]) -> int:
        """Return how many of the messages with these keys are not delivered on every channel."""
        rows = self._connection.query(
            f"select count(distinct key) as n from outbox where key in ({placeholders(keys)})"
            " and delivered_at is null",
            list(keys),
        )
        return int(rows[0]["n"])

    def start_attempt(self, message: Message) -> bool:
        """Count an attempt before it is made; return whether the message is still pending.

        If this cannot be committed, the message must not be sent: its delivery could not be
        recorded either, and it would be sent again and again.
        """
        return self._update(message, "attempts = attempts + 1")

    def mark_delivered(self, message: Message) -> None:
        """Record that a message was delivered."""
        self._update(message, "delivered_at = ?", now_text())

    def waiting(self) -> dict[str, int]:
        """Return the number of undelivered messages by channel."""
        rows = self._connection.query(
            "select channel, count(*) as n from outbox where delivered_at is null group by channel"
        )
        return {row["channel"]: row["n"] for row in rows}

    def _pending(self, channel: str, order: str, limit: int) -> list[Message]:
        return self._query(
            f"channel = ? and delivered_at is null order by {order}, id limit ?", [channel, limit]
        )

    def _query(self, condition: str, parameters: list[object]) -> list[Message]:
        rows = self._connection.query(
            "select id as message_id, key, file_id, rule_id, attempts from outbox"
            f" where {condition}",
            parameters,
        )
        return [Message(**row) for row in rows]

    def _update(
        self,
        message: Message,
        change: str,
        *values: object,
        condition: str = "true",
        parameters: Collection[object] = (),
    ) -> bool:
        with self._connection.transaction():
            # By key too: SQLite may reuse the id of a message that was deleted.
            sql = f"update outbox set {change} where id = ? and key = ? and {condition}"
            values = (*values, message.message_id, message.key, *parameters)
            return self._connection.execute(sql, values) > 0
