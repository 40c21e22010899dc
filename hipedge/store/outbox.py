"""The outbox of notifications: each message is committed with the result that it reports."""

from __future__ import annotations

from dataclasses import dataclass

from hipedge.store.connection import Connection, now_text


@dataclass(frozen=True)
class Message:
    """A case to be reported on one channel. `key` stays the same over all attempts."""

    message_id: int
    key: str
    file_id: int
    rule_id: str


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
        rows = self._connection.query(
            "select id as message_id, key, file_id, rule_id from outbox"
            f" where channel = ? and delivered_at is null order by {order}, id limit ?",
            [channel, limit],
        )
        return [Message(**row) for row in rows]

    def _update(self, message: Message, change: str, *values: object) -> bool:
        with self._connection.transaction():
            # By key too: SQLite may reuse the id of a message that was deleted.
            sql = f"update outbox set {change} where id = ? and key = ?"
            return self._connection.execute(sql, [*values, message.message_id, message.key]) > 0
