"""Messages that are to be delivered: each is written with the result that it tells of."""

from __future__ import annotations

from dataclasses import dataclass

from hipedge.store.connection import Connection, now_text


@dataclass(frozen=True)
class Message:
    """One case that one channel is to tell of. `key` is the same at every attempt."""

    message_id: int
    key: str
    file_id: int
    model_id: str
    rule_id: str
    created_at: str


class Outbox:
    """The pending messages of each channel, most urgent first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def pending(self, channel: str, limit: int) -> list[Message]:
        """Return what to deliver next: by urgency, then what was tried least, then the oldest."""
        return self._pending(channel, "priority, outbox.attempts", limit)

    def least_tried(self, channel: str, limit: int) -> list[Message]:
        """Return what was tried least, then by urgency, then the oldest."""
        return self._pending(channel, "outbox.attempts, priority", limit)

    def take(self, message: Message) -> bool:
        """Count an attempt that is about to be made; say whether the message still waits.

        Where this cannot be committed nothing is to be sent: it could not be ticked off either,
        and would be sent again and again.
        """
        return self._set(message, "attempts = attempts + 1")

    def delivered(self, message: Message) -> None:
        """Note that a message has arrived."""
        self._set(message, "delivered_at = ?", now_text())

    def waiting(self) -> dict[str, int]:
        """Return how many messages of each channel are not delivered."""
        rows = self._connection.query(
            "select channel, count(*) as n from outbox where delivered_at is null group by channel"
        )
        return {row["channel"]: row["n"] for row in rows}

    def _pending(self, channel: str, order: str, limit: int) -> list[Message]:
        rows = self._connection.query(
            "select outbox.id as message_id, key, file_id, model_id, rule_id, created_at"
            " from outbox join files on files.id = file_id"
            f" where channel = ? and delivered_at is null order by {order}, outbox.id limit ?",
            [channel, limit],
        )
        return [Message(**row) for row in rows]

    def _set(self, message: Message, change: str, *values: object) -> bool:
        with self._connection.transaction():
            # The key too: SQLite may give the id of a message that gave way to the next one.
            sql = f"update outbox set {change} where id = ? and key = ?"
            return self._connection.execute(sql, [*values, message.message_id, message.key]) > 0
