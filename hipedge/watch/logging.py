"""What the service says: events with fields to the journal, and its state to systemd.

An event's fields are numbers, codes of ours and the site's own settings. Nothing that comes out
of a file, its name included, is ever one: hence no patient data, and no way to forge a line.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from enum import Enum

LOGGER = logging.getLogger("hipedge.watch")
# sd-daemon(3): a line's priority, where standard error is the journal.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return one line: the event, then its fields as JSON values."""
        fields = getattr(record, "fields", {})
        text = " ".join([record.getMessage(), *(f"{k}={json.dumps(v)}" for k, v in fields.items())])
        priority = _PRIORITIES.get(record.levelno, 6)
        return f"<{priority}>{text}" if "JOURNAL_STREAM" in os.environ else text


def open_log(level: int) -> None:
    """Write events to standard error, as systemd likes them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level)


def event(level: int, name: str, **fields: float | str | Enum | None) -> None:
    """Log that something happened."""
    plain = {key: one.value if isinstance(one, Enum) else one for key, one in fields.items()}
    LOGGER.log(level, name, extra={"fields": plain})


def tell_systemd(**state: str | int) -> None:
    """Tell the service manager, if there is one: READY=1, WATCHDOG=1, … (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        message = "\n".join(f"{name}={value}" for name, value in state.items())
        connection.sendto(message.encode(), address)
