"""Where and with what a benchmark ran: printed before its figures and kept with them."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from hipedge.machine import processor
from hipedge.versions import versions

# What benchmarks write: of several that are run in turn, the first changes it before the second.
RESULTS = (":!/benchmarks/results", ":!/docs/img", ":!/README.md")
# The fields of /proc/cpuinfo on x86, and on ARM (MIDR_EL1).
NUMBERS = {
    "family": "cpu family",
    "model": "model",
    "implementer": "CPU implementer",
    "part": "CPU part",
}


def environment() -> dict[str, object]:
    """Return the machine, the software, the commit and the moment."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": describe_processor(Path("/proc/cpuinfo").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions(),
    }


def _commit() -> str:
    """Return the commit, with `-dirty` where more than results of benchmarks was changed."""
    commit = _git("describe", "--always")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *RESULTS)
    return (f"{commit}-dirty" if changed else commit) or "unknown"


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def describe_processor(cpuinfo: str) -> str:
    """Return the processor's name, and on x86 its numbers, which distinguish its generations.

    `cpuinfo` is the text of /proc/cpuinfo, which on ARM names neither model nor family.
    """
    fields = dict(
        (part.strip() for part in line.split(":", 1))
        for line in cpuinfo.splitlines()
        if ":" in line
    )
    numbers = [f"{name} {fields[key]}" for name, key in NUMBERS.items() if key in fields]
    return ", ".join([processor(), *numbers])
