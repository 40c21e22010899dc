"""The promises about a GPU, judged by what the stages have measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Aim:
    """One promise: what was measured and whether it is enough, or None where it was not."""

    name: str
    value: float | None
    bound: str
    is_met: bool | None


def aims(results: Mapping[str, Mapping[str, Any]]) -> list[Aim]:
    """Judge the results of the stages by their names, as they are in the report."""
    return [
        _at_most("faults of parity", 0, _value(results, "parity", "faults", len)),
        _at_most("latency at batch 1 over bare execution", 1.05, _overhead(results)),
        _at_least("throughput at batch 32 over its bound", 0.95, _share(results)),
        _at_least("speed over the fastest peer", 5, _speedup(results)),
        _at_most("results after the context was lost", 0, _value(results, "loss", "results", int)),
        _at_most("MiB that stay after closing", 0, _value(results, "memory", "kept_mib", float)),
    ]


def _at_most(name: str, bound: float, value: float | None) -> Aim:
    return Aim(name, value, f"≤ {bound:g}", None if value is None else value <= bound)


def _at_least(name: str, bound: float, value: float | None) -> Aim:
    return Aim(name, value, f"≥ {bound:g}", None if value is None else value >= bound)


def _value(
    results: Mapping[str, Mapping[str, Any]], stage: str, name: str, convert: Any
) -> float | None:
    return convert(results[stage][name]) if stage in results else None


def _overhead(results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the latency as a caller waits for it, over that of a batch alone on the GPU.

    The latter is what `trtexec` measures of the same engine, or else what CUDA's events do.
    """
    if "latency" not in results:
        return None
    latency = results["latency"]
    by_events = latency["bare"]["1"]["latency_median_ms"]
    bare = results.get("trtexec", {}).get("latency_median_ms", by_events)
    return latency["host"]["latency"]["median"] / bare


def _share(results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the images per second, over those that the computation alone would allow."""
    if "latency" not in results:
        return None
    latency = results["latency"]
    rates = {point["batch"]: point["images_per_s"] for point in latency["sweep"]["points"]}
    return rates[32] * latency["bare"]["32"]["compute_mean_ms"] / 1e3 / 32


def _speedup(results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the fastest peer's latency over TensorRT's; a stand-in's is no promise."""
    if not {"build", "latency", "peers"} <= set(results) or "stand_in" in results["build"]:
        return None
    return min(_speedups(results), default=None)


def _speedups(results: Mapping[str, Mapping[str, Any]]) -> Iterator[float]:
    own = results["latency"]["host"]["latency"]["median"]
    for peer in results["peers"]["points"].values():
        yield peer["latency"]["median"] / own
