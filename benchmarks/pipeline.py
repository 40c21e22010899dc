"""The line with simulated devices and on this CPU, against what its parts imply.

    python -m benchmarks.pipeline --model DIR --films DIR [--repeats 5] [--json FILE]

A fast device answers in 0.3 ms a batch: the line should deliver 0.9 of what reading delivers alone.
A slow one takes 30 ms for each hip: it should be busy for 0.95 of the time. On the CPU the line
should reach 0.9 of the limit that reading, inference and recording alone imply. Parts and whole are
measured in turns within one run; the figures are medians over the passes.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.environment import environment
from hipedge import backends
from hipedge.backends.base import Backend
from hipedge.backends.fake import FakeBackend
from hipedge.config import Settings
from hipedge.model import ModelFolder, open_model
from hipedge.perf.throughput import Throughput, measure_throughput
from hipedge.pipeline.discover import discover
from hipedge.pipeline.workers import Limits
from hipedge.rules.site_rule import site_rule

FAST_S, SLOW_S = 0.0003, 0.03


class OneAtATime(FakeBackend):
    """A device that is never given more than one hip."""

    max_batch = 1


def measure(
    model: ModelFolder,
    films: Path,
    open_backend: Callable[[], Backend],
    repeats: int,
) -> Throughput:
    """Measure the pipeline with two workers."""
    return measure_throughput(
        discover([films]).files,
        model=model,
        open_backend=open_backend,
        rule=site_rule(model.card, Settings()),
        workers=2,
        limits=Limits(),
        repeats=repeats,
    )


def figures(one: Throughput) -> dict[str, object]:
    """Return what the aims are about."""
    pairs = zip(one.together, one.alone, strict=True)
    return {
        "backend": one.backend,
        "films": one.films,
        "hips": one.hips,
        "films_per_s": round(one.films_per_s, 2),
        "of_reading_alone": round(median(t.films_per_s / a.reading for t, a in pairs), 3),
        "efficiency": round(one.efficiency, 3),
        "limit_films_per_s": round(one.limit, 2),
        "bottleneck": one.bottleneck,
        "limited_by": one.limited_by,
        "core_s_per_film": {**one.core_s, "pipeline": median(t.core_s for t in one.together)},
        "busy": {
            name: round(median(t.busy[name] for t in one.together), 3)
            for name in one.together[0].busy
        },
        "hips_per_batch": round(median(t.hips_per_batch for t in one.together), 2),
        "memory_mb": round(max(t.memory_mb for t in one.together)),
        "alone": [vars(a) for a in one.alone],
        "passes_films_per_s": [t.films_per_s for t in one.together],
    }


def main() -> None:
    """Measure, and print the figures with their environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("fast device", "slow device", "cpu"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = open_model(arguments.model)
    size_px = model.card.input.size_px
    cpu, _ = backends.choose("auto")
    runs: dict[str, Callable[[], Backend]] = {
        "fast device": partial(FakeBackend, size_px, latency_s=FAST_S),
        "slow device": partial(OneAtATime, size_px, latency_s=SLOW_S),
        "cpu": partial(backends.open_backend, cpu, model),
    }
    where, load_average = environment(), os.getloadavg()[0]
    print(json.dumps(where, indent=2))
    found = {}
    for name, open_backend in runs.items():
        if arguments.only in (None, name):
            one = measure(model, arguments.films, open_backend, arguments.repeats)
            found[name] = figures(one)
            print(name, json.dumps(found[name], indent=2))
    if arguments.json:
        options = f"--model {arguments.model} --films {arguments.films.name}"
        content = {
            "environment": where,
            "load_average": load_average,
            "command": f"{options} --repeats {arguments.repeats}",
            "repeats": arguments.repeats,
            **found,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
