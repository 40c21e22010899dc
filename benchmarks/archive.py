"""Whether `hipedge archive` loses or repeats films when processes are killed, and its overhead.

    python -m benchmarks.archive kills --nodes 2 --films 2000 --kills 10 --json FILE
    python -m benchmarks.archive overhead --films 2000 --json FILE
    python -m benchmarks.archive slow-node --films 400 --json FILE

The nodes are those of `ray.cluster_utils.Cluster`: each has a raylet, an object store and workers
of its own, all on this machine. The films are small drawn pelvises, each copy under a UID of its
own, among them files that are damaged, no images, or copies of others. `kills` sends SIGKILL to the
driver, to raylets, to Ray's workers and to decoding processes at random moments; a raylet is
replaced by a new node, the driver is started again. Then the merged database is compared with that
of `hipedge screen`, row by row. `overhead` compares times and processor time of both commands, that
of the archive on a Ray of its own. `slow-node` slows one of two nodes down tenfold while it is at
work. With `--mark-hips` the hips of all films are given, so that a film takes a third of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pydicom

from benchmarks.environment import environment
from benchmarks.peers.films import SYNTAXES, Film, in_syntax, pelvis
from benchmarks.scaling import PIXEL_MM
from benchmarks.screen_syntaxes import copies
from hipedge.perf.throughput import process_tree
from hipedge.phantom.film import develop
from hipedge.phantom.write import write_film

NODE_BYTES = 150 << 20
STARTS = 10
SLOWNESS = 10
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S = 2.0
# A row of each table as it is compared: without numbers of rows, times of day and durations, and
# without how often a film was tried, which a killed decoder raises.
COMPARED = (
    "select f.content_hash, f.path, f.model_id, f.pipeline_version, f.state, f.stage, f.code,"
    " f.detail, f.marks, d.content_hash as original, f.pixel_hash, f.overview_hash,"
    " f.sop_instance_uid,"
    " f.study_instance_uid, f.sop_class_uid, f.transfer_syntax_uid, f.modality, f.view,"
    " f.laterality, f.orientation, f.inverted, f.height_px, f.width_px, f.row_spacing_mm,"
    " f.column_spacing_mm, f.age_years, f.sex, f.manufacturer, models.card, runs.backend"
    " from files f left join files d on d.id = f.duplicate_of join runs on runs.id = f.run_id"
    " join models on models.model_id = f.model_id",
    "select f.content_hash, h.side, h.centre_x_px, h.centre_y_px, h.x0_px, h.y0_px, h.x1_px,"
    " h.y1_px, h.confidence, h.mirrored, h.logits, h.maps, h.maps_shape, d.rule_id, r.rule,"
    " d.category,"
    " d.probabilities, d.flagged, d.flagged_for, d.uncertain, d.priority, d.operating_point"
    " from hips h join files f on f.id = h.file_id join decisions d on d.hip_id = h.id"
    " join rules r on r.rule_id = d.rule_id",
    "select p.path, p.attempts, p.state, f.content_hash"
    " from paths p join files f on f.id = p.file_id",
)


def write_films(folder: Path, count: int, distinct: int, seed: int = 1) -> None:
    """Write `count` small films of so many pelvises, and one file in 40 that is none.

    Films that are there already are used again.
    """
    if folder.exists():
        return
    made = folder.with_suffix(".partial")
    chance = random.Random(seed)
    damaged = max(4, count // 40)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(distinct):
            drawn = pelvis(seed + number, PIXEL_MM)
            plain = Film(Path(scratch) / f"{number}.dcm", looks=())
            write_film(plain.path, drawn, develop(drawn))
            film = in_syntax(plain, SYNTAXES["JPEG, 8 bit"], Path(scratch) / f"jpeg{number}").path
            part = made / f"{number:03}"
            part.mkdir(parents=True)
            mine = len(range(number, count - damaged, distinct))
            copies(film, part, mine)
    sound = sorted(made.rglob("*.dcm"))
    for number in range(damaged):
        data = chance.choice(sound).read_bytes()
        way = ("copy", "cut", "text", "empty")[number % 4]
        content = {"copy": data, "cut": data[: len(data) // 2], "text": b"x%d" % number}
        (made / f"zz-{number:05}-{way}").write_bytes(content.get(way, b""))
    made.rename(folder)


def mark_hips(films: Path, file: Path) -> Path:
    """Write a CSV that gives each half of a film as a hip, unless it is there; return its path.

    With it nothing is located, which takes two thirds of the time that such a small film needs.
    """
    if file.exists():
        return file
    lines = ["sop_instance_uid,side,x0,y0,x1,y1"]
    for path in sorted(films.rglob("*.dcm")):
        film = pydicom.dcmread(path, stop_before_pixels=True)
        width, height = film.Columns, film.Rows
        lines += [
            f"{film.SOPInstanceUID},right,0,0,{width // 2},{height}",
            f"{film.SOPInstanceUID},left,{width // 2},0,{width},{height}",
        ]
    file.write_text("\n".join(lines) + "\n")
    return file


def rows(db: Path) -> list[list[tuple[Any, ...]]]:
    """Return what two databases of the same films have in common, table by table, sorted."""
    with contextlib.closing(sqlite3.connect(db)) as connection:
        return [sorted(connection.execute(query).fetchall(), key=repr) for query in COMPARED]


def hipedge(*arguments: str | Path) -> list[str]:
    """Return a command of hipedge."""
    return [sys.executable, "-m", "hipedge", *map(str, arguments)]


@dataclass
class Nodes:
    """A cluster of nodes with one core each; the first is the head."""

    count: int

    def __enter__(self) -> Nodes:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self._workers = list[Any]()
        for _ in range(self.count):
            self.add()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()

    @property
    def address(self) -> str:
        """The address for `--address`."""
        return str(self.cluster.address)

    def add(self) -> None:
        """Add a node.

        A raylet ends when its agents need more than 15 s to start, as on a machine at full load,
        and Ray waits for it for 30 s: then another one is started.
        """
        for attempt in range(1, STARTS + 1):
            try:
                node = self.cluster.add_node(
                    num_cpus=1, object_store_memory=NODE_BYTES, include_dashboard=False
                )
                break
            except Exception as error:  # Ray raises no narrower one
                if "timed out" not in str(error) or attempt == STARTS:
                    raise
        if node is not self.cluster.head_node:
            self._workers.append(node)

    @property
    def last_raylet(self) -> int:
        """The process of the raylet of the last node that was added."""
        return raylet(self._workers[-1])

    def kill(self, chance: random.Random) -> None:
        """Kill the raylet of a node that is not the head's, and put another node in its place."""
        node = self._workers.pop(chance.randrange(len(self._workers)))
        os.kill(raylet(node), signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)
        self.add()


def raylet(node: Any) -> int:
    """Return the process of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


def victims(kind: str) -> list[int]:
    """Return the processes of a kind among the descendants of this one."""
    return [pid for pid in process_tree(os.getpid()) if _kind(pid) == kind]


def _kind(pid: int) -> str:
    """Return `worker` for an actor of hipedge's in Ray, `decoder` for a process that decodes."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        of_parent = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return ""
    if command.startswith(b"ray::MapWorker"):
        return "worker"
    return "decoder" if b"forkserver" in command and b"forkserver" in of_parent else ""


@dataclass
class Usage:
    """Time, processor time and memory of the descendants of this process while a block runs."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    resident_mb: list[float] = field(default_factory=list)
    _cpu: dict[int, float] = field(default_factory=dict)
    _before: dict[int, float] = field(default_factory=dict)
    _since: float = 0.0

    def start(self) -> None:
        """Note what was used before."""
        self._since = time.perf_counter()
        self._before = {pid: _cpu_s(pid) for pid in process_tree(os.getpid())}

    def sample(self) -> None:
        """Look at all processes; to be called every few seconds, and at the end."""
        resident = 0.0
        for pid in process_tree(os.getpid()) - {os.getpid()}:
            self._cpu[pid] = max(self._cpu.get(pid, 0.0), _cpu_s(pid))
            resident += _resident_mb(pid)
        self.resident_mb.append(round(resident, 1))
        self.seconds = time.perf_counter() - self._since
        self.cpu_s = sum(used - self._before.get(pid, 0.0) for pid, used in self._cpu.items())


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return 0.0


def _resident_mb(pid: int) -> float:
    """Return the resident memory of a process, without that which it shares."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * PAGE_BYTES / 1e6
    return 0.0


def watched(command: list[str], log: Path, usage: Usage) -> int:
    """Run a command to its end; return its exit status, and sample what is used."""
    usage.start()
    with (
        log.open("ab") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        while process.poll() is None:
            usage.sample()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLE_S)
    return process.returncode


@dataclass
class Killed:
    """A job whose processes were killed: what was killed, and how often its driver started."""

    kills: Counter[str] = field(default_factory=Counter)
    drivers: int = 0
    usage: Usage = field(default_factory=Usage)


def run_and_kill(
    command: list[str],
    log: Path,
    nodes: Nodes,
    *,
    kinds: list[str],
    every_s: tuple[float, float],
    seed: int,
) -> Killed:
    """Run a job to its end, and kill one process of each of `kinds` in turn at random moments."""
    chance, found = random.Random(seed), Killed()
    left = list(kinds)
    found.usage.start()
    while True:
        found.drivers += 1
        with log.open("ab") as output:
            driver = subprocess.Popen(command, stdout=output, stderr=output)
        due = time.monotonic() + chance.uniform(*every_s)
        while driver.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(SAMPLE_S)
            found.usage.sample()
            is_due = left and time.monotonic() >= due and driver.poll() is None
            if is_due and _strike(left[0], driver, nodes, chance):
                found.kills[left.pop(0)] += 1
                due = time.monotonic() + chance.uniform(*every_s)
        if driver.returncode == 0:
            return found
        if driver.returncode != -signal.SIGKILL:
            found.kills["ended by itself"] += 1
            if found.kills["ended by itself"] > len(kinds):
                raise RuntimeError(f"the driver ended with {driver.returncode}: see {log}")


def _strike(
    kind: str, driver: subprocess.Popen[bytes], nodes: Nodes, chance: random.Random
) -> bool:
    """Kill one process of a kind; return whether there was one."""
    if kind == "driver":
        driver.kill()
        driver.wait()
        return True
    if kind == "raylet":
        nodes.kill(chance)
        return True
    found = victims(kind)
    if not found:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(found), signal.SIGKILL)
    return True


def compared(ours: Path, reference: Path) -> dict[str, int]:
    """Return the number of rows by table, and of those that one database alone has."""
    figures = dict[str, int]()
    for name, mine, theirs in zip(
        ("files", "hips", "paths"), rows(ours), rows(reference), strict=True
    ):
        here, there = Counter(mine), Counter(theirs)
        figures[name] = len(mine)
        figures[f"{name} lost"] = (there - here).total()
        figures[f"{name} twice or other"] = (here - there).total()
    return figures


def kills(arguments: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """Kill processes of a job; compare what it leaves with the database of `screen`."""
    films, out, log = scratch / "films", scratch / f"out{arguments.nodes}", scratch / "log"
    write_films(films, arguments.films, arguments.distinct)
    options = options_of(arguments, films, scratch)
    kinds = [("driver", "raylet", "worker", "decoder")[k % 4] for k in range(arguments.kills)]
    random.Random(arguments.seed).shuffle(kinds)
    with Nodes(arguments.nodes) as nodes:
        job = hipedge("archive", "run", films, "--out", out, "--address", nodes.address)
        job += ["--shard-films", str(arguments.shard_films), *map(str, options)]
        found = run_and_kill(
            job, log, nodes, kinds=kinds, every_s=tuple(arguments.every_s), seed=arguments.seed
        )
    merged = scratch / f"merged{arguments.nodes}.db"
    for _ in range(2):  # the second changes nothing
        subprocess.run(hipedge("archive", "merge", out, "--db", merged), check=True)
    return {
        "nodes": arguments.nodes,
        "films": arguments.films,
        "shard_films": arguments.shard_films,
        "hips": "given" if arguments.mark_hips else "located",
        "kills": dict(found.kills),
        "drivers": found.drivers,
        **figures(found.usage),
        "rows": compared(merged, screened(films, scratch / "screened.db", options)),
    }


def screened(films: Path, db: Path, options: list[str | Path]) -> Path:
    """Return the database of `screen` for the same films, made once for all runs on them."""
    if not db.exists():
        partial = db.with_suffix(".partial")
        command = hipedge("screen", films, "--db", partial, "--workers", "1", *options)
        subprocess.run(command, check=True)
        partial.rename(db)
    return db


def figures(usage: Usage) -> dict[str, object]:
    """Return what a command took."""
    return {
        "seconds": round(usage.seconds, 1),
        "cpu_s": round(usage.cpu_s, 1),
        "most_resident_mb_by_tenth": tenths(usage.resident_mb),
    }


def overhead(arguments: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """Compare the time and processor time of `screen` and of `archive` on the same films."""
    films, log = scratch / "films", scratch / "log"
    write_films(films, arguments.films, arguments.distinct)
    options = options_of(arguments, films, scratch)
    measured = dict[str, Usage]()
    for turn in range(arguments.repeats):
        out, db = scratch / f"out{turn}", scratch / f"{turn}.db"
        sharded = ["--shard-films", str(arguments.shard_films), *options]
        commands = {
            "screen": hipedge("screen", films, "--db", db, *options),
            "archive": hipedge("archive", "run", films, "--out", out, *sharded),
            "merge": hipedge("archive", "merge", out, "--db", scratch / f"merged{turn}.db"),
        }
        for name, command in commands.items():
            usage = measured[f"{name} {turn}"] = Usage()
            if watched(command, log, usage):
                raise RuntimeError(f"{name} failed: see {log}")
    return {
        "films": arguments.films,
        "shard_films": arguments.shard_films,
        "runs": {name: figures(usage) for name, usage in measured.items()},
    }


def slow_node(arguments: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """Run a job on two nodes alike, and on two of which one becomes ten times slower."""
    films, log = scratch / "films", scratch / "log"
    write_films(films, arguments.films, arguments.distinct)
    options = options_of(arguments, films, scratch)
    found = dict[str, object]()
    for name, factor in (("alike", 1), ("one ten times slower", SLOWNESS)):
        out, usage = scratch / f"out-{factor}", Usage()
        with Nodes(2) as nodes:
            job = hipedge("archive", "run", films, "--out", out, "--address", nodes.address)
            job += ["--shard-films", str(arguments.shard_films), *map(str, options)]
            with slowed(nodes.last_raylet, factor, since=out / "outcomes"):
                if watched(job, log, usage):
                    raise RuntimeError(f"the job failed: see {log}")
        done = sorted(path.stat().st_mtime for path in out.glob("outcomes/*/*.parquet"))
        merged = scratch / f"merged-{factor}.db"
        subprocess.run(hipedge("archive", "merge", out, "--db", merged), check=True)
        found[name] = {
            **figures(usage),
            "seconds from the first shard to the last": round(done[-1] - done[0], 1),
            "rows": compared(merged, screened(films, scratch / "screened.db", options)),
        }
    return {"films": arguments.films, "shard_films": arguments.shard_films, "runs": found}


@contextlib.contextmanager
def slowed(raylet: int, factor: int, since: Path) -> Iterator[None]:
    """Stop the workers of a node for most of the time, once there is a file of outcomes.

    They run for one part in `factor` of each second.
    """
    ended = threading.Event()

    def beat() -> None:
        while not any(since.rglob("*.parquet")) and not ended.wait(0.1):
            pass
        while factor > 1 and not ended.is_set():
            signal_all(raylet, signal.SIGSTOP)
            ended.wait(1 - 1 / factor)
            signal_all(raylet, signal.SIGCONT)
            ended.wait(1 / factor)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def signal_all(raylet: int, number: signal.Signals) -> None:
    """Send a signal to all processes of a node but its raylet."""
    for pid in process_tree(raylet) - {raylet}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def options_of(arguments: argparse.Namespace, films: Path, scratch: Path) -> list[str | Path]:
    """Return the options that a job and `screen` have in common."""
    options: list[str | Path] = ["--backend", arguments.backend]
    if arguments.model:
        options += ["--model", arguments.model]
    if arguments.mark_hips:
        options += ["--hips", mark_hips(films, scratch / "hips.csv")]
    return options


def tenths(values: list[float]) -> list[float]:
    """Return the maximum of each tenth of a series."""
    edges = [len(values) * k // 10 for k in range(11)]
    return [max(values[a:b]) for a, b in pairwise(edges) if b > a]


@contextlib.contextmanager
def scratch_folder(kept: Path | None) -> Iterator[Path]:
    """Yield a folder for films and results: a temporary one, unless it is to be kept.

    Films and the database of `screen` in a folder that was kept are used again.
    """
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


MODES = {"kills": kills, "overhead": overhead, "slow-node": slow_node}


def main() -> None:
    """Measure, and write the figures with their environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=tuple(MODES))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--backend", default="fake")
    parser.add_argument("--films", type=int, default=2_000)
    parser.add_argument("--distinct", type=int, default=16)
    parser.add_argument("--shard-films", type=int, default=32)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--every-s", type=float, nargs=2, default=(5.0, 60.0))
    parser.add_argument("--mark-hips", action="store_true")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with scratch_folder(arguments.keep) as scratch:
        found = MODES[arguments.what](arguments, scratch)
    text = json.dumps({"environment": environment(), arguments.what: found}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
