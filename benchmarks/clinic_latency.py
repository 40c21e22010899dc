"""How long a film takes from a modality to its picture in PACS.

    python -m benchmarks.clinic_latency [--films 100] [--json benchmarks/results/latency.json]

dcmtk's `storescu` sends a film to `hipedge receive`; `hipedge watch` screens it with the reference
model, and sends a secondary capture and a structured report to an Orthanc on the same machine. The
latency begins when `storescu` is started, and ends when Orthanc has the secondary capture (seen at
intervals of 20 ms). Films come one by one, each after the picture of the one before. All are copies
of one simulated pelvis, under UIDs of their own. With the default settings a film settles for 3 s,
since `watch` cannot know who writes into a folder; in a folder that only `hipedge receive` writes
into, 0.3 s is safe, and measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.peers.films import pelvis
from benchmarks.screen_syntaxes import copies
from hipedge.perf.watch_latency import await_start
from hipedge.phantom.film import develop
from hipedge.phantom.write import write_film
from tests.network.node import AE_TITLE, need
from tests.pacs import AE_TITLE as PACS
from tests.pacs import Orthanc, loopback_environment

SETTLE_S = (0.3, 3.0)
PIXEL_MM = 0.15
POLL_S = 0.02
TIMEOUT_S = 120.0
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


class Arrivals:
    """Waits for new secondary captures in an Orthanc."""

    def __init__(self, orthanc: Orthanc) -> None:
        self._orthanc = orthanc
        self._seen = orthanc.get("/changes?last")["Last"]

    def wait(self) -> None:
        """Return when there is one more. Raises `TimeoutError`."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            changes = self._orthanc.get(f"/changes?since={self._seen}&limit=100")
            self._seen = changes["Last"]
            new = [one["ID"] for one in changes["Changes"] if one["ChangeType"] == "NewInstance"]
            if any(self._is_capture(instance) for instance in new):
                return
            time.sleep(POLL_S)
        raise TimeoutError("no picture has arrived")

    def _is_capture(self, instance: str) -> bool:
        tags = self._orthanc.get(f"/instances/{instance}/simplified-tags")
        return tags["SOPClassUID"] == SECONDARY_CAPTURE


@contextmanager
def services(folder: Path, orthanc: Orthanc, settle_s: float) -> Iterator[int]:
    """Run `hipedge receive` and `hipedge watch`; yield the port of the first."""
    spool, settings = folder / "spool", folder / "hipedge.toml"
    spool.mkdir(parents=True)
    settings.write_text(
        f'db = "{folder}/cases.db"\nsettle_s = {settle_s}\nmetrics_port = 0\nreserve_mb = 0\n'
        f'pacs_host = "127.0.0.1"\npacs_port = {orthanc.dicom_port}\npacs_ae_title = "{PACS}"\n'
        "results_unflagged = true\nreceive_port = 0\n"
    )
    command = [sys.executable, "-m", "hipedge"]
    options = [spool, "--config", settings]
    with (
        subprocess.Popen([*command, "receive", *options], stderr=subprocess.PIPE, text=True) as scp,
        (folder / "watch.log").open("w") as log,
        subprocess.Popen([*command, "watch", *options], stderr=log) as watch,
    ):
        assert scp.stderr is not None
        port = re.search(r"port=(\d+)", scp.stderr.readline())
        assert port is not None
        await_start(folder / "cases.db")
        try:
            yield int(port[1])
        finally:
            for process in (scp, watch):
                process.send_signal(signal.SIGTERM)


def measured(files: list[Path], folder: Path, settle_s: float, libraries: dict[str, str]) -> dict:
    """Send films one by one; return the figures."""
    latencies = []
    with (
        Orthanc(folder / "pacs", libraries).up() as orthanc,
        services(folder / "site", orthanc, settle_s) as port,
    ):
        arrivals = Arrivals(orthanc)
        for number, file in enumerate(files):
            begin = time.perf_counter()
            command = [need("storescu"), "-aec", AE_TITLE, "127.0.0.1", str(port), str(file)]
            subprocess.run(command, check=True)
            arrivals.wait()
            if number:  # the first one waits for imports and the first inference
                latencies.append(time.perf_counter() - begin)
    return {
        "settle_s": settle_s,
        "films": len(latencies),
        "median_s": round(statistics.median(latencies), 2),
        "p99_s": round(statistics.quantiles(latencies, n=100, method="inclusive")[98], 2),
        "worst_s": round(max(latencies), 2),
    }


def main() -> None:
    """Measure, print as it goes, and write the figures with their environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = environment()
    for name, value in where.items():
        print(f"{name}: {value}")
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        drawn = pelvis(1, PIXEL_MM)
        write_film(folder / "film.dcm", drawn, develop(drawn))
        for name in ("films", "loopback"):
            (folder / name).mkdir()
        copies(folder / "film.dcm", folder / "films", arguments.films + 1)
        files = sorted((folder / "films").iterdir())
        size_mb = files[0].stat().st_size / 1e6
        libraries = loopback_environment(folder / "loopback")
        for settle_s in SETTLE_S:
            part = folder / f"settle-{settle_s}"
            part.mkdir()
            runs.append(measured(files, part, settle_s, libraries))
            print(runs[-1], flush=True)
    if arguments.json:
        content = {
            "environment": where,
            "pynetdicom": version("pynetdicom"),
            "load_average": os.getloadavg()[0],
            "film_mb": round(size_mb, 1),
            "runs": runs,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
