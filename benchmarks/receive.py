"""What a film costs `hipedge receive`, beside dcmtk's `storescp +B` in the same run.

    python -m benchmarks.receive [--films 120] [--json benchmarks/results/receive.json]

dcmtk's `storescu` sends films of 15 MB (2500×3000 pixels, 12 of 16 bits, random, explicit little
endian) over the loopback address, in one association and in four at a time. CPU time is that of the
receiving process alone, user and system. `hipedge receive` syncs each film to the disk before it
acknowledges it; `storescp` does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from tests.dicom.dicom_films import film
from tests.network.node import AE_TITLE, need
from tests.pacs import loopback_environment

ASSOCIATIONS = (1, 4)
SHAPE = (2500, 3000)
ROUNDS = 3


@contextmanager
def hipedge(folder: Path) -> Iterator[tuple[int, int]]:
    """Run `hipedge receive`; yield its process identifier and its port."""
    command = [sys.executable, "-m", "hipedge", "receive", folder, "--port", "0"]
    variables = {**os.environ, "HIPEDGE_RESERVE_MB": "0"}
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = re.search(r"port=(\d+)", process.stderr.readline())
        assert port is not None
        try:
            yield process.pid, int(port[1])
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def storescp(folder: Path) -> Iterator[tuple[int, int]]:
    """Run `storescp +B`; yield its process identifier and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [need("storescp"), "+B", "-pdu", "131072", "-od", folder, "+uf", str(port)]
    scratch = folder.with_name("loopback")
    scratch.mkdir(exist_ok=True)
    with subprocess.Popen(command, env=loopback_environment(scratch)) as process:
        time.sleep(1)
        try:
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)


RECEIVERS = {"hipedge receive": hipedge, "storescp +B": storescp}


def send(port: int, files: list[Path], repeat: int) -> subprocess.Popen[bytes]:
    """Start to send all files, `repeat` times."""
    options = ["-aec", AE_TITLE, "--repeat", str(repeat), "127.0.0.1", str(port)]
    return subprocess.Popen([need("storescu"), *options, *map(str, files)])


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(name: str, folder: Path, files: list[Path], films: int, associations: int) -> dict:
    """Send `films` films to a receiver; return its figures."""
    folder.mkdir()
    with RECEIVERS[name](folder) as (pid, port):
        assert send(port, files[:1], 1).wait() == 0
        before, begin = cpu_s(pid), time.perf_counter()
        repeat = films // len(files) // associations
        senders = [send(port, files, repeat) for _ in range(associations)]
        assert [sender.wait() for sender in senders] == [0] * associations
        seconds, spent = time.perf_counter() - begin, cpu_s(pid) - before
    shutil.rmtree(folder)
    count = repeat * len(files) * associations
    return {
        "receiver": name,
        "associations": associations,
        "films": count,
        "cpu_ms_per_film": round(1000 * spent / count, 1),
        "films_per_s": round(count / seconds, 1),
    }


def dcmtk_version() -> str:
    """Return the first line of what `storescp --version` prints."""
    done = subprocess.run([need("storescp"), "--version"], capture_output=True, text=True)
    return done.stdout.split("\n", 1)[0].strip("$ ")


def main() -> None:
    """Measure, print as it goes, and write the figures with their environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=120)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = environment()
    for name, value in where.items():
        print(f"{name}: {value}")
    rng = np.random.default_rng(0)
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch, f"{number}.dcm") for number in range(5)]
        for file in files:
            file.write_bytes(film(rng.integers(0, 4096, SHAPE, np.uint16), bits=12))
        for turn in range(ROUNDS):
            for associations in ASSOCIATIONS:
                for name in RECEIVERS:
                    folder = Path(scratch, "spool")
                    run = measured(name, folder, files, arguments.films, associations)
                    runs.append({"round": turn, **run})
                    print(runs[-1], flush=True)
    if arguments.json:
        content = {
            "environment": where,
            "pynetdicom": version("pynetdicom"),
            "dcmtk": dcmtk_version(),
            "load_average": os.getloadavg()[0],
            "runs": runs,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
