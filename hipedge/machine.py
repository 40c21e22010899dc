"""The machine of a measurement: processor, GPU, clocks, driver, versions."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path

from hipedge.versions import package_version, versions

# Fields of `nvidia-smi --query-gpu`, and their names in reports.
GPU_FIELDS = {
    "name": "gpu",
    "driver_version": "driver",
    "clocks.sm": "clock now",
    "clocks.max.sm": "clock at most",
    "clocks.mem": "memory clock now",
    "pstate": "performance state",
    "temperature.gpu": "temperature in °C",
    "power.limit": "power limit",
}
RUNTIMES = (
    *("openvino", "pycuda", "cuda-bindings", "tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    *("tensorrt-lean-cu13", "tensorrt-rtx-cu13-bindings"),
)


def machine() -> dict[str, str]:
    """Return what can influence a measurement, by name; with the GPU, where there is one."""
    runtimes = {name: found for name in RUNTIMES if (found := package_version(name))}
    software = ", ".join(f"{name} {found}" for name, found in (versions() | runtimes).items())
    return {
        "processor": f"{processor()}, {len(os.sched_getaffinity(0))} cores for this process",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        **_gpu(),
        "versions": software,
    }


def processor() -> str:
    """Return the processor's model name, on a Jetson the board's, or the architecture."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    board = Path("/proc/device-tree/model")
    if board.exists():
        names.insert(0, board.read_text(encoding="utf-8").strip("\0"))
    return names[0] if names else platform.machine()


def processor_kind() -> str:
    """Return the processor's name with a hash of its instruction sets.

    Virtual machines give processors of several generations one name, and kernels differ by
    instruction set.
    """
    names = ("flags", "Features")  # on x86, on ARM
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    sets = next((line for line in lines if line.startswith(names)), "").split(":")[-1].split()
    digest = hashlib.sha256(" ".join(sorted(sets)).encode()).hexdigest()
    return f"{processor()} ({digest[:8]})"


def _gpu() -> dict[str, str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader", "-i0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = done.stdout.strip().split(", ")
    return dict(zip(GPU_FIELDS.values(), values, strict=False))
