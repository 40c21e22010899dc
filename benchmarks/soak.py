"""Feed `hipedge watch` for minutes, killing it and its workers at random; count what came of it.

    python -m benchmarks.soak --minutes 10 --model DIR [--rate 4] [--json FILE]

Drawn films, copies of real ones and malformed files come into a folder, some renamed into place,
some written slowly, some overwritten. Every few seconds the service, or one of its workers, is
sent SIGKILL; the service is then started again, as systemd would. In the end every fed content
must have exactly one row: fed = terminal, twice = 0, lost = 0.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.environment import environment
from hipedge.dicom.read import Payload
from hipedge.perf.throughput import process_tree

KILL_EVERY_S = (4.0, 16.0)
TERMINAL = ("screened", "not_applicable", "duplicate", "quarantined", "vanished")
LIMIT_S = 600


@dataclass
class Soak:
    """One run: the folder that is fed, the service, and what was done to it."""

    folder: Path
    model: Path
    chance: random.Random
    fed: dict[Path, str] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    service: subprocess.Popen[bytes] | None = None

    @property
    def db(self) -> Path:
        """The service's database."""
        return self.folder / "cases.db"

    def start(self) -> None:
        """Start the service, as impatient as the test is short."""
        settings = {
            "HIPEDGE_SETTLE_S": "0.5",
            "HIPEDGE_PATIENCE_S": "3",
            "HIPEDGE_RESCAN_S": "2",
            "HIPEDGE_METRICS_PORT": "0",
            "HIPEDGE_RESERVE_MB": "0",
            "HIPEDGE_WORKERS": "2",
            "HIPEDGE_WORKER_TIMEOUT_S": "20",
        }
        command = [sys.executable, "-m", "hipedge", "watch", str(self.folder / "incoming")]
        options = ["--db", str(self.db), "--model", str(self.model), "--backend", "fake"]
        with (self.folder / "log").open("ab") as log:
            self.service = subprocess.Popen(
                [*command, *options], stderr=log, env={**os.environ, **settings}
            )

    def feed(self, name: str, data: bytes) -> None:
        """Let a file come in one of the ways in which files come."""
        path = self.folder / "incoming" / name
        way = self.chance.choice(("renamed", "slow", "overwritten"))
        if way == "renamed":
            (self.folder / "arriving").write_bytes(data)
            (self.folder / "arriving").rename(path)
        else:
            if way == "overwritten":
                path.write_bytes(data[: len(data) // 2])
            with path.open("wb") as file:
                for start in range(0, len(data), 1 + len(data) // 4):
                    file.write(data[start : start + 1 + len(data) // 4])
                    file.flush()
                    time.sleep(0.02)
        self.fed[path] = Payload(data).content_hash

    def kill(self) -> None:
        """Kill the service, or one of its processes; start it again if it is dead."""
        assert self.service is not None
        # Not the fork server and the resource tracker, the first two, without which nothing starts.
        workers = sorted(process_tree(self.service.pid) - {self.service.pid})[2:]
        victim = self.chance.choice(["service", *["worker"] * bool(workers)])
        pid = self.service.pid if victim == "service" else self.chance.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[victim] += 1
        if victim == "service":
            self.service.wait()
        self.keep_up()

    def keep_up(self) -> None:
        """Do what systemd does."""
        assert self.service is not None
        if self.service.poll() is not None:
            if self.service.returncode != -signal.SIGKILL:
                self.kills["ended by itself"] += 1
            self.start()

    def states(self) -> dict[str, int]:
        """Return how many paths there are in each state."""
        with contextlib.closing(sqlite3.connect(self.db, timeout=30)) as connection:
            sql = "select state, count(*) from paths group by state"
            return dict(connection.execute(sql).fetchall())

    def settled(self) -> bool:
        """Say whether all that was fed has come to its end."""
        with contextlib.suppress(sqlite3.OperationalError):
            states = self.states()
            at_end = sum(states.get(state, 0) for state in TERMINAL)
            return at_end == sum(states.values()) and at_end >= len(self.fed)
        return False

    def result(self) -> dict[str, object]:
        """Count, from the database alone, what became of what was fed."""
        with contextlib.closing(sqlite3.connect(self.db)) as connection:
            rows = connection.execute("select content_hash, state, code from files").fetchall()
            ends = {
                path: (state, content_hash)
                for path, state, content_hash in connection.execute(
                    "select paths.path, paths.state, content_hash"
                    " from paths join files on file_id = id"
                )
            }
            (integrity,) = connection.execute("pragma integrity_check").fetchone()
            # A duplicate takes the place of no result: what it is one of has been screened.
            (orphans,) = connection.execute(
                "select count(*) from files as copy left join files as first"
                " on first.id = copy.duplicate_of and first.state = 'screened'"
                " where copy.state = 'duplicate' and first.id is null"
            ).fetchone()
            (without_hips,) = connection.execute(
                "select count(*) from files where state = 'screened'"
                " and not exists (select 1 from hips where file_id = files.id)"
            ).fetchone()
            (twice_scored,) = connection.execute(
                "select count(*) from (select 1 from hips group by file_id, side"
                " having count(*) > 1 and side <> 'unknown')"
            ).fetchone()
        contents = Counter(content_hash for content_hash, _, _ in rows if content_hash is not None)
        terminal = [path for path in self.fed if ends.get(str(path), ("",))[0] in TERMINAL]
        # A content whose reading killed its process has a row without a hash.
        lost = [
            path
            for path, content_hash in self.fed.items()
            if ends.get(str(path), ("", ""))[1] not in (content_hash, None)
        ]
        return {
            "fed": len(self.fed),
            "terminal": len(terminal),
            "lost": len(lost) + orphans + without_hips,
            "twice": sum(count > 1 for count in contents.values()) + twice_scored,
            "states": dict(Counter(state for _, state, _ in rows)),
            "worker_died": sum(code == "worker_died" for _, _, code in rows),
            "killed": dict(self.kills),
            "integrity_check": integrity,
        }


def films(shared: Path, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield for ever: drawn films, real ones under new UIDs, malformed ones; some of them twice."""
    real = sorted((shared / "wg04").glob("RG2_*.dcm"))
    malformed = sorted((shared / "malformed").rglob("*.dcm"))
    number = 0
    before = [("first.png", drawn(chance))]
    while True:
        number += 1
        kind = chance.random()
        if kind < 0.6:
            film = f"{number}.png", drawn(chance)
        elif kind < 0.75 and real:
            film = f"{number}.dcm", renamed(chance.choice(real).read_bytes(), number)
        elif kind < 0.95 and malformed:
            film = f"{number}.bad.dcm", chance.choice(malformed).read_bytes()
        else:
            film = f"{number}.again", chance.choice(before)[1]
        before = [*before[-20:], film]
        yield film


def drawn(chance: random.Random) -> bytes:
    """Return a small picture unlike any other."""
    noise = np.random.default_rng(chance.getrandbits(64)).integers(0, 255, (200, 240), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def renamed(film: bytes, number: int) -> bytes:
    """Return a DICOM film with another SOP Instance UID of the same length."""
    start = film.index(b"\x02\x00\x03\x00UI") + 8
    uid = film[start : start + int.from_bytes(film[start - 2 : start], "little")].rstrip(b"\0")
    return film.replace(uid, uid[:-6] + f"{100_000 + number}".encode())


def main() -> None:
    """Soak, print what came of it, and exit 1 where anything was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=4.0, help="files a second")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    shared = Path(os.environ.get("HIPEDGE_SHARED_DATA", "../shared/data"))
    where = environment()
    with tempfile.TemporaryDirectory() as scratch:
        soak = Soak(Path(scratch), arguments.model.absolute(), random.Random(arguments.seed))
        (soak.folder / "incoming").mkdir()
        soak.start()
        run(soak, films(shared, soak.chance), arguments.minutes * 60, arguments.rate)
        result = soak.result()
    for name, value in {**where, **result}.items():
        print(f"{name}: {value}")
    if arguments.json:
        asked = {name: getattr(arguments, name) for name in ("minutes", "rate", "seed")}
        content = {"environment": where, **asked, **result}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    sound = result["fed"] == result["terminal"] and result["integrity_check"] == "ok"
    sys.exit(0 if sound and result["lost"] == result["twice"] == 0 else 1)


def run(soak: Soak, source: Iterator[tuple[str, bytes]], seconds: float, rate: float) -> None:
    """Feed and kill for so long; then let the service come to rest, and end it."""
    start = time.monotonic()
    next_kill = start + KILL_EVERY_S[1]
    while (now := time.monotonic()) < start + seconds:
        soak.feed(*next(source))
        if now >= next_kill:
            soak.kill()
            next_kill = now + soak.chance.uniform(*KILL_EVERY_S)
        soak.keep_up()
        time.sleep(1 / rate)
    deadline = time.monotonic() + LIMIT_S
    while not soak.settled() and time.monotonic() < deadline:
        soak.keep_up()
        time.sleep(0.5)
    assert soak.service is not None
    soak.service.terminate()
    soak.service.wait(120)


if __name__ == "__main__":
    main()
