"""Events of the file system: hints that it is worth looking now. The scan is the truth."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from hipedge.errors import InstallationError
from hipedge.watch.logging import event


class Hints(threading.Thread):
    """Waits for events in a thread; `due` is set when there was one.

    Nothing depends on it: if the system has no more watches to give, the scans go on.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        super().__init__(name="hints", daemon=True)
        try:
            from watchfiles import watch
        except ImportError as error:
            raise InstallationError(
                "`hipedge watch` without --poll needs watchfiles: pip install 'hipedge[service]'"
            ) from error
        self._watch = watch
        self._roots = roots
        self._stop_event = threading.Event()
        self.due = threading.Event()
        # It logs the paths of changed files, which can hold a patient's name.
        logging.getLogger("watchfiles").disabled = True
        logging.getLogger("watchfiles.main").disabled = True

    def run(self) -> None:
        """Set `due` at each event, until `stop`."""
        try:
            for _ in self._watch(
                *self._roots, stop_event=self._stop_event, debounce=100, step=20, rust_timeout=1000
            ):
                self.due.set()
        except BaseException as error:  # a panic in Rust is no Exception
            event(logging.WARNING, "events_unavailable", error=type(error).__name__)

    def stop(self) -> None:
        """End the thread."""
        self._stop_event.set()
        self.join(5)
