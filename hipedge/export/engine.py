"""Building a TensorRT engine of `classifier.onnx`, by the same code for all versions and flavours.

Networks are strongly typed: each tensor has the precision that the ONNX file gives it. So no
precision flags are needed, which TensorRT 11 has removed. Differences between the flavours are in
the table of `hipedge.backends.tensorrt.flavours`; the API used here is the same from 10.3 to 11.
"""

from __future__ import annotations

import hashlib
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hipedge
from hipedge.backends.tensorrt.calls import TensorRtError, construct
from hipedge.backends.tensorrt.engine_cache import (
    ENGINE_SUFFIX,
    EngineKey,
    Profile,
    Sidecar,
    engine_path,
    engines_folder,
    locked,
    read_engine,
    sidecar_of,
    write_engine,
)
from hipedge.backends.tensorrt.flavours import Flavour, load, loadable, open_log
from hipedge.backends.tensorrt.gpu import first_gpu
from hipedge.backends.tensorrt.lookup import find_engine_of, supports
from hipedge.errors import BackendError, ConfigError, HipedgeError, ModelError
from hipedge.export.timing_cache import read_timing_cache, write_timing_cache
from hipedge.model import ModelFolder
from hipedge.model.card import CLASSIFIER

if TYPE_CHECKING:
    import tensorrt

log = logging.getLogger("hipedge.tensorrt")

# Called with a phase of the build, the number of its finished steps, and their total.
Progress = Callable[[str, int, int], None]

# Ten times what the classifier needs at a batch of 32; a Jetson's GPU shares the main memory.
WORKSPACE_BYTES = 1 << 30

DEFAULT_PROFILE = Profile(least=1, best=8, most=32)


@dataclass(frozen=True)
class Recipe:
    """How to build an engine: the flavour, the batch sizes, and the user's options.

    A `lean` engine is for TensorRT's lean runtime, on a machine that builds none. `targets` are
    compute capabilities such as `8.6`, for a flavour whose engines are portable; `timing_cache` is
    a file of measured tactics that is read and updated. Raises `ConfigError` for options that the
    flavour does not have.
    """

    flavour: Flavour
    profile: Profile = DEFAULT_PROFILE
    targets: tuple[str, ...] = ()
    optimization_level: int | None = None
    timing_cache: Path | None = None
    lean: bool = False

    def __post_init__(self) -> None:
        if not self.flavour.builds:
            raise ConfigError(
                f"TensorRT's {self.flavour.name} runtime builds no engine: use"
                f" {self.flavour.build_options} on a machine with TensorRT, and copy the engine"
            )
        if self.lean and self.flavour.name != "tensorrt":
            raise ConfigError("only TensorRT builds for its lean runtime: use --flavour tensorrt")
        if self.targets and not self.flavour.builds_without_gpu:
            raise ConfigError(
                "TensorRT builds for the GPU of this machine: --target is for flavour rtx"
            )
        for target in self.targets:
            if not re.fullmatch("[0-9]+[.][0-9]+", target):
                raise ConfigError(f"target {target!r} is not a compute capability such as 8.6")
        if self.timing_cache and not self.flavour.has_timing_cache:
            raise ConfigError("TensorRT for RTX has no timing cache: omit --timing-cache")


@dataclass(frozen=True)
class Engine:
    """An engine on disk. `built` is False where it existed already."""

    path: Path
    sidecar: Sidecar
    built: bool


def export_engine(
    model: ModelFolder,
    recipe: Recipe,
    *,
    device: str | None,
    output: Path | None = None,
    force: bool = False,
    progress: Progress = lambda phase, done, total: None,
) -> Engine:
    """Build an engine of `model` into the cache, or to `output`, unless it exists already.

    An engine that was built at another optimization level than the recipe's is rebuilt.

    `device` is the GPU that it is for, None for a portable engine. A second process that builds
    the same engine waits for the first and uses its result. Ctrl-C stops the build at the end of
    its current step, and so does an exception of `progress`.

    Raises `ModelError`, naming the node, where TensorRT cannot read the model; `BackendError`
    where it cannot build or the engine cannot be written; `InstallationError` without TensorRT;
    `ConfigError` for an `output` without the suffix of engines.
    """
    if output is not None and output.suffix != ENGINE_SUFFIX:
        raise ConfigError(f"{output} would never be found: use a name that ends in {ENGINE_SUFFIX}")
    module = load(recipe.flavour)
    key = EngineKey(
        onnx_sha256=model.card.files[CLASSIFIER],
        flavour=recipe.flavour.name,
        version=module.__version__,
        device=device,
        targets=recipe.targets,
        precision="fp16",
        profile=recipe.profile,
        lean=recipe.lean,
    )
    path = output or engine_path(engines_folder(), model.card.name, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if not force and (found := _present(path, key, recipe)) is not None:
                return Engine(path, found, built=False)
            start = time.perf_counter()
            data = build(model.classifier, model.card.input.size_px, recipe, module, progress)
            sidecar = Sidecar(
                key=key,
                engine_sha256=hashlib.sha256(data).hexdigest(),
                engine_bytes=len(data),
                model_id=model.model_id,
                model_name=model.card.name,
                hipedge=hipedge.__version__,
                built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                build_s=round(time.perf_counter() - start, 3),
                optimization_level=recipe.optimization_level,
            )
            write_engine(path, data, sidecar)
    except OSError as error:
        raise BackendError(f"{path} cannot be written: {error.strerror}") from error
    return Engine(path, sidecar, built=True)


def ensure_engine(model: ModelFolder, progress: Progress) -> None:
    """Build an engine of `model` for this machine's GPU, unless the cache has one.

    Raises as `TensorRtBackend.open` and `export_engine` do.
    """
    gpu = first_gpu()
    try:
        find_engine_of(model, gpu)
    except BackendError:
        builders = (one for one, _ in loadable() if one.builds and supports(one, gpu))
        if (flavour := next(builders, None)) is None:
            raise
        device = None if flavour.builds_without_gpu else str(gpu)
        export_engine(model, Recipe(flavour), device=device, progress=progress)


def _present(path: Path, key: EngineKey, recipe: Recipe) -> Sidecar | None:
    """Return the sidecar of an existing engine that is intact and fulfils the recipe, else None."""
    if not sidecar_of(path).exists():
        return None
    _, sidecar = read_engine(path)
    if sidecar.key != key:
        raise BackendError(f"{path} is an engine with another key: --force replaces it")
    # Any level computes the same network, so a recipe without a level accepts every engine.
    if recipe.optimization_level not in (None, sidecar.optimization_level):
        return None
    return sidecar


def build(onnx: Path, size_px: int, recipe: Recipe, module: Any, progress: Progress) -> bytes:
    """Return the serialized engine of an ONNX file, built by TensorRT's Python `module`."""
    build_log, monitor = open_log(module), _monitor(module, progress)
    with _interrupt_stops(monitor):
        try:
            builder: tensorrt.Builder = construct(module.Builder, build_log)
        except TensorRtError as error:
            raise _build_error(onnx, [str(error), *build_log.errors]) from error
        network = builder.create_network(_creation_flags(module))
        # Must outlive the network, which refers to weights that the parser owns.
        parser: tensorrt.OnnxParser = module.OnnxParser(network, build_log)
        _parse(parser, onnx)
        _check_tensors(network, module, onnx)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        # On by default, with which a layer in single precision has a mantissa of 10 bits.
        config.clear_flag(module.BuilderFlag.TF32)
        if recipe.optimization_level is not None:
            config.builder_optimization_level = recipe.optimization_level
        config.add_optimization_profile(_profile(builder, recipe.profile, size_px))
        _set_targets(config, recipe, module)
        if recipe.lean:
            # Runs in the lean runtime of a later version too, and holds no copy of it: native code
            # in an engine would be run by whoever loads it.
            config.set_flag(module.BuilderFlag.VERSION_COMPATIBLE)
            config.set_flag(module.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
        read_timing_cache(config, recipe.timing_cache)
        config.progress_monitor = monitor
        serialized = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if serialized is None:
        raise _build_error(onnx, build_log.errors)
    write_timing_cache(config, recipe.timing_cache)
    return bytes(serialized)


def _build_error(onnx: Path, reasons: Sequence[str]) -> BackendError:
    return BackendError(f"TensorRT cannot build {onnx}: {'; '.join(reasons) or 'unknown reason'}")


def _creation_flags(module: Any) -> int:
    """Return the flag for a strongly typed network, or 0 where TensorRT has no other kind."""
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(parser: tensorrt.OnnxParser, onnx: Path) -> None:
    if parser.parse(onnx.read_bytes()):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    reasons = [_reason(error) for error in errors]
    raise ModelError(f"TensorRT cannot read {onnx}: {'; '.join(reasons) or 'unknown reason'}")


def _reason(error: tensorrt.ParserError) -> str:
    if not error.node_name():
        return str(error.desc())
    return f"node {error.node_name()!r} ({error.node_operator()}): {error.desc()}"


def _check_tensors(network: tensorrt.INetworkDefinition, module: Any, onnx: Path) -> None:
    """Raise `ModelError` unless input and outputs have the names and types of a classifier."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    found = {tensor.name: tensor.dtype for tensor in [*inputs, *outputs]}
    kinds = module.DataType
    if found != {"pixels": kinds.UINT8, "logits": kinds.FLOAT, "maps": kinds.FLOAT}:
        raise ModelError(f"{onnx} lacks the tensors of a hipedge classifier: export it again")


def _profile(
    builder: tensorrt.Builder, profile: Profile, size_px: int
) -> tensorrt.IOptimizationProfile:
    # TensorRT accepts tuples for its `Dims`, unlike its stubs.
    shapes: list[Any] = [
        (size, 1, size_px, size_px) for size in (profile.least, profile.best, profile.most)
    ]
    optimization_profile = builder.create_optimization_profile()
    optimization_profile.set_shape("pixels", *shapes)
    return optimization_profile


def _set_targets(config: Any, recipe: Recipe, module: Any) -> None:
    """Set the compute capabilities to build for; only TensorRT for RTX has these calls."""
    if not recipe.targets:
        return
    config.num_compute_capabilities = len(recipe.targets)
    for index, target in enumerate(recipe.targets):
        capability = getattr(module.ComputeCapability, f"SM{target.replace('.', '')}", None)
        if capability is None or not config.set_compute_capability(capability, index):
            raise ConfigError(
                f"this TensorRT for RTX cannot build for compute capability {target!r}"
            )


def _monitor(module: Any, progress: Progress) -> Any:
    """Return an `IProgressMonitor` that reports to `progress`.

    An exception cannot propagate through TensorRT: one that `progress` raises stops the build and
    is stored in `stopped_by`, to be raised afterwards.
    """

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # known at run time alone
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.stopped_by: BaseException | None = None
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps
            self._report(phase, 0)

        def step_complete(self, phase: str, step: int) -> bool:
            self._report(phase, step + 1)
            return self.stopped_by is None

        def phase_finish(self, phase: str) -> None:
            self._report(phase, self.steps.get(phase, 0))

        def _report(self, phase: str, done: int) -> None:
            if self.stopped_by is not None:
                return
            try:
                progress(phase, done, self.steps.get(phase, 0))
            except (KeyboardInterrupt, HipedgeError) as error:
                self.stopped_by = error

    return Monitor()


@contextmanager
def _interrupt_stops(monitor: Any) -> Iterator[None]:
    """Let Ctrl-C stop the build through `monitor`.

    Without this handler Python raises `KeyboardInterrupt` at the start of the next callback, before
    any `try` in it, and TensorRT prints and discards it.
    """
    previous = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    # Only the main thread handles signals; one that is ignored, as under nohup, stays ignored.
    if not in_main_thread or not callable(previous):
        yield
        return

    def stop(number: int, frame: object) -> None:
        monitor.stopped_by = KeyboardInterrupt()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
