"""A backend in a child process, which is killed and replaced when its device is lost.

After a "sticky" CUDA error no result of the context can be trusted, and only the end of the process
releases the device (CUDA C++ Programming Guide).
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

from hipedge.backends import BACKENDS, Backend, Fingerprint, open_backend
from hipedge.backends.parity import check_parity
from hipedge.errors import BackendError, BackendLost, HipedgeError
from hipedge.model import ModelFolder
from hipedge.service_log import event
from hipedge.types import Scores

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_ATTEMPTS = 3
OPEN_TIMEOUT_S = 300.0
INFER_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Opener:
    """Opens a backend by name, in any process, and checks it against the golden samples."""

    name: str
    model: ModelFolder
    threads: int | None = None

    def __call__(self) -> Backend:
        """Return the backend; raise `BackendError` if it disagrees with the FP32 scores."""
        backend = open_backend(self.name, self.model, threads=self.threads)
        if BACKENDS[self.name].automatic:  # the test double has no model
            result = check_parity(backend, self.model)
            if not result.agrees:
                raise BackendError(
                    f"{self.name} disagrees with the model's golden scores: "
                    + "; ".join(result.faults)
                )
        return backend


class Inference:
    """The backend that `open_` returns, run by a child process that ends with the `with` block."""

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

        After a failure the process is killed, a new backend opened and checked, and the whole
        batch repeated: no result of the failed backend is used. Raises `BackendLost` after three
        attempts.
        """
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                if self._process is None:
                    self._start()
                scores: tuple[Scores, ...] = self._request(batch, self._timeout_s)
                return scores
            except BackendError as error:
                self._kill()
                reason = type(error).__name__
                event(logging.ERROR, "backend_failed", attempt=attempt, error=reason)
                time.sleep(0.1 * (attempt - 1))
        raise BackendLost(f"the backend failed {MAX_ATTEMPTS} times: see `hipedge doctor`")

    def _start(self) -> None:
        self._connection, remote = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._open, remote), daemon=True)
        process.start()
        remote.close()
        self._process = process
        try:
            self.fingerprint, self.max_batch = self._answer(self._open_timeout_s)
        except HipedgeError:
            self._kill()
            raise

    def _request(self, batch: NDArray[np.uint8], timeout_s: float) -> Any:
        with suppress(OSError):  # the process is dead, which `_answer` reports
            self._connection.send(batch)
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> Any:
        try:
            if not self._connection.poll(timeout_s):
                raise BackendLost(f"the backend did not answer within {timeout_s:g} s")
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


def _serve(open_: Callable[[], Backend], requests: connection.Connection[Any, Any]) -> None:
    """Score batches until the first error; runs in the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with open_() as backend:
            requests.send((backend.fingerprint, backend.max_batch))
            while True:
                requests.send(backend.infer(requests.recv()))
    except (EOFError, ConnectionError):
        pass  # the main process has ended or closed the connection
    except HipedgeError as error:
        requests.send(error)
    except BaseException as error:
        with suppress(OSError):
            requests.send(BackendLost(f"{type(error).__name__} in the backend"))
    # Without cleanup, which can hang on a broken device.
    os._exit(0)
