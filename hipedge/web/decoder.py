"""Decoding for the viewer, in processes with limits of memory and time.

A film that crashes its decoder, or takes too long, costs one answer; the server goes on.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from concurrent.futures import Future
from contextlib import suppress

from hipedge.errors import HipedgeError
from hipedge.pipeline.workers import Limits, WorkerCrash, Workers
from hipedge.web.levels import Level, LevelRequest, Unavailable, read_level

# Requests beyond it are refused: they would wait longer than anybody looks at an empty page.
MAX_WAITING = 64
CACHE_BYTES = 256 << 20

Decoded = Level | Unavailable


class Busy(HipedgeError):
    """More films are asked for than can be decoded: try again."""


class Decoder:
    """A pool of decoding processes, which any thread may ask; a context manager.

    The newest levels are kept in memory, up to `cache_bytes`. A film that could not be shown is
    tried again, since it may be back.
    """

    def __init__(self, processes: int, limits: Limits, cache_bytes: int = CACHE_BYTES) -> None:
        self._processes, self._limits, self._cache_bytes = processes, limits, cache_bytes
        self._lock = threading.Lock()
        self._requests = deque[LevelRequest]()
        self._futures: dict[LevelRequest, Future[Decoded]] = {}
        self._cache: OrderedDict[LevelRequest, Level] = OrderedDict()
        self._is_closing = False
        self._wake, self._woken = os.pipe()[::-1]
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)

    def __enter__(self) -> Decoder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_closing = True
        self._notify()
        self._thread.join()
        os.close(self._wake)
        os.close(self._woken)

    def submit(self, request: LevelRequest) -> Future[Decoded]:
        """Return the future of a level. Raises `Busy`."""
        with self._lock:
            if request in self._cache:
                self._cache.move_to_end(request)
                done = Future[Decoded]()
                done.set_result(self._cache[request])
                return done
            if request in self._futures:
                return self._futures[request]
            if self._is_closing or len(self._futures) >= MAX_WAITING:
                raise Busy("too many films are being decoded: try again in a moment")
            future = self._futures[request] = Future[Decoded]()
            # It is shared by all who ask for this level: none of them may cancel it.
            future.set_running_or_notify_cancel()
            self._requests.append(request)
        self._notify()
        return future

    def fileno(self) -> int:
        """Return the descriptor that ends the wait for results: a new request is there."""
        return self._woken

    def _notify(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full, so the thread will wake up
            os.write(self._wake, b"x")

    def _run(self) -> None:
        try:
            with Workers(read_level, self._processes, self._limits) as workers:
                while not self._is_closing:
                    workers.submit(self._take())
                    for request, result in workers.collect(waker=self):
                        self._finish(request, result)
                    with suppress(BlockingIOError):
                        os.read(self._woken, 4096)
        except Exception as error:
            self._fail(error)
            raise
        self._fail(Busy("the server is stopping"))

    def _take(self) -> list[LevelRequest]:
        with self._lock:
            taken = list(self._requests)
            self._requests.clear()
            return taken

    def _finish(self, request: LevelRequest, result: Decoded | WorkerCrash) -> None:
        if isinstance(result, WorkerCrash):
            result = Unavailable("the decoder crashed on this film, or exceeded its limits")
        with self._lock:
            future = self._futures.pop(request)
            if isinstance(result, Level):
                self._cache[request] = result
                while sum(len(level.data) for level in self._cache.values()) > self._cache_bytes:
                    self._cache.popitem(last=False)
        future.set_result(result)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._is_closing = True
            futures = list(self._futures.values())
            self._futures.clear()
        for future in futures:
            future.set_exception(error)
