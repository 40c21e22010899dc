"""The alarms of a running service; each ends by itself when its cause does."""

from __future__ import annotations

import logging
from enum import Enum

from hipedge.service_log import event


class Alarm(str, Enum):
    """A condition that needs a person's attention."""

    FOLDER_GONE = "folder_gone"
    EVENTS_UNAVAILABLE = "events_unavailable"
    DISK_RESERVE = "disk_reserve"
    DATABASE_UNAVAILABLE = "database_unavailable"
    BACKEND_LOST = "backend_lost"
    BACKEND_FALLBACK = "backend_fallback"
    RELOAD_FAILED = "reload_failed"
    DONE_DIR = "done_dir"
    NOTIFICATION = "notification"
    RESULTS = "results"


MEANINGS = {
    Alarm.FOLDER_GONE: "a watched folder is missing or not mounted: none of its files is screened",
    Alarm.EVENTS_UNAVAILABLE: "file system events have failed and are retried: "
    "new files are found by the regular scans alone",
    Alarm.DISK_RESERVE: "the disk of the database is nearly full: paused",
    Alarm.DATABASE_UNAVAILABLE: "the database cannot be written: paused",
    Alarm.BACKEND_LOST: "the backend fails and could not be opened again: paused",
    Alarm.BACKEND_FALLBACK: "the backend was lost: the configured fallback is in use",
    Alarm.RELOAD_FAILED: "the settings could not be reloaded: the old ones stay in force",
    Alarm.DONE_DIR: "a finished film could not be moved to done_dir",
    Alarm.NOTIFICATION: "a notification could not be delivered and is retried",
    Alarm.RESULTS: "results could not be delivered to PACS and are retried",
}


class Alarms:
    """The alarms that are on. Only a change is logged."""

    def __init__(self) -> None:
        self._on = set[Alarm]()

    def set(self, alarm: Alarm, on: bool, **fields: float | str) -> None:
        """Turn an alarm on or off; `fields` are logged with an alarm that starts."""
        if on == (alarm in self._on):
            return
        if on:
            self._on.add(alarm)
            event(logging.ERROR, "alarm", alarm=alarm, meaning=MEANINGS[alarm], **fields)
        else:
            self._on.discard(alarm)
            event(logging.INFO, "alarm_ended", alarm=alarm)

    def is_on(self, alarm: Alarm) -> bool:
        """Return whether an alarm is on."""
        return alarm in self._on

    @property
    def names(self) -> frozenset[str]:
        """The names of the alarms that are on."""
        return frozenset(alarm.value for alarm in tuple(self._on))
