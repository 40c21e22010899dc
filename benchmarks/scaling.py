"""Whether `hipedge screen` stays as fast and as small over 100, 1,000 and 10,000 films.

    python -m benchmarks.scaling --model DIR [--json benchmarks/results/scaling.json]

The films are one drawn pelvis, 438×533 pixels in JPEG, each under a UID of its own; they are made
for each run and deleted after it. The network is the fake backend, so that what grows or slows down
is hipedge. Rates are of each tenth of a run, by the moments in the database. Memory is resident and
summed over all processes of a run, so pages that they share count more than once. Then the same
thousand films with one worker to as many as there are cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from benchmarks.peers.films import SYNTAXES, Film, in_syntax, pelvis
from benchmarks.screen_syntaxes import copies
from hipedge.perf.throughput import process_tree
from hipedge.phantom.film import develop
from hipedge.phantom.write import write_film

COUNTS = (100, 1_000, 10_000)
PIXEL_MM = 0.8  # so that a film is small
PARTS = 10
SAMPLE_S = 0.5
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Watched:
    """A run of `hipedge screen`: how long it took, and the memory of its processes, over time."""

    seconds: float = 0.0
    resident_mb: list[float] = field(default_factory=list)
    processes: int = 0


def small_film(folder: Path) -> Path:
    """Write one small pelvis, in 8-bit JPEG; return its path."""
    drawn = pelvis(1, PIXEL_MM)
    plain = Film(folder / "film.dcm", looks=())
    write_film(plain.path, drawn, develop(drawn))
    return in_syntax(plain, SYNTAXES["JPEG, 8 bit"], folder / "jpeg").path


def screened(folder: Path, db: Path, model: Path, workers: int) -> Watched:
    """Screen a folder into a new database, and watch the memory of all its processes."""
    command = [sys.executable, "-m", "hipedge", "screen", str(folder), "--db", str(db)]
    options = ["--model", str(model), "--backend", "fake", "--workers", str(workers)]
    found = Watched()
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        while run.poll() is None:
            resident = [_resident_mb(pid) for pid in process_tree(run.pid)]
            found.resident_mb.append(round(sum(resident), 1))
            found.processes = max(found.processes, len(resident))
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(SAMPLE_S)
    found.seconds = time.perf_counter() - start
    if run.returncode:
        raise RuntimeError(f"hipedge screen ended with {run.returncode}")
    return found


def _resident_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6
    return 0.0


def recorded(db: Path) -> list[float]:
    """Return when each film was recorded, in seconds from the first, for those screened."""
    with contextlib.closing(sqlite3.connect(db)) as connection:
        rows = connection.execute(
            "select recorded_at from files where state = 'screened' order by recorded_at"
        ).fetchall()
    moments = [datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() for (at,) in rows]
    return [moment - moments[0] for moment in moments]


def rates(moments: list[float], parts: int = PARTS) -> list[float]:
    """Return films a second in each of so many equal parts of a run."""
    edges = np.linspace(0, len(moments) - 1, parts + 1).round().astype(int)
    spans = np.diff(np.asarray(moments)[edges])
    return [round(float(rate), 1) for rate in np.diff(edges) / np.maximum(spans, 1e-3)]


def measured(film: Path, count: int, workers: int, model: Path) -> dict[str, object]:
    """Make so many films, screen them, delete them; return the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, db = Path(scratch) / "films", Path(scratch) / "cases.db"
        folder.mkdir()
        copies(film, folder, count)
        run = screened(folder, db, model, workers)
        moments = recorded(db)
        database_mb = db.stat().st_size / 1e6
    if len(moments) != count:
        raise RuntimeError(f"of {count} films {len(moments)} were screened")
    return {
        "films": count,
        "workers": workers,
        "seconds": round(run.seconds, 2),
        "films_per_s": round((count - 1) / moments[-1], 1),
        "films_per_s_by_part": rates(moments),
        "processes": run.processes,
        "resident_mb": run.resident_mb,
        "database_mb": round(database_mb, 2),
    }


def main() -> None:
    """Measure, print as it goes, and write the figures with their environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--films", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--workers-films", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = environment()
    for name, value in where.items():
        print(f"{name}: {value}")
    cores = len(os.sched_getaffinity(0))
    plan = [(count, cores) for count in arguments.films]
    plan += [(arguments.workers_films, workers) for workers in range(1, cores + 1)]
    content = {
        "environment": where,
        "load_average": os.getloadavg()[0],
        "command": shlex.join(sys.argv[1:]),
        "pixel_mm": PIXEL_MM,
    }
    runs: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        film = small_film(Path(scratch))
        for count, workers in plan:
            run = measured(film, count, workers, arguments.model)
            runs.append(run)
            print(
                f"{count:6} films, {workers} workers: {run['films_per_s']} films/s, by part"
                f" {run['films_per_s_by_part']}, at most {max(run['resident_mb'])} MB resident",
                flush=True,
            )
            if arguments.json:
                arguments.json.write_text(json.dumps({**content, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
