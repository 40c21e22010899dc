"""Ctrl-C while modules are imported, here and in the fork server."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end this process at once within the block, as SIGINT by default ends others.

    Python raises `KeyboardInterrupt` instead, in the main thread. Within an import it can be lost,
    and then leave the import system locked for all other threads, which wait for ever. Nothing
    changes where SIGINT is ignored or handled otherwise, and in other threads.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if handler is not signal.default_int_handler or not is_main:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Let processes that are started within the block, and theirs, not get Ctrl-C.

    A terminal sends it to all of them, and a fork server that imports would print a traceback.
    """
    from multiprocessing import resource_tracker  # for the commands that start processes alone

    resource_tracker.ensure_running()  # else the first process starts it, which lifts the block
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
