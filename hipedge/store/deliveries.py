"""What a receiver of results has: each object of a message is recorded when it was accepted."""

from __future__ import annotations

from dataclasses import dataclass

from hipedge.store.connection import Connection, now_text
from hipedge.store.outbox import Message


@dataclass(frozen=True)
class Delivery:
    """An object that a receiver has accepted. `confirmed` means that it was seen there later."""

    kind: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    status: int
    confirmed: bool = False


class Deliveries:
    """The objects of each message that its receiver has accepted, so that none is sent twice."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, channel: str, message: Message) -> dict[str, Delivery]:
        """Return what the receiver of a channel has of a message, by kind."""
        rows = self._connection.query(
            "select kind, sop_class_uid, study_instance_uid, series_instance_uid,"
            " sop_instance_uid, status, confirmed_at is not null as confirmed"
            " from deliveries where channel = ? and message_key = ?",
            [channel, message.key],
        )
        return {
            row["kind"]: Delivery(**{**row, "confirmed": bool(row["confirmed"])}) for row in rows
        }

    def record(self, channel: str, message: Message, delivery: Delivery) -> None:
        """Record that a receiver has accepted an object."""
        row = {
            "channel": channel,
            "message_key": message.key,
            "file_id": message.file_id,
            "kind": delivery.kind,
            "sop_class_uid": delivery.sop_class_uid,
            "study_instance_uid": delivery.study_instance_uid,
            "series_instance_uid": delivery.series_instance_uid,
            "sop_instance_uid": delivery.sop_instance_uid,
            "status": delivery.status,
            "sent_at": now_text(),
        }
        with self._connection.transaction():
            self._connection.insert("deliveries", row)

    def confirm(self, channel: str, message: Message, kind: str) -> None:
        """Record that an object was seen at its receiver."""
        self._change("update deliveries set confirmed_at = ?", [now_text()], channel, message, kind)

    def forget(self, channel: str, message: Message, kind: str) -> None:
        """Forget an object that its receiver has lost, so that it is sent again."""
        self._change("delete from deliveries", [], channel, message, kind)

    def _change(
        self, change: str, values: list[str], channel: str, message: Message, kind: str
    ) -> None:
        with self._connection.transaction():
            self._connection.execute(
                f"{change} where channel = ? and message_key = ? and kind = ?",
                [*values, channel, message.key, kind],
            )
