"""A backend in a process of its own: a lost GPU is left behind by killing it.

After a CUDA error nothing that its context says can be trusted, and only the end of the process
gives the device back (CUDA C++ Programming Guide, "sticky" errors).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.backends import BACKENDS, Backend, Fingerprint, open_backend, parity
from hipedge.errors import BackendError, BackendLost, HipedgeError
from hipedge.model import ModelFolder
from hipedge.types import Scores
from hipedge.watch.logging import event

if TYPE_CHECKING:
    from typing_extensions import Self

TRIES = 3
OPEN_TIMEOUT_S = 300.0
INFER_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Opener:
    """Opens a backend of the table, in whatever process, and holds it to the golden samples."""

    name: str
    model: ModelFolder
    threads: int | None = None

    def __call__(self) -> Backend:
        """Return the backend; raise `BackendError` where it disagrees with the FP32 scores."""
        backend = open_backend(self.name, self.model, threads=self.threads)
        if BACKENDS[self.name].automatic:  # the test double has no model
            found = parity.check_parity(backend, self.model)
            if not found.agrees:
                raise BackendError(
                    f"{self.name} disagrees with the model's golden scores: "
                    + "; ".join(found.faults)
                )
        return backend


class Inference:
    """A backend as `open_` returns it, run by another process; opened by `with`."""

    fingerprint: Fingerprint
    max_batch: int

    def __init__(
        self,
        open_: Callable[[], Backend],
        *,
        timeout_s: float = INFER_TIMEOUT_S,
        open_timeout_s: float = OPEN_TIMEOUT_S,
    ) -> None:
        self._open = open_
        self._timeout_s = timeout_s
        self._open_timeout_s = open_timeout_s
        self._context = multiprocessing.get_context("forkserver")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Scores, ...]:
        """Score a batch as `Backend.infer` does.

        Where that fails, the process is killed, another one opened and checked, and the whole
        batch done again: nothing from the broken one is used. Raises `BackendLost` after three
        tries.
        """
        for attempt in range(1, TRIES + 1):
            try:
                if self._process is None:
                    self._start()
                scores: tuple[Scores, ...] = self._ask(batch, self._timeout_s)
                return scores
            except BackendError as error:
                self._kill()
                reason = type(error).__name__
                event(logging.ERROR, "backend_failed", attempt=attempt, error=reason)
                time.sleep(0.1 * (attempt - 1))
        raise BackendLost(f"the backend failed {TRIES} times: see `hipedge doctor`")

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._open, theirs), daemon=True)
        process.start()
        theirs.close()
        self._process = process
        try:
            self.fingerprint, self.max_batch = self._answer(self._open_timeout_s)
        except HipedgeError:
            self._kill()
            raise

    def _ask(self, question: object, timeout_s: float) -> Any:
        with suppress(OSError):  # dead: the answer tells
            self._connection.send(question)
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> Any:
        try:
            if not self._connection.poll(timeout_s):
                raise BackendLost(f"the backend has not answered within {timeout_s:g} s")
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise BackendLost("the backend's process died") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
            self._connection.close()


def _serve(open_: Callable[[], Backend], questions: connection.Connection[Any, Any]) -> None:
    """Answer batches until the first error, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with open_() as backend:
            questions.send((backend.fingerprint, backend.max_batch))
            while True:
                questions.send(backend.infer(questions.recv()))
    except (EOFError, ConnectionError):
        pass  # the main process has ended, or wants no more
    except HipedgeError as error:
        questions.send(error)
    except BaseException as error:
        with suppress(OSError):
            questions.send(BackendLost(f"{type(error).__name__} in the backend"))
    # Without cleaning up: on a broken device that can hang.
    os._exit(0)
