"""What a person must see to; every alarm ends by itself when its cause does."""

from __future__ import annotations

import logging
from enum import Enum

from hipedge.watch.logging import event


class Alarm(str, Enum):
    """All that can be wrong with a running service."""

    FOLDER_GONE = "folder_gone"
    DISK_RESERVE = "disk_reserve"
    DATABASE_UNAVAILABLE = "database_unavailable"
    BACKEND_LOST = "backend_lost"
    BACKEND_FALLBACK = "backend_fallback"
    RELOAD_FAILED = "reload_failed"
    DONE_DIR = "done_dir"
    NOTIFICATION = "notification"


MEANINGS = {
    Alarm.FOLDER_GONE: "a watched folder is gone or not mounted: nothing of it is screened",
    Alarm.DISK_RESERVE: "the disk of the database is nearly full: paused",
    Alarm.DATABASE_UNAVAILABLE: "the database cannot be written: paused",
    Alarm.BACKEND_LOST: "the backend fails and could not be opened again: paused",
    Alarm.BACKEND_FALLBACK: "the backend was lost: another one computes, as was configured",
    Alarm.RELOAD_FAILED: "the settings could not be loaded again: the old ones are in force",
    Alarm.DONE_DIR: "a finished film could not be moved to done_dir",
    Alarm.NOTIFICATION: "a notification could not be delivered: it is tried again",
}


class Alarms:
    """Those that are on. Turning one on or off twice is no news."""

    def __init__(self) -> None:
        self._on = set[Alarm]()

    def set(self, alarm: Alarm, on: bool, **fields: float | str) -> None:
        """Turn an alarm on or off; say so where that is news."""
        if on == (alarm in self._on):
            return
        if on:
            self._on.add(alarm)
            event(logging.ERROR, "alarm", alarm=alarm, meaning=MEANINGS[alarm], **fields)
        else:
            self._on.discard(alarm)
            event(logging.INFO, "alarm_ended", alarm=alarm)

    @property
    def names(self) -> frozenset[str]:
        """The names of those that are on."""
        return frozenset(alarm.value for alarm in tuple(self._on))
