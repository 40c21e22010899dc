"""The process that sends results: a film that kills or blocks it costs an attempt, not the service.

Films are decoded again for their pictures, by libraries that may crash on one of them. That is why
the service does it in a process of its own, which is replaced when it has died.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from hipedge.config import Settings
from hipedge.errors import StoreError
from hipedge.network.library import quiet_libraries
from hipedge.pipeline.workers import sandbox
from hipedge.service_log import LOGGER, configure_logging, event
from hipedge.store.store import Store
from hipedge.watch.results import ResultDispatcher, read_back_of, receivers_of

POLL_S = 0.5
RESTART_PAUSE_S = 1.0
# Longer than one result can take, with all its time-outs.
STALL_S = 600.0
STOP_TIMEOUT_S = 15.0
# Address space for what is imported in the process, and the threads of associations.
LIBRARIES_BYTES = 1 << 30


class ResultSender(threading.Thread):
    """Supervises the process that sends results. `on_change` is called with whether that fails."""

    def __init__(self, settings: Settings, *, on_change: Callable[[bool], None]) -> None:
        super().__init__(name="results", daemon=True)
        self._settings = settings
        self._on_change = on_change
        self._context = multiprocessing.get_context("forkserver")
        self._stopping = threading.Event()

    def run(self) -> None:
        """Keep a process running until `stop`."""
        while not self._stopping.is_set():
            connection, remote = self._context.Pipe()
            process = self._context.Process(
                target=_serve, args=(self._settings, LOGGER.level, remote), daemon=True
            )
            process.start()
            remote.close()
            self._supervise(connection, process)
            process.kill()
            process.join()
            connection.close()
            if not self._stopping.is_set():
                event(logging.ERROR, "result_sender_died", exit_code=process.exitcode)
                self._on_change(True)
                self._stopping.wait(RESTART_PAUSE_S)

    def _supervise(self, connection: Connection, process: BaseProcess) -> None:
        """Pass on what the process reports, until it ends, stalls, or `stop` is called."""
        heard = time.monotonic()
        stop_by = float("inf")
        with suppress(EOFError, OSError):
            while time.monotonic() < min(stop_by, heard + STALL_S):
                if connection.poll(POLL_S):
                    self._on_change(connection.recv())
                    heard = time.monotonic()
                if self._stopping.is_set() and stop_by == float("inf"):
                    stop_by = time.monotonic() + STOP_TIMEOUT_S
                    connection.send(None)

    def stop(self) -> None:
        """End after the current result; what is not sent stays in the outbox."""
        self._stopping.set()
        self.join(STOP_TIMEOUT_S + RESTART_PAUSE_S + POLL_S)


def _serve(settings: Settings, level: int, reports: Connection) -> None:
    """Send results until told to stop, or until the service has ended; runs in the child process.

    Reports after each attempt whether the delivery of results fails.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)  # for events, which hold nothing of a film
    sandbox((settings.worker_memory_mb << 20) + LIBRARIES_BYTES)
    configure_logging(level)
    with quiet_libraries(), suppress(EOFError, OSError):
        while True:
            try:
                with Store(settings.db) as store:
                    _send_from(store, settings, reports)
                return
            except StoreError as error:  # the database may become available again
                event(logging.WARNING, "outbox_unavailable", error=type(error).__name__)
                reports.send(True)
                if _told_to_stop(reports, POLL_S):
                    return
    os._exit(0)


def _send_from(store: Store, settings: Settings, reports: Connection) -> None:
    def report() -> bool:
        reports.send(any(dispatcher.failing for dispatcher in dispatchers))
        return not _told_to_stop(reports, 0.0)

    read_back = read_back_of(settings)
    dispatchers = [
        ResultDispatcher(store, receiver, settings, read_back=read_back, proceed=report)
        for receiver in receivers_of(settings)
    ]
    while report():
        tried = [dispatcher.dispatch() for dispatcher in dispatchers]
        if not any(tried) and _told_to_stop(reports, POLL_S):
            return


def _told_to_stop(reports: Connection, wait_s: float) -> bool:
    """Return whether the service has said so. Raises `EOFError` if it has ended."""
    return reports.poll(wait_s) and reports.recv() is None
