"""How soon a film that has come is in the database: p50 and p99 of `hipedge watch`.

    python -m benchmarks.watch_latency --model DIR [--backend fake] [--films 100] [--json FILE]

Copies of one uncompressed real film come in one by one. Counted is from the end of the settling
time, `settle_s` after the rename into place, to the moment in the committed row: so the event, the
looks, the claim, reading, inference and the waits between them are all in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.screen_syntaxes import copies

SETTLE_S = 0.5


def latencies_s(folder: Path, films: list[Path], options: list[str]) -> list[float]:
    """Let each film come in when the one before is recorded; return the time that each took."""
    incoming, db = folder / "incoming", folder / "cases.db"
    incoming.mkdir()
    command = [sys.executable, "-m", "hipedge", "watch", str(incoming), "--db", str(db)]
    settings = {"HIPEDGE_SETTLE_S": str(SETTLE_S), "HIPEDGE_METRICS_PORT": "0"}
    service = subprocess.Popen(
        [*command, *options], stderr=subprocess.DEVNULL, env={**os.environ, **settings}
    )
    try:
        await_rows(db, "select 1 from service", 1)
        moments = {}
        for number, film in enumerate(films, 1):
            moments[film.name] = time.time()
            film.rename(incoming / film.name)
            await_rows(db, "select 1 from files", number)
        rows = query(db, "select path, recorded_at, state from files")
    finally:
        service.terminate()
        service.wait(60)
    assert {state for _, _, state in rows} == {"screened"}
    return [
        datetime.fromisoformat(recorded_at.replace("Z", "+00:00")).timestamp()
        - moments[Path(path).name]
        - SETTLE_S
        for path, recorded_at, _ in rows
    ]


def await_rows(db: Path, sql: str, count: int) -> None:
    """Wait until a query gives so many rows."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(sqlite3.OperationalError):
            if db.exists() and len(query(db, sql)) >= count:
                return
        time.sleep(0.02)
    raise TimeoutError(sql)


def query(db: Path, sql: str) -> list[tuple[str, ...]]:
    """Return the rows of a query."""
    with contextlib.closing(sqlite3.connect(db, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def main() -> None:
    """Measure, and print the figures with their environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    shared = Path(os.environ.get("HIPEDGE_SHARED_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "films").mkdir()
        copies(shared / "wg04/RG2_UNC.dcm", folder / "films", arguments.films)
        options = ["--model", str(arguments.model), "--backend", arguments.backend]
        found = latencies_s(folder, sorted((folder / "films").iterdir()), options)
    percentiles = statistics.quantiles(found, n=100)
    result = {
        "films": len(found),
        "p50_ms": round(percentiles[49] * 1e3, 1),
        "p99_ms": round(percentiles[98] * 1e3, 1),
    }
    where = environment()
    for name, value in {**where, **result}.items():
        print(f"{name}: {value}")
    if arguments.json:
        content = {"environment": where, "backend": arguments.backend, **result}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
