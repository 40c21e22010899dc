"""Structured log events, and notifications to systemd.

The fields of an event are numbers, codes of hipedge and settings of the site. They never hold text
from a file, nor its name, so that the log holds no patient data and no file can forge a line.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from enum import Enum

LOGGER = logging.getLogger("hipedge.service")
# sd-daemon(3): the prefix that gives a line its priority in the journal.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _EventFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return one line: the name of the event, then its fields with JSON values."""
        fields = getattr(record, "fields", {})
        text = " ".join([record.getMessage(), *(f"{k}={json.dumps(v)}" for k, v in fields.items())])
        priority = _PRIORITIES.get(record.levelno, 6)
        return f"<{priority}>{text}" if "JOURNAL_STREAM" in os.environ else text


def configure_logging(level: int) -> None:
    """Write events to standard error, with priorities where that is the systemd journal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_EventFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level)


def event(level: int, name: str, **fields: float | str | Enum | None) -> None:
    """Log an event."""
    values = {key: f.value if isinstance(f, Enum) else f for key, f in fields.items()}
    LOGGER.log(level, name, extra={"fields": values})


def is_service() -> bool:
    """Return whether a service manager started this process, and waits for its notifications."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify_systemd(**state: str | int) -> None:
    """Send a state such as READY=1 to the service manager, if there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        message = "\n".join(f"{name}={value}" for name, value in state.items())
        connection.sendto(message.encode(), address)
