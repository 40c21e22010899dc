"""The cache of TensorRT engines: each engine with a JSON that describes it, and how to find one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hipedge.errors import BackendError, ConfigError
from hipedge.files import cache_folder, write_atomically

log = logging.getLogger("hipedge.tensorrt")

SIDECAR_FORMAT = 2
ENGINE_SUFFIX = ".engine"
LONGEST_SLUG = 80

# The GPUs that TensorRT for RTX 1.7 supports, its enumeration `ComputeCapability`: consumer and
# workstation cards. Orin (8.7), Hopper (9.0) and other data-centre GPUs are not among them.
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
# An engine that is built for no target does not run on Turing.
RTX_DEFAULT_CAPABILITIES = tuple(c for c in RTX_CAPABILITIES if c >= (8, 0))


@dataclass(frozen=True)
class Profile:
    """The batch sizes of an engine: from `least` to `most`, optimised for `best`."""

    least: int
    best: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Parse `1:8:32`; raise `ConfigError` unless 1 ≤ least ≤ best ≤ most."""
        parts = text.split(":")
        if len(parts) == 3 and all(part.isdecimal() for part in parts):
            least, best, most = map(int, parts)
            if 1 <= least <= best <= most:
                return cls(least, best, most)
        raise ConfigError(f"batch {text!r} is not LEAST:BEST:MOST with 1 ≤ LEAST ≤ BEST ≤ MOST")

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}"


@dataclass(frozen=True)
class Device:
    """A GPU: its name, its compute capability (major, minor), its number of multiprocessors.

    Every Jetson Orin has the name Orin and the capability 8.7, from a Nano to an AGX.
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"{self.name} ({major}.{minor}, {self.multiprocessors} multiprocessors)"


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built from and for. Engines with equal keys are interchangeable.

    `device` is a `Device` as text, or None for a portable engine; `targets` are the compute
    capabilities that a portable engine was built for, empty for TensorRT's default. A `lean` engine
    is for the lean runtime alone, of its version or a later one.
    """

    onnx_sha256: str
    flavour: str
    version: str
    device: str | None
    targets: tuple[str, ...]
    precision: str
    profile: Profile
    lean: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the key, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def runs_with(self, flavour: str, version: str) -> bool:
        """Whether an installed flavour of TensorRT, of this version, can load the engine."""
        if not self.lean:
            return (self.flavour, self.version) == (flavour, version)
        built, runtime = _numbers(self.version), _numbers(version)
        return flavour == "lean" and built[:1] == runtime[:1] and built <= runtime

    def runs_on(self, device: Device) -> bool:
        """Whether an engine of this key was built for `device`."""
        if self.device is not None:
            return self.device == str(device)
        if not self.targets:
            return device.compute_capability in RTX_DEFAULT_CAPABILITIES
        return "{}.{}".format(*device.compute_capability) in self.targets

    @property
    def made_with(self) -> str:
        """The flavour and version that run it, for messages."""
        return f"lean {self.version} or later" if self.lean else f"{self.flavour} {self.version}"

    @property
    def made_for(self) -> str:
        """The device or the compute capabilities, for messages."""
        default = (f"{major}.{minor}" for major, minor in RTX_DEFAULT_CAPABILITIES)
        return self.device or f"compute capability {', '.join(self.targets or default)}"


@dataclass(frozen=True)
class Sidecar:
    """The JSON beside an engine: its key, its hash, how it was built, and where it was proved.

    `verified` maps a device to the report of `check_parity` on it, with the `model_id` that the
    engine was compared with: a new card for the same network may have other thresholds, and needs
    a new proof.
    """

    key: EngineKey
    engine_sha256: str
    engine_bytes: int
    model_id: str
    model_name: str
    hipedge: str
    built: str
    build_s: float
    optimization_level: int | None
    verified: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def devices_verified(self, model_id: str) -> tuple[str, ...]:
        """Return the devices on which the engine was proved to agree with a model."""
        reports = self.verified.items()
        return tuple(name for name, report in reports if report.get("model_id") == model_id)

    def to_json(self) -> bytes:
        """Return the file's content."""
        content = {"format": SIDECAR_FORMAT, **asdict(self)}
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, path: Path) -> Sidecar:
        """Read the JSON beside an engine; raise `BackendError` where it is missing or invalid."""
        cure = "build the engine again with `hipedge export engine --force`"
        try:
            content = json.loads(path.read_bytes())
            if content.pop("format") != SIDECAR_FORMAT:
                raise ValueError("another format")
            key = content.pop("key")
            profile = Profile(**key.pop("profile"))
            targets = tuple(key.pop("targets"))
            return cls(key=EngineKey(**key, targets=targets, profile=profile), **content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackendError(f"{path} does not describe an engine: {cure}") from error


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version such as `10.14.1.48.post1`, which is after `10.14.1.48`."""
    return tuple(map(int, re.findall("[0-9]+", version)))


def sidecar_of(engine: Path) -> Path:
    """Return the path of the JSON beside an engine."""
    return engine.with_name(engine.name + ".json")


def engines_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where engines are kept: HIPEDGE_ENGINES, or `engines` in the user's cache."""
    if "HIPEDGE_ENGINES" in environment:
        return Path(environment["HIPEDGE_ENGINES"])
    return cache_folder(environment) / "engines"


def engine_path(folder: Path, model_name: str, key: EngineKey) -> Path:
    """Return the path of an engine with this key in the cache.

    The model's name is free text, of which only characters that are safe in file names are kept.
    """
    return folder / f"{_slug(model_name) or 'model'}-{key.digest[:16]}{ENGINE_SUFFIX}"


def kernels_of(engine: Path, device: Device) -> Path:
    """Return the file of the kernels that TensorRT for RTX compiles of an engine for a GPU."""
    return engine.with_name(f"{engine.name}.{_slug(str(device))}.kernels")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:LONGEST_SLUG].strip(".-")


def find_engine(
    folder: Path, *, onnx_sha256: str, flavour: str, version: str, device: Device, cure: str
) -> Path:
    """Return the newest engine in `folder` for this model, TensorRT and device.

    Raises `BackendError` with the cure where there is none; it names the version and device of
    the newest engine of this model.
    """
    engines, unreadable = _sidecars(folder)
    of_model = {path: sc for path, sc in engines.items() if sc.key.onnx_sha256 == onnx_sha256}
    newest_first = sorted(of_model, key=lambda path: of_model[path].built, reverse=True)
    for path in newest_first:
        key = of_model[path].key
        if key.runs_with(flavour, version) and key.runs_on(device):
            return path.with_name(path.name.removesuffix(".json"))
    here = f"{flavour} {version} on {device}"
    if unreadable:
        cure += f"; not readable here: {', '.join(unreadable)}"
    if not newest_first:
        raise BackendError(f"{folder} has no engine of this model for {here}: {cure}")
    stale = of_model[newest_first[0]].key
    raise BackendError(
        f"the newest engine of this model in {folder} is for {stale.made_with} on"
        f" {stale.made_for}, and this is {here}: {cure}"
    )


def _sidecars(folder: Path) -> tuple[dict[Path, Sidecar], list[str]]:
    """Return the sidecars in a folder by their paths, and the names of those that are invalid."""
    readable, unreadable = {}, []
    for path in sorted(folder.glob(f"*{ENGINE_SUFFIX}.json")):
        try:
            readable[path] = Sidecar.read(path)
        except BackendError as error:
            log.warning("an engine is skipped: %s", error)
            unreadable.append(path.name)
    return readable, unreadable


def read_engine(path: Path) -> tuple[bytes, Sidecar]:
    """Return an engine and its sidecar; raise `BackendError` unless their hashes agree."""
    sidecar = Sidecar.read(sidecar_of(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sidecar.engine_sha256:
        raise BackendError(
            f"{path} is not the engine that its JSON describes:"
            " build it again with `hipedge export engine --force`"
        )
    return data, sidecar


def write_engine(path: Path, data: bytes, sidecar: Sidecar) -> None:
    """Write an engine and its JSON; no reader ever sees a partial engine."""
    sidecar_of(path).unlink(missing_ok=True)
    write_atomically(path, data)
    write_atomically(sidecar_of(path), sidecar.to_json())


def record_proof(
    path: Path, engine_sha256: str, device: Device, model_id: str, report: Mapping[str, Any]
) -> None:
    """Add the report of a parity check on `device` with a model to an engine's JSON.

    Nothing is recorded where the engine at `path` has been replaced since it was read.
    """
    with locked(path):
        sidecar = Sidecar.read(sidecar_of(path))
        if sidecar.engine_sha256 != engine_sha256:
            log.warning("%s was replaced during its proof: its next use repeats the proof", path)
            return
        proof = {"model_id": model_id, **report}
        updated = replace(sidecar, verified={**sidecar.verified, str(device): proof})
        write_atomically(sidecar_of(path), updated.to_json())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock `path` against other processes that write it; the kernel unlocks when a holder dies."""
    with path.with_name(path.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
