"""The same engine under NVIDIA's `trtexec`, where that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

# Where JetPack and NVIDIA's packages put it.
USUAL = Path("/usr/src/tensorrt/bin/trtexec")
TIMES = {"latency_median_ms": "Latency", "compute_median_ms": "GPU Compute Time"}


def find_trtexec() -> str | None:
    """Return the program's path, or None."""
    return shutil.which("trtexec") or (str(USUAL) if USUAL.exists() else None)


def measure_trtexec(program: str, engine: Path, size_px: int, seconds: float) -> dict[str, float]:
    """Return the median times of batch 1; raise `RuntimeError` with the output where it fails."""
    command = [
        program,
        f"--loadEngine={engine}",
        f"--shapes=pixels:1x1x{size_px}x{size_px}",
        f"--duration={max(1, round(seconds))}",
        "--useCudaGraph",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program} failed: {(done.stdout + done.stderr)[-500:]}")
    return parse_trtexec(done.stdout)


def parse_trtexec(text: str) -> dict[str, float]:
    """Read the medians from the summary that `trtexec` prints."""
    found = {}
    for name, title in TIMES.items():
        match = re.search(rf"\b{title}: min = .*?median = ([0-9.]+) ms", text)
        if match is None:
            raise RuntimeError(f"trtexec printed no {title}")
        found[name] = float(match[1])
    return found
