"""A pool of expendable worker processes: a crash or hang of one costs no other item.

A worker has a pipe for items, a pipe for results, shared memory for large buffers, and limits that
the kernel enforces. It processes its items in order, so that when it dies or hangs, the first item
without a result is the cause.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.popen_forkserver  # else the first process imports it, while threads import
import os
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count, islice
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from hipedge.errors import InstallationError
from hipedge.pipeline.fork_server import start_fork_server
from hipedge.pipeline.slots import Slots

T = TypeVar("T")
R = TypeVar("R")

# Enough that no worker waits for the main process, few enough to bound the memory and the number
# of items that are repeated after a crash.
IN_FLIGHT_PER_WORKER = 4
MIN_CLAIM_PER_WORKER = 2
# Six crops of 384 pixels fit; the kernel allocates only the pages that are used.
SLOT_BYTES = 1 << 20
# A single worker may be killed as it starts; this many in a row are a broken installation.
MAX_FAILED_STARTS = 5
# mallopt(3): of freed memory a worker keeps so much, and asks the kernel for no smaller parts.
KEPT_BYTES = 64 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# On a busy machine a start may take longer than the limit for an item.
START_S = 60.0

_main_module = threading.Lock()  # held while it is replaced, since threads may start workers


@dataclass(frozen=True)
class Limits:
    """Limits of a worker.

    `memory_bytes` is the address space in addition to that at its start; `cpu_s` and `wall_s` are
    for one item. After `items` items a worker is replaced, which bounds memory leaks in decoders.
    """

    memory_bytes: int = 2 << 30
    cpu_s: float = 60.0
    wall_s: float = 120.0
    items: int = 1000

    @classmethod
    def of(cls, memory_mb: int, timeout_s: float) -> Limits:
        """Return limits from a site's settings: one timeout for CPU time and wall-clock time."""
        return cls(memory_bytes=memory_mb << 20, cpu_s=timeout_s, wall_s=timeout_s)


@dataclass(frozen=True)
class WorkerCrash:
    """The result of an item whose process died or was killed while it worked on it."""


class Waker(Protocol):
    """What ends the wait for results, besides a result."""

    def fileno(self) -> int:
        """Return a descriptor that select(2) reports readable when it has something to do."""


class Sink(Waker, Protocol):
    """The next stage of the pipeline. While it `is_full`, no new items are started.

    It wakes its owner when it has output.
    """

    @property
    def is_full(self) -> bool:
        """Whether it accepts no more results for now."""

    @property
    def is_busy(self) -> bool:
        """Whether it holds unfinished work."""

    def flush(self) -> None:
        """Finish what it holds without waiting for more. Called again while no item is read."""


class Workers(Generic[T, R]):
    """A pool of processes that all run `function`; a context manager.

    `function` is pickled once per process, so it may hold large data. The processes do not import
    the main module, unless `function` itself is of it; so nothing that they are given may be. Where
    `function` has an attribute `imports`, these modules are imported before it is first called. Its
    exceptions are raised in this process. A `BaseException` that is no `Exception`, such as a panic
    of a Rust library, ends the worker, whose state is then unknown. Raises `InstallationError`
    where the fork server dies of its imports.
    """

    def __init__(self, function: Callable[[T], R], count: int, limits: Limits | None = None):
        self._function = function
        self._limits = limits or Limits()
        self._context = multiprocessing.get_context("forkserver")
        start_fork_server(*imports_of(function))
        self._waiting = deque[T]()
        self._failed_starts = 0
        self._workers = [self._new_worker() for _ in range(count)]

    def __enter__(self) -> Workers[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()

    @property
    def in_flight(self) -> int:
        """The number of submitted items without a result."""
        return len(self._waiting) + sum(len(worker.items) for worker in self._workers)

    @property
    def room(self) -> int:
        """The number of further items that keep the workers busy."""
        return max(0, len(self._workers) * IN_FLIGHT_PER_WORKER - self.in_flight)

    def submit(self, items: Iterable[T]) -> None:
        """Queue items for the workers. `collect` returns each of them once."""
        self._waiting.extend(items)
        self._assign()

    def collect(
        self, timeout_s: float | None = None, waker: Waker | None = None
    ) -> list[tuple[T, R | WorkerCrash]]:
        """Return finished items in no particular order, after waiting up to `timeout_s` for one.

        `waker` ends the wait too. Raises `InstallationError` where workers repeatedly die as they
        start.
        """
        waits_s = [worker.deadline - time.monotonic() for worker in self._workers if worker.items]
        if timeout_s is not None:
            waits_s.append(timeout_s)
        if not waits_s and waker is None:
            return []
        sources = [worker.results for worker in self._workers if worker.items]
        connection.wait(
            [*sources, *([] if waker is None else [waker.fileno()])],
            max(0.0, min(waits_s)) if waits_s else None,
        )
        finished = list[tuple[T, R | WorkerCrash]]()
        for index, worker in enumerate(self._workers):
            had_started = worker.has_started
            finished.extend(worker.read())
            if worker.has_started and not had_started:
                self._failed_starts = 0
            if worker.is_dead or worker.is_overdue:
                finished.extend(self._handle_crash(worker))
                self._workers[index] = self._new_worker()
            elif worker.is_spent:
                worker.kill()
                self._workers[index] = self._new_worker()
        self._assign()
        return finished

    def run(
        self,
        items: Iterable[T],
        claim: Callable[[Sequence[T]], None],
        sink: Sink | None = None,
    ) -> Iterator[list[tuple[T, R | WorkerCrash]]]:
        """Yield batches of results in no particular order, until every item has one.

        `claim` is called with several items at a time, before any of them is given to a worker. An
        item whose worker died is tried once more, since the worker may have died of another cause.
        With a sink, batches are yielded until it is not busy either; they may be empty.
        """
        queue, retried = iter(items), list[T]()
        while True:
            is_full = sink is not None and sink.is_full
            if not is_full and self.room >= len(self._workers) * MIN_CLAIM_PER_WORKER:
                new = list(islice(queue, self.room))
                if new:
                    claim(new)
                    self.submit(new)
                elif not self.in_flight and not (sink is not None and sink.is_busy):
                    return
            if sink is not None and not self.in_flight:
                sink.flush()
            finished = list[tuple[T, R | WorkerCrash]]()
            for item, result in self.collect(waker=sink):
                if isinstance(result, WorkerCrash) and item not in retried:
                    retried.append(item)
                    claim([item])
                    self.submit([item])
                else:
                    finished.append((item, result))
            if finished or sink is not None:
                yield finished

    def _assign(self) -> None:
        while self._waiting:
            worker = min(self._workers, key=lambda w: (w.is_full, len(w.items)))
            if worker.is_full:
                return
            if worker.died_idle:  # no item is the cause
                index = self._workers.index(worker)
                worker.kill()
                worker = self._workers[index] = self._new_worker()
            worker.send(self._waiting.popleft())

    def _handle_crash(self, worker: _Worker[T, R]) -> Iterator[tuple[T, R | WorkerCrash]]:
        """Yield a `WorkerCrash` for the first item of a dead worker, and queue the others again."""
        worker.kill()
        self._failed_starts += not worker.has_started
        if self._failed_starts >= MAX_FAILED_STARTS:
            raise InstallationError(
                "the worker processes die as they start: check whether `hipedge doctor` runs, and "
                "whether worker_memory_mb is enough"
            )
        if worker.has_started and worker.items:
            yield worker.items.popleft(), WorkerCrash()
        self._waiting.extendleft(reversed(worker.items))

    def _new_worker(self) -> _Worker[T, R]:
        try:
            return _Worker(self._context, self._function, self._limits)
        except (EOFError, ConnectionError) as error:
            raise InstallationError(
                "no worker process can be started, since what they need cannot be imported: see "
                "above, and check whether `hipedge doctor` runs"
            ) from error


class _Worker(Generic[T, R]):
    """The main process's end of one worker; `items` are those without a result, in order."""

    def __init__(
        self, context: ForkServerContext, function: Callable[[T], R], limits: Limits
    ) -> None:
        self._limits = limits
        tasks, self._tasks = context.Pipe(duplex=False)
        self.results, results = context.Pipe(duplex=False)
        # One per item in flight: a new item is sent only after the result of an old one was read.
        self._slots = Slots(IN_FLIGHT_PER_WORKER, SLOT_BYTES)
        self._messages = 0
        self.items = deque[T]()
        self.has_started = False
        self.is_dead = False
        self._received = 0
        self._started_at = time.monotonic()
        self._process = context.Process(
            target=_serve, args=(function, tasks, results, self._slots, limits), daemon=True
        )
        with main_module_left_out(function):
            self._process.start()
        # Were the pipes open here too, the death of the worker would not close them.
        tasks.close()
        results.close()

    @property
    def is_full(self) -> bool:
        return len(self.items) >= IN_FLIGHT_PER_WORKER or self._received >= self._limits.items

    @property
    def is_spent(self) -> bool:
        return not self.items and self._received >= self._limits.items

    @property
    def died_idle(self) -> bool:
        return not self.items and not self._process.is_alive()

    @property
    def deadline(self) -> float:
        """When the time for the current item, or for the start, is over."""
        wall_s = self._limits.wall_s
        return self._started_at + (wall_s if self.has_started else max(wall_s, START_S))

    @property
    def is_overdue(self) -> bool:
        return bool(self.items) and time.monotonic() >= self.deadline

    def send(self, item: T) -> None:
        if not self.items:
            self._started_at = time.monotonic()
        self.items.append(item)
        self._received += 1
        with suppress(OSError):  # it is dead, which the next read notices
            self._tasks.send(item)

    def read(self) -> Iterator[tuple[T, R | WorkerCrash]]:
        """Yield the results in the pipe; set `is_dead` at its end."""
        while (message := self._receive()) is not None:
            has_failed, result = self._slots.unpack(self._messages, message)
            self._messages += 1
            self._started_at = time.monotonic()
            if not self.has_started:
                self.has_started = True
                continue
            item = self.items.popleft()
            if has_failed:
                raise result
            yield item, result

    def _receive(self) -> bytes | None:
        try:
            return self.results.recv_bytes() if self.results.poll() else None
        except (EOFError, OSError):  # the latter where it was killed within a message
            self.is_dead = True
            return None

    def kill(self) -> None:
        if self._tasks.closed:
            return
        self._process.kill()
        self._process.join()
        self._process.close()
        self._tasks.close()
        self.results.close()
        self._slots.close()


def _serve(
    function: Callable[[Any], Any],
    tasks: connection.Connection[Any, Any],
    results: connection.Connection[Any, Any],
    slots: Slots,
    limits: Limits,
) -> None:
    """Process items in a worker process, until the pipe is closed."""
    for module in imports_of(function):
        # The fork server has imported them, unless it was started for another function. As there,
        # what cannot be imported is an error only for a call that needs it.
        with suppress(ImportError):
            import_module(module)
    sandbox(limits.memory_bytes)
    keep_freed_memory()
    results.send_bytes(slots.pack(0, (False, None)))  # started
    for number in count(1):
        try:
            item = tasks.recv()
        except EOFError:
            return
        _limit_cpu(limits.cpu_s)
        try:
            reply = False, function(item)
        except Exception as error:
            reply = True, error
        except BaseException:
            os._exit(1)
        results.send_bytes(slots.pack(number, reply))


@contextmanager
def main_module_left_out(function: Callable[..., object]) -> Iterator[None]:
    """Let processes that are started within the block not import the main module.

    A script without `if __name__ == "__main__"` would run again in each of them, and there start
    processes too. Nothing changes where `function` is of the main module, and so needs it.
    """
    with _main_module:
        main = sys.modules["__main__"]
        if function.__module__ != main.__name__:
            sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def imports_of(function: Callable[..., object]) -> tuple[str, ...]:
    """Return the modules that `function` names as its imports, or else the one that it is in."""
    modules: tuple[str, ...] = getattr(function, "imports", (function.__module__,))
    return modules


def sandbox(memory_bytes: int) -> None:
    """Sandbox this process: limit its memory, discard its output, end it with its parent.

    `memory_bytes` is the address space in addition to that at present.
    """
    # The main process handles Ctrl-C and SIGTERM: it records finished work and kills its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: PTH123, SIM115
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory_bytes, hard))
    # A core file would hold the film, and decoders print parts of it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def keep_freed_memory() -> None:
    """Let malloc keep freed memory, since the next item needs as much.

    Given back, each page of it would be cleared and mapped again. Only glibc has mallopt(3).
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def _limit_cpu(cpu_s: float) -> None:
    """Let the kernel end this process after `cpu_s` more of CPU time (setrlimit(2), SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _end_with_parent() -> None:
    """End this process when the main process is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
