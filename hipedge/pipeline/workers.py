"""The decoding processes: one function over many items, each in a process that may die of it.

A worker has a pipe in, a pipe out, memory for the large parts of its results, and limits that the
kernel holds it to. It works through its items in order, so that when it dies or hangs the first
one without a result is to blame.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from typing import Any, Generic, Protocol, TypeVar

from hipedge.errors import InstallationError
from hipedge.pipeline.slots import Slots

T = TypeVar("T")
R = TypeVar("R")

# Enough in flight that no worker waits for the main process, few enough to bound the memory and
# what is tried again after a crash.
IN_FLIGHT_PER_WORKER = 4
LEAST_CLAIM_PER_WORKER = 2
# Room for six crops of 384 pixels; the kernel gives no more of it than is used.
SLOT_BYTES = 1 << 20
# A worker may be killed at its start by chance; when they all are, something is wrong.
FAILED_STARTS = 5
# A start on a busy machine may take longer than an item is allowed to.
START_S = 60.0


@dataclass(frozen=True)
class Limits:
    """What a worker may use: memory on top of what it starts with, time for one item, items.

    Past its items a worker is replaced, which ends the leaks of whatever decoder.
    """

    memory_bytes: int = 2 << 30
    cpu_s: float = 60.0
    wall_s: float = 120.0
    items: int = 1000

    @classmethod
    def of(cls, memory_mb: int, timeout_s: float) -> Limits:
        """Return the limits in a site's units; the clock on the wall and the CPU's alike."""
        return cls(memory_bytes=memory_mb << 20, cpu_s=timeout_s, wall_s=timeout_s)


@dataclass(frozen=True)
class WorkerCrash:
    """In the place of a result: the process died while it worked on this item, or was killed."""


def start_fork_server(module: str) -> None:
    """Let the fork server import `module`, once for all workers, while this process goes on.

    One that has been started already stays as it is.
    """
    multiprocessing.set_forkserver_preload([__name__, module])
    forkserver.ensure_running()


class Sink(Protocol):
    """Where results go on to. While it `is_full`, nothing new is worked on."""

    @property
    def is_full(self) -> bool:
        """Whether it should be given no more for now."""

    @property
    def is_busy(self) -> bool:
        """Whether there is something in it."""

    def fileno(self) -> int:
        """Return what can be read from, by select(2), when it has something for its owner."""


class Workers(Generic[T, R]):
    """A pool of processes that all run `function`; opened by `with`.

    `function` is sent to each process once, so what it holds may be large. An exception of the
    function is raised here; one that is no `Exception`, such as the panic of a library in Rust,
    ends its process, whose state nobody knows then.
    """

    def __init__(self, function: Callable[[T], R], count: int, limits: Limits | None = None):
        self._function = function
        self._limits = limits or Limits()
        # A fork of this process would copy the locks of its runtime's threads in whatever state
        # they are; the fork server has none.
        self._context = multiprocessing.get_context("forkserver")
        start_fork_server(function.__module__)
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
        """How many items have been submitted and have no result yet."""
        return len(self._waiting) + sum(len(worker.items) for worker in self._workers)

    @property
    def room(self) -> int:
        """How many more items keep the workers busy."""
        return max(0, len(self._workers) * IN_FLIGHT_PER_WORKER - self.in_flight)

    def submit(self, items: Iterable[T]) -> None:
        """Hand items to the workers; each comes back by `collect`, once."""
        self._waiting.extend(items)
        self._hand_out()

    def collect(
        self, timeout_s: float | None = None, sink: Sink | None = None
    ) -> list[tuple[T, R | WorkerCrash]]:
        """Return what has finished, in no order; wait for something, at most `timeout_s`.

        It waits for the sink too. Raises `InstallationError` where the processes cannot even start.
        """
        waits_s = [worker.deadline - time.monotonic() for worker in self._workers if worker.items]
        if timeout_s is not None:
            waits_s.append(timeout_s)
        if not waits_s and sink is None:
            return []
        sources = [worker.results for worker in self._workers if worker.items]
        connection.wait(
            [*sources, *([] if sink is None else [sink.fileno()])],
            max(0.0, min(waits_s)) if waits_s else None,
        )
        finished = list[tuple[T, R | WorkerCrash]]()
        for place, worker in enumerate(self._workers):
            had_started = worker.has_started
            finished.extend(worker.read())
            if worker.has_started and not had_started:
                self._failed_starts = 0
            if worker.is_dead or worker.is_overdue:
                finished.extend(self._handle_crash(worker))
                self._workers[place] = self._new_worker()
            elif worker.is_spent:
                worker.kill()
                self._workers[place] = self._new_worker()
        self._hand_out()
        return finished

    def run(
        self,
        items: Iterable[T],
        claim: Callable[[Sequence[T]], None],
        sink: Sink | None = None,
    ) -> Iterator[list[tuple[T, R | WorkerCrash]]]:
        """Yield results as they come, in batches and in no order, until each item has one.

        `claim` is called with items before any of them is handed to a process, several at a time.
        An item whose process died is tried a second time: it may have been killed for something
        else. With a sink, batches are yielded until nothing is in it either; they may be empty.
        """
        queue, suspects = iter(items), list[T]()
        while True:
            is_full = sink is not None and sink.is_full
            if not is_full and self.room >= len(self._workers) * LEAST_CLAIM_PER_WORKER:
                fresh = list(islice(queue, self.room))
                if fresh:
                    claim(fresh)
                    self.submit(fresh)
                elif not self.in_flight and not (sink is not None and sink.is_busy):
                    return
            finished = list[tuple[T, R | WorkerCrash]]()
            for item, result in self.collect(sink=sink):
                if isinstance(result, WorkerCrash) and item not in suspects:
                    suspects.append(item)
                    claim([item])
                    self.submit([item])
                else:
                    finished.append((item, result))
            if finished or sink is not None:
                yield finished

    def _hand_out(self) -> None:
        while self._waiting:
            worker = min(self._workers, key=lambda one: (one.is_full, len(one.items)))
            if worker.is_full:
                return
            if worker.died_idle:  # of nothing that an item did
                place = self._workers.index(worker)
                worker.kill()
                worker = self._workers[place] = self._new_worker()
            worker.give(self._waiting.popleft())

    def _handle_crash(self, worker: _Worker[T, R]) -> Iterator[tuple[T, R | WorkerCrash]]:
        """Blame the first item of a dead worker, and give the others to another."""
        worker.kill()
        self._failed_starts += not worker.has_started
        if self._failed_starts >= FAILED_STARTS:
            raise InstallationError(
                "the decoding processes end as they start: see whether `hipedge doctor` runs, and "
                "whether worker_memory_mb is enough"
            )
        if worker.has_started and worker.items:
            yield worker.items.popleft(), WorkerCrash()
        self._waiting.extendleft(reversed(worker.items))

    def _new_worker(self) -> _Worker[T, R]:
        return _Worker(self._context, self._function, self._limits)


class _Worker(Generic[T, R]):
    """One process as the main process sees it; `items` are those without a result, in order."""

    def __init__(
        self, context: ForkServerContext, function: Callable[[T], R], limits: Limits
    ) -> None:
        self._limits = limits
        tasks, self._tasks = context.Pipe(duplex=False)
        self.results, results = context.Pipe(duplex=False)
        # One for each item in flight: whoever has a new item has fetched the result of an old one.
        self._slots = Slots(IN_FLIGHT_PER_WORKER, SLOT_BYTES)
        self._messages = 0
        self.items = deque[T]()
        self.has_started = False
        self.is_dead = False
        self._taken = 0
        self._since = time.monotonic()
        self._process = context.Process(
            target=_serve, args=(function, tasks, results, self._slots, limits), daemon=True
        )
        self._process.start()
        # The pipes must have no other holder, or the death of the process would not close them.
        tasks.close()
        results.close()

    @property
    def is_full(self) -> bool:
        return len(self.items) >= IN_FLIGHT_PER_WORKER or self._taken >= self._limits.items

    @property
    def is_spent(self) -> bool:
        return not self.items and self._taken >= self._limits.items

    @property
    def died_idle(self) -> bool:
        return not self.items and not self._process.is_alive()

    @property
    def deadline(self) -> float:
        """When the item at work has had its time, or the start."""
        wall_s = self._limits.wall_s
        return self._since + (wall_s if self.has_started else max(wall_s, START_S))

    @property
    def is_overdue(self) -> bool:
        return bool(self.items) and time.monotonic() >= self.deadline

    def give(self, item: T) -> None:
        if not self.items:
            self._since = time.monotonic()
        self.items.append(item)
        self._taken += 1
        with suppress(OSError):  # dead: seen by the next read
            self._tasks.send(item)

    def read(self) -> Iterator[tuple[T, R | WorkerCrash]]:
        """Yield what lies in the pipe, and notice its end."""
        while (message := self._receive()) is not None:
            has_failed, result = self._slots.unpack(self._messages, message)
            self._messages += 1
            self._since = time.monotonic()
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
        except (EOFError, OSError):  # the latter where it was killed amid a message
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
    """Answer item after item, in a worker process, until the pipe is closed."""
    _make_expendable(limits.memory_bytes)
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


def _make_expendable(memory_bytes: int) -> None:
    """Take this process's means to harm: memory beyond its limit, output, a life of its own."""
    # Ctrl-C and SIGTERM are the main process's to handle: it records what is finished, and kills.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: PTH123, SIM115
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory_bytes, hard))
    # A core file would hold the film, and decoders print what they find in it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _limit_cpu(cpu_s: float) -> None:
    """Let the kernel end this process after so much more CPU time (setrlimit(2), SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _end_with_parent() -> None:
    """Leave no orphan behind when the main process is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
