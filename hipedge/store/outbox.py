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
        rows = self._connection.query(
            "select outbox.id as message_id, key, file_id, model_id, rule_id, created_at"
            " from outbox join files on files.id = file_id"
            " where channel = ? and delivered_at is null"
            " order by priority, outbox.attempts, outbox.id limit ?",
            [channel, limit],
        )
        return [Message(**row) for row in rows]

    def delivered(self, message: Message) -> None:
        """Note that a message has arrived."""
        self._set(message, "attempts = attempts + 1, delivered_at = ?", now_text())

    def failed(self, message: Message) -> None:
        """Note that a message could not be delivered; it stays."""
        self._set(message, "attempts = attempts + 1")

    def waiting(self) -> dict[str, int]:
        """Return how many messages of each channel are not delivered."""
        rows = self._connection.query(
            "select channel, count(*) as n from outbox where delivered_at is null group by channel"
        )
        return {row["channel"]: row["n"] for row in rows}

    def _set(self, message: Message, change: str, *values: object) -> None:
        with self._connection.transaction():
            # The key too: SQLite may give the id of a message that gave way to the next one.
            sql = f"update outbox set {change} where id = ? and key = ?"
            self._connection.execute(sql, [*values, message.message_id, message.key])
