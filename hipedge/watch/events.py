"""File system events, which bring the next scan forward. Only the scans decide what is there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from hipedge.errors import InstallationError
from hipedge.service_log import event

FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0
# watchfiles raises this for an event of a file whose name is not valid UTF-8.
UNDECODABLE_NAME = "Unable to decode path"


class FileEvents(threading.Thread):
    """A thread that waits for events; `pending` is set at each.

    After an error the events are restarted, after pauses that become longer. `on_change` is called
    with True when they fail, and with False when they work again. Without events, new files are
    still found by the regular scans.
    """

    def __init__(self, roots: Sequence[Path], on_change: Callable[[bool], None]) -> None:
        super().__init__(name="file-events", daemon=True)
        try:
            from watchfiles import watch
        except ImportError as error:
            raise InstallationError(
                "`hipedge watch` without --poll needs watchfiles: pip install 'hipedge[service]'"
            ) from error
        self._watch = watch
        self._roots = roots
        self._on_change = on_change
        self._stopping = threading.Event()
        self._pause_s = FIRST_PAUSE_S
        self.pending = threading.Event()
        # It logs the paths of changed files, which can hold a patient's name.
        logging.getLogger("watchfiles").disabled = True
        logging.getLogger("watchfiles.main").disabled = True

    def run(self) -> None:
        """Set `pending` at each event, until `stop`."""
        while not self._stopping.is_set():
            try:
                self._wait_for_events()
            except BaseException as error:  # a panic in Rust is not an Exception
                self._handle(error)

    def _wait_for_events(self) -> None:
        for changes in self._watch(
            *self._roots,
            stop_event=self._stopping,
            debounce=100,
            step=20,
            rust_timeout=1000,
            yield_on_timeout=True,
        ):
            self._on_change(False)
            if changes:
                self.pending.set()
            else:
                self._pause_s = FIRST_PAUSE_S

    def _handle(self, error: BaseException) -> None:
        """Pause before a restart; the scan that `pending` causes finds what is missed meanwhile."""
        if not str(error).startswith(UNDECODABLE_NAME):
            event(logging.WARNING, "events_failed", error=type(error).__name__)
            self._on_change(True)
            self._stopping.wait(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        else:
            self._stopping.wait(FIRST_PAUSE_S)
        self.pending.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join(5)
