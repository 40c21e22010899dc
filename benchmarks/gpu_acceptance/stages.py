"""The stages of the acceptance, each in a process of its own.

    python -m benchmarks.gpu_acceptance.stages NAME TASK

TASK is the JSON of a `Task`. The result is printed as JSON, after whatever else is printed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import environment
from benchmarks.gpu_acceptance.engines import builder_here, open_engine
from benchmarks.gpu_acceptance.loss import drill
from benchmarks.gpu_acceptance.trtexec import find_trtexec, measure_trtexec
from hipedge.backends.fake import FakeBackend
from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.backends.parity import check_parity
from hipedge.backends.pipelined import Pipelined, Timing
from hipedge.backends.tensorrt.gpu import Gpu, first_gpu
from hipedge.backends.tensorrt.lookup import find_engine_of
from hipedge.config import Settings
from hipedge.errors import BackendError
from hipedge.export.engine import Recipe, export_engine
from hipedge.machine import machine
from hipedge.model import ModelFolder, open_model
from hipedge.perf.inference import MIN_BATCHES, measure, sweep

BATCHES = (1, 2, 4, 8, 16, 32)
CUDA = "CUDAExecutionProvider"
MIB = 1 << 20


@dataclass(frozen=True)
class Task:
    """What to measure: `seconds` for each figure, `films` end to end, `stand_in` for TensorRT."""

    model: str
    seconds: float
    films: int
    stand_in: str

    @property
    def folder(self) -> ModelFolder:
        """The model."""
        return open_model(Path(self.model))


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


def describe(task: Task) -> dict[str, object]:
    """Describe the machine, the software, the model, and what computes."""
    flavour, reason = builder_here()
    model = task.folder
    return {
        "environment": environment(),
        "machine": machine(),
        "gpu": str(first_gpu()),
        "engine": flavour.name if flavour else f"{task.stand_in}, since {reason}",
        "cuda_graphs": find_spec("cuda") is not None and find_spec("cuda.bindings") is not None,
        "trtexec": find_trtexec(),
        "model": {"name": model.card.name, "status": model.card.status.value, "id": model.model_id},
    }


def build(task: Task) -> dict[str, object]:
    """Build an engine for this GPU, where TensorRT supports it."""
    flavour, reason = builder_here()
    if flavour is None:
        return {"stand_in": task.stand_in, "reason": reason}
    device = None if flavour.builds_without_gpu else str(first_gpu())
    engine = export_engine(task.folder, Recipe(flavour), device=device, force=True)
    return {"path": str(engine.path), **asdict(engine.sidecar)}


def parity(task: Task) -> dict[str, object]:
    """Compare the scores with the model's golden ones."""
    model = task.folder
    with open_engine(model, task.stand_in) as backend:
        found = check_parity(backend, model)
        return {**asdict(found), "agrees": found.agrees, "faults": list(found.faults)}


def latency(task: Task) -> dict[str, object]:
    """Sweep over batch sizes; measure bare execution, and batch 1 as a caller waits for it."""
    samples = task.folder.golden().samples
    seconds = task.seconds
    with open_engine(task.folder, task.stand_in) as backend:
        swept = sweep(backend, samples, BATCHES, warmup_s=seconds, duration_s=seconds)
        bare = {
            size: measure_bare(backend, np.resize(samples, (size, *samples.shape[1:])), seconds)
            for size in (1, 32)
        }
        host = measure(backend, np.ascontiguousarray(samples[:1]), seconds, seconds)
    return {
        "sweep": asdict(swept),
        "bare": {size: asdict(one) for size, one in bare.items()},
        "host": asdict(host),
    }


def trtexec(task: Task) -> dict[str, object]:
    """Measure the same engine under `trtexec`."""
    program, (flavour, reason) = find_trtexec(), builder_here()
    if flavour is None or flavour.name != "tensorrt" or program is None:
        return {"absent": reason or "trtexec is for TensorRT, and not on the PATH"}
    _, _, engine = find_engine_of(task.folder, first_gpu())
    return {**measure_trtexec(program, engine, task.folder.card.input.size_px, task.seconds)}


def graphs(task: Task) -> dict[str, object]:
    """Measure batch 1 without and with CUDA graphs."""
    sample = np.ascontiguousarray(task.folder.golden().samples[:1])
    found = {}
    for name, wanted in {"off": False, "on": True}.items():
        with open_engine(task.folder, task.stand_in, graphs=wanted) as backend:
            point = measure(backend, sample, task.seconds, task.seconds)
            found[name] = {"captured": backend.uses_graphs, "median_ms": point.latency.median}
    return found


class TorchEager(FakeBackend):
    """The network in torch on the GPU in half precision, layer by layer, with random weights."""

    def __init__(self, size_px: int) -> None:
        import torch

        from hipedge.train.network import HipNet

        super().__init__(size_px)
        self._torch = torch
        self._network = HipNet("efficientnet_lite0", size_px=size_px).cuda().eval()
        self._network.backbone.half()

    def _infer(self, batch):
        with self._torch.inference_mode():
            logits, maps = self._network(self._torch.from_numpy(batch).cuda())
        return logits.cpu().numpy(), maps.cpu().numpy()


def peers(task: Task) -> dict[str, object]:
    """Measure batch 1 of each peer that runs on this GPU; say why the others do not."""
    model = task.folder
    opened = {
        "ONNX Runtime, CUDA": lambda: OnnxRuntimeBackend(model, provider=CUDA),
        "torch, FP16 eager": lambda: TorchEager(model.card.input.size_px),
    }
    sample = model.golden().samples[:1]
    points, absent = {}, {}
    for name, open_peer in opened.items():
        try:
            with open_peer() as peer:
                points[name] = asdict(measure(peer, sample, task.seconds, task.seconds))
        except (BackendError, ImportError, RuntimeError, AssertionError) as error:
            absent[name] = f"{type(error).__name__}: {error}"
    return {"points": points, "absent": absent}


def end_to_end(task: Task) -> dict[str, object]:
    """Screen simulated films, from files to the database."""
    if task.films == 0:
        return {"absent": "no films were asked for"}
    from hipedge.perf.throughput import measure_throughput
    from hipedge.phantom import generate
    from hipedge.pipeline.workers import Limits
    from hipedge.rules.site_rule import site_rule

    model, cores = task.folder, len(os.sched_getaffinity(0))
    with TemporaryDirectory() as scratch:
        generate(Path(scratch), count=task.films, seed=0)
        settings = Settings()
        found = measure_throughput(
            sorted(Path(scratch).rglob("*.dcm")),
            model=model,
            open_backend=lambda: open_engine(model, task.stand_in),
            rule=site_rule(model.card, settings),
            workers=cores,
            limits=Limits.of(settings.worker_memory_mb, settings.worker_timeout_s),
            repeats=1,
        )
    return {
        "films": found.films,
        "hips": found.hips,
        "workers": found.workers,
        "films_per_s": found.films_per_s,
        "limited_by": found.bottleneck,
        "limit_films_per_s": found.limit,
    }


def memory(task: Task) -> dict[str, object]:
    """Measure what a backend needs of the GPU's memory, and what stays after it was closed."""
    gpu = Gpu.open()
    free = []
    samples = task.folder.golden().samples[:32]
    for _ in range(3):
        with open_engine(task.folder, task.stand_in) as backend:
            backend.infer(samples)
            with gpu.current():
                used_to, total = gpu.cuda.mem_get_info()
        with gpu.current():
            free.append(gpu.cuda.mem_get_info()[0])
    gpu.release()
    # What the first one leaves are the kernels, which stay loaded.
    return {
        "total_mib": total / MIB,
        "backend_mib": (free[-1] - used_to) / MIB,
        "kept_mib": max(0, free[0] - free[-1]) / MIB,
    }


def loss(task: Task) -> dict[str, object]:
    """Lose the context on purpose."""
    return drill(open_engine(task.folder, task.stand_in), task.folder.golden().samples)


# In the order in which they run, each with the seconds after which it is ended.
STAGES: Mapping[str, tuple[Callable[[Task], dict[str, object]], float]] = {
    "environment": (describe, 60),
    "build": (build, 1200),
    "parity": (parity, 120),
    "latency": (latency, 180),
    "trtexec": (trtexec, 60),
    "graphs": (graphs, 60),
    "peers": (peers, 120),
    "end_to_end": (end_to_end, 180),
    "memory": (memory, 60),
    "loss": (loss, 60),
}


def main() -> None:
    """Run a stage and print its result; an exception ends the process, as in any program."""
    name, task = sys.argv[1:]
    run, _ = STAGES[name]
    print(json.dumps(run(Task(**json.loads(task))), default=str))


if __name__ == "__main__":
    main()
