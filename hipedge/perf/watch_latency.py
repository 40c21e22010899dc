"""The latency of `hipedge watch`: from the arrival of a film to its row in the database.

Films arrive one by one, each after the one before has been recorded. The latency is measured from
the end of the settling time, `SETTLE_S` after the file is renamed into place, to the time in the
committed row. It includes the file-system event, the scans, the claim, preprocessing, inference
and all waits between them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hipedge.errors import InputError, State, StoreError
from hipedge.model import ModelFolder
from hipedge.perf.inference import Distribution
from hipedge.rules.decide import Rule
from hipedge.store.connection import utc_moment
from hipedge.store.queue import Queue
from hipedge.store.service import Service
from hipedge.store.states import TERMINAL
from hipedge.store.store import Store

SETTLE_S = 0.5
POLL_S = 0.02
TIMEOUT_S = 120.0


def measure_watch(
    films: Sequence[Path], *, model: ModelFolder, backend: str, rule: Rule
) -> Distribution:
    """Feed films to the service one after the other; return the latency of those screened.

    Raises `InputError` where the service does not start, or does not finish a film in two minutes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        incoming, db = folder / "incoming", folder / "cases.db"
        incoming.mkdir()
        service = start_service(incoming, db, model.path, backend)
        try:
            await_start(db)
            arrivals = dict[Path, float]()
            for number, film in enumerate(films):
                arriving, target = folder / "arriving", incoming / f"{number}{film.suffix}"
                shutil.copyfile(film, arriving)
                arrivals[target] = time.time()
                arriving.rename(target)
                await_end(db, number + 1)
            return Distribution.of(latencies_ms(db, arrivals, {model.model_id: rule}))
        finally:
            service.terminate()
            service.wait(60)


def start_service(incoming: Path, db: Path, model: Path, backend: str) -> subprocess.Popen[bytes]:
    """Start `hipedge watch` as a user does, with a short settling time."""
    command = [sys.executable, "-m", "hipedge", "watch", str(incoming), "--db", str(db)]
    settings = {
        "HIPEDGE_MODEL": str(model),
        "HIPEDGE_BACKEND": backend,
        "HIPEDGE_SETTLE_S": str(SETTLE_S),
        "HIPEDGE_METRICS_PORT": "0",
    }
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **settings})


def await_start(db: Path) -> None:
    """Wait until the service has completed its first scan."""
    _await(db, lambda store: Service(store).heartbeat() is not None)


def await_end(db: Path, count: int) -> None:
    """Wait until `count` files have reached a terminal state."""

    def is_finished(store: Store) -> bool:
        counts = Queue(store).counts()
        return sum(counts.get(state, 0) for state in TERMINAL) >= count

    _await(db, is_finished)


def _await(db: Path, holds: Callable[[Store], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(StoreError), Store(db, read_only=True) as store:  # not created yet, or locked
            if holds(store):
                return
        time.sleep(POLL_S)
    raise InputError(f"`hipedge watch` made no progress for {TIMEOUT_S:g} s: run `hipedge doctor`")


def latencies_ms(
    db: Path, arrivals: Mapping[Path, float], rules: Mapping[str, Rule]
) -> list[float]:
    """Return the latency of each screened film, from the end of its settling time."""
    latencies = list[float]()
    with Store(db, read_only=True) as store:
        for path, arrival in arrivals.items():
            for case in store.find(rules, str(path)):
                if case.state is State.SCREENED:
                    recorded = utc_moment(case.recorded_at)
                    latencies.append((recorded.timestamp() - arrival - SETTLE_S) * 1e3)
    if not latencies:
        raise InputError("none of these films was screened: name a folder with hip films")
    return latencies
