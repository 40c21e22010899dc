"""How soon a film that has come is in the database: the latency of `hipedge watch`.

Films come in one by one, each when the one before is recorded. Counted is from the
end of the settling time, `SETTLE_S` after the rename into place, to the moment in the committed
row: the event, the looks, the claim, reading, inference and the waits between them are all in it.
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
from datetime import datetime
from pathlib import Path

from hipedge.errors import InputError, State, StoreError
from hipedge.model import ModelFolder
from hipedge.perf.inference import Distribution
from hipedge.rules.decide import Rule
from hipedge.store import TERMINAL, Queue, Service, Store

SETTLE_S = 0.5
POLL_S = 0.02
TIMEOUT_S = 120.0


def measure_watch(
    films: Sequence[Path], *, model: ModelFolder, backend: str, rule: Rule
) -> Distribution:
    """Let the films come in, one after the other; return how long those screened have taken.

    Raises `InputError` where the service does not start, or a film has no end in two minutes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        incoming, db = folder / "incoming", folder / "cases.db"
        incoming.mkdir()
        service = start_service(incoming, db, model.path, backend)
        try:
            await_start(db)
            moments = dict[Path, float]()
            for number, film in enumerate(films):
                arriving, target = folder / "arriving", incoming / f"{number}{film.suffix}"
                shutil.copyfile(film, arriving)
                moments[target] = time.time()
                arriving.rename(target)
                await_end(db, number + 1)
            return Distribution.of(latencies_ms(db, moments, {model.model_id: rule}))
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
    """Wait until so many files have come to their end."""
    _await(db, lambda store: sum(Queue(store).counts().get(one, 0) for one in TERMINAL) >= count)


def _await(db: Path, holds: Callable[[Store], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(StoreError), Store(db, read_only=True) as store:  # not made yet, or at work
            if holds(store):
                return
        time.sleep(POLL_S)
    raise InputError(f"`hipedge watch` did nothing for {TIMEOUT_S:g} s: see `hipedge doctor`")


def latencies_ms(db: Path, moments: Mapping[Path, float], rules: Mapping[str, Rule]) -> list[float]:
    """Return how long after its settling each film was recorded, of those that were screened."""
    found = list[float]()
    with Store(db, read_only=True) as store:
        for path, moment in moments.items():
            for case in store.find(rules, str(path)):
                if case.state is State.SCREENED:
                    recorded = datetime.fromisoformat(case.recorded_at.replace("Z", "+00:00"))
                    found.append((recorded.timestamp() - moment - SETTLE_S) * 1e3)
    if not found:
        raise InputError("none of these films was screened: name a folder with hip films")
    return found
