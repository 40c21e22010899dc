"""The decoding processes: one function over many items, each in a process that may die of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Enough in flight that no worker waits for the main process, few enough to bound the memory and
# what is tried again after a crash.
IN_FLIGHT_PER_WORKER = 4


@dataclass(frozen=True)
class Died:
    """In the place of a result: the process died while it worked on this item, and on no other."""


class Workers(Generic[T, R]):
    """A pool of processes that all run `function`; opened by `with`.

    `function` is sent to each process once, so what it holds may be large.
    """

    def __init__(self, function: Callable[[T], R], count: int) -> None:
        self._function = function
        self._count = count
        # A fork of this process would copy the locks of its runtime's threads in whatever state
        # they are; the fork server has none.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["hipedge.screen"])
        self._pool = self._new_pool(count)

    def __enter__(self) -> Workers[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(
        self, items: Iterable[T], claim: Callable[[Sequence[T]], None]
    ) -> Iterator[list[tuple[T, R | Died]]]:
        """Yield results as they come, in batches and in no order, until each item has one.

        `claim` is called with items before any of them is handed to a process. When a process
        dies, the items in flight are tried again one by one, to learn which of them kills.
        """
        queue, pending = iter(items), dict[Future[R], T]()
        while True:
            fresh = list(islice(queue, self._count * IN_FLIGHT_PER_WORKER - len(pending)))
            if fresh:
                claim(fresh)
                pending |= {self._submit(item): item for item in fresh}
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                done, _ = wait(pending)
                self._replace_pool()
            finished, suspects = list[tuple[T, R | Died]](), list[T]()
            for future in done:
                item = pending.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(item)
                else:
                    finished.append((item, future.result()))
            if finished:
                yield finished
            for suspect in suspects:
                claim([suspect])
                yield [(suspect, self._alone(suspect))]

    def _submit(self, item: T) -> Future[R]:
        try:
            return self._pool.submit(_call, item)
        except BrokenProcessPool as error:
            future: Future[R] = Future()
            future.set_exception(error)
            return future

    def _alone(self, item: T) -> R | Died:
        with self._new_pool(1) as pool:
            try:
                result: R = pool.submit(_call, item).result()
                return result
            except BrokenProcessPool:
                return Died()

    def _replace_pool(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._new_pool(self._count)

    def _new_pool(self, count: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            count, mp_context=self._context, initializer=_begin, initargs=(self._function,)
        )


# Set once in each worker process, before its first item.
_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    # Ctrl-C is the main process's to handle: it records what is finished, then ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no orphan behind when the main process is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
