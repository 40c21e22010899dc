"""Ctrl-C while modules are imported."""

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
