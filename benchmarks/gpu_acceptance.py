"""Whether TensorRT does on this GPU what hipedge promises of it: one command, one JSON, one table.

    python -m benchmarks.gpu_acceptance --model DIR [--json FILE] [--phantoms 64]

It builds an engine, proves it, sweeps over batch sizes, measures the peers that are installed,
and screens simulated films end to end. It exits 1 where an aim is missed, and 2 without a GPU.
Speed does not depend on weights, so torch runs the network with random ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import environment
from hipedge.backends import open_backend
from hipedge.backends.fake import FakeBackend
from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.backends.parity import Parity, check_parity
from hipedge.backends.pipelined import Pipelined, Timing
from hipedge.backends.tensorrt.flavours import choose_flavour
from hipedge.backends.tensorrt.gpu import first_gpu
from hipedge.backends.tensorrt.runtime import TensorRtBackend
from hipedge.errors import BackendError, HipedgeError
from hipedge.export.engine import Recipe, export_engine
from hipedge.machine import machine
from hipedge.model import ModelFolder, open_model
from hipedge.perf.inference import MIN_BATCHES, Point, Sweep, measure, sweep

BATCHES = (1, 2, 4, 8, 16, 32)
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Aim:
    """One promise: what was measured and whether it is enough, or None where it was not."""

    name: str
    value: float | None
    bound: str
    is_met: bool | None


@dataclass(frozen=True)
class Bare:
    """What a batch takes on the GPU while nothing else is there, in milliseconds.

    With two batches in flight the events of one count its waiting for the other too: a bound that
    is taken from those grows with the contention that it should expose.
    """

    latency_median_ms: float
    compute_mean_ms: float


def measure_bare(backend: Pipelined, batch: NDArray[np.uint8], seconds: float) -> Bare:
    """Run one batch at a time for `seconds`, and as long before, unmeasured."""
    timings: list[Timing] = []
    start = time.perf_counter()
    while (now := time.perf_counter() - start) < 2 * seconds or len(timings) < MIN_BATCHES:
        _, timing = backend.collect_timed(backend.submit(batch))
        if now >= seconds:
            timings.append(timing)
    return Bare(
        latency_median_ms=float(np.median([one.latency_ms for one in timings])),
        compute_mean_ms=float(np.mean([one.compute_ms for one in timings])),
    )


def aims(
    parity: Parity,
    tensorrt: Sweep,
    bare: Mapping[int, Bare],
    host: Point,
    peers: Mapping[str, Point],
) -> list[Aim]:
    """Judge: `bare` is by batch size what one batch takes alone on the GPU.

    `host` is batch 1 as the caller waits for it, `peers` is batch 1 of other runtimes.
    """
    points = {point.batch: point for point in tensorrt.points}
    overhead = host.latency.median / bare[1].latency_median_ms
    bound_share = points[32].images_per_s * bare[32].compute_mean_ms / 1e3 / 32
    fastest_peer = min((peer.latency.median for peer in peers.values()), default=None)
    speedup = None if fastest_peer is None else fastest_peer / host.latency.median
    is_faster = None if speedup is None else speedup >= 5
    return [
        Aim("faults of parity", len(parity.faults), "0", parity.agrees),
        Aim("latency at batch 1 over bare execution", overhead, "≤ 1.05", overhead <= 1.05),
        Aim("throughput at batch 32 over its bound", bound_share, "≥ 0.95", bound_share >= 0.95),
        Aim("speed over the fastest peer", speedup, "≥ 5", is_faster),
    ]


class TorchEager(FakeBackend):
    """The network in torch on the GPU in half precision, layer by layer, with random weights."""

    def __init__(self, size_px: int) -> None:
        import torch

        from hipedge.train.network import HipNet

        super().__init__(size_px)
        self._torch = torch
        self._network = HipNet().cuda().eval()
        self._network.backbone.half()

    def _infer(self, batch):
        with self._torch.inference_mode():
            logits, maps = self._network(self._torch.from_numpy(batch).cuda())
        return logits.cpu().numpy(), maps.cpu().numpy()


def measure_peers(model: ModelFolder, seconds: float) -> tuple[dict[str, Point], dict[str, str]]:
    """Return batch 1 of each peer that runs on this GPU, and why the others do not."""
    opened = {
        "ONNX Runtime, CUDA": lambda: OnnxRuntimeBackend(model, provider=CUDA),
        "torch, FP16 eager": lambda: TorchEager(model.card.input.size_px),
    }
    sample = model.golden().samples[:1]
    points, absent = {}, {}
    for name, open_peer in opened.items():
        try:
            with open_peer() as peer:
                points[name] = measure(peer, sample, seconds, seconds)
        except (BackendError, ImportError, RuntimeError, AssertionError) as error:
            absent[name] = f"{type(error).__name__}: {error}"
    return points, absent


def screen_phantoms(model: ModelFolder, count: int) -> dict[str, float]:
    """Screen simulated films with the GPU; return the films and the seconds of the command."""
    hipedge = [sys.executable, "-m", "hipedge"]
    with tempfile.TemporaryDirectory() as scratch:
        films, database = f"{scratch}/films", f"{scratch}/cases.db"
        subprocess.run(
            [*hipedge, "phantom", films, "--count", str(count), "--seed", "0"], check=True
        )
        options = ["--model", str(model.path), "--backend", "tensorrt", "--db", database]
        start = time.perf_counter()
        subprocess.run([*hipedge, "screen", films, *options], check=True)
        seconds = time.perf_counter() - start
    return {"films": count, "seconds": seconds, "films_per_s": count / seconds}


def accept(model: ModelFolder, seconds: float, phantoms: int) -> dict[str, object]:
    """Build, prove, measure and judge; raise `HipedgeError` where that cannot be done here."""
    device, flavour = first_gpu(), choose_flavour()
    engine = export_engine(
        model,
        Recipe(flavour),
        device=None if flavour.builds_without_gpu else str(device),
        force=True,
    )
    backend = open_backend("tensorrt", model)
    assert isinstance(backend, TensorRtBackend)
    with backend:
        samples = model.golden().samples
        parity = check_parity(backend, model)
        swept = sweep(backend, samples, BATCHES, warmup_s=seconds, duration_s=seconds)
        bare = {
            size: measure_bare(backend, np.resize(samples, (size, *samples.shape[1:])), seconds)
            for size in (1, 32)
        }
        host = measure(backend, np.ascontiguousarray(samples[:1]), seconds, seconds)
    peers, absent = measure_peers(model, seconds)
    return {
        "environment": environment(),
        "machine": machine(),
        "model": {"name": model.card.name, "status": model.card.status.value, "id": model.model_id},
        "engine": asdict(engine.sidecar),
        "parity": asdict(parity),
        "sweep": asdict(swept),
        "bare": {size: asdict(one) for size, one in bare.items()},
        "host_latency": asdict(host),
        "peers": {name: asdict(point) for name, point in peers.items()},
        "peers_absent": absent,
        "end_to_end": screen_phantoms(model, phantoms) if phantoms else None,
        "aims": [asdict(aim) for aim in aims(parity, swept, bare, host, peers)],
    }


def main() -> None:
    """Run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--phantoms", type=int, default=64, help="films to screen, 0 for none")
    arguments = parser.parse_args()
    try:
        result = accept(open_model(arguments.model), arguments.seconds, arguments.phantoms)
    except HipedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n")
    print(f"{'aim':42}{'measured':>10}  {'bound':8} met")
    for aim in result["aims"]:
        value = "–" if aim["value"] is None else f"{aim['value']:.3f}"
        met = {True: "yes", False: "no", None: "not measured"}[aim["is_met"]]
        print(f"{aim['name']:42}{value:>10}  {aim['bound']:8} {met}")
    if any(aim["is_met"] is False for aim in result["aims"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
