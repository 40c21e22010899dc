"""Files a second of `hipedge screen`, for each transfer syntax of one real radiograph.

    python -m benchmarks.screen_syntaxes --model DIR [--backend fake] [--copies 16]

Each syntax has a folder of copies, which differ in their UIDs so that none is a duplicate. The
figure is files over the wall time of the whole command, less the time of the same command on a
folder with one file. `benchmarks.peers` sets other loops beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.environment import environment

SYNTAXES = {
    "RG2_UNC": "explicit little endian",
    "RG2_RLE": "RLE lossless",
    "RG2_JPLL": "JPEG lossless",
    "RG2_JLSL": "JPEG-LS lossless",
    "RG2_JLSN": "JPEG-LS near-lossless",
    "RG2_J2KR": "JPEG 2000 lossless",
    "RG2_J2KI": "JPEG 2000",
    "RG2_JPLY": "JPEG extended, 12 bit",
}


def copies(film: Path, folder: Path, count: int) -> None:
    """Write `count` copies of a DICOM file that differ in their SOP Instance UID alone."""
    data = film.read_bytes()
    uid = _instance_uid(data)
    for number in range(count):
        other = uid[:-6] + f"{100_000 + number}".encode()
        (folder / f"{number:04}.dcm").write_bytes(data.replace(uid, other))


def _instance_uid(data: bytes) -> bytes:
    """Return Media Storage SOP Instance UID (0002,0003), explicit VR by PS3.10 7.1."""
    start = data.index(b"\x02\x00\x03\x00UI") + 6
    length = int.from_bytes(data[start : start + 2], "little")
    return data[start + 2 : start + 2 + length].rstrip(b"\0")


def seconds(folder: Path, options: list[str]) -> float:
    """Return how long `hipedge screen` takes on a folder, into a new database."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "hipedge", "screen", str(folder)]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--db", f"{scratch}/cases.db", *options], check=True, capture_output=True
        )
        return time.perf_counter() - start


def main() -> None:
    """Measure, print a table, and write the figures with their environment if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    shared = Path(os.environ.get("HIPEDGE_SHARED_DATA", "../shared/data"))
    options = ["--model", str(arguments.model), "--backend", arguments.backend]
    where = environment()
    for name, value in where.items():
        print(f"{name}: {value}")
    print(f"\n{'transfer syntax':26}{'files/s':>9}   (backend {arguments.backend})")
    figures = {}
    for stem, syntax in SYNTAXES.items():
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
            film = shared / "wg04" / f"{stem}.dcm"
            copies(film, Path(one), 1)
            copies(film, Path(many), 1 + arguments.copies)
            rates = [
                arguments.copies / (seconds(Path(many), options) - seconds(Path(one), options))
                for _ in range(arguments.repeats)
            ]
        figures[syntax] = rates
        print(f"{syntax:26}{statistics.median(rates):9.1f}")
    if arguments.json:
        content = {
            "environment": where,
            "command": " ".join(sys.argv[1:]),
            "files_per_second": figures,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
