"""Where engines are kept, each with a JSON beside it that says what it is; and how to find one."""

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

SIDECAR_FORMAT = 1
ENGINE_SUFFIX = ".engine"
LONGEST_SLUG = 80

# The oldest compute capability that an engine of TensorRT for RTX runs on if built for no target.
RTX_OLDEST = (8, 0)


@dataclass(frozen=True)
class Profile:
    """The batch sizes that an engine takes: from `least` to `most`, and fastest at `best`."""

    least: int
    best: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Read `1:8:32`; raise `ConfigError` unless the three rise from at least 1."""
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
    """A GPU: its name and its compute capability (major, minor)."""

    name: str
    compute_capability: tuple[int, int]

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"{self.name} ({major}.{minor})"


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built from and for. Equal keys mean interchangeable engines.

    `device` is a GPU's name and compute capability, or of a portable engine None; `targets` are
    the compute capabilities that a portable one was built for, none of them for 8.0 and later.
    """

    onnx_sha256: str
    flavour: str
    version: str
    device: str | None
    targets: tuple[str, ...]
    precision: str
    profile: Profile

    @property
    def digest(self) -> str:
        """SHA-256 of the key, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def runs_on(self, device: Device) -> bool:
        """Whether an engine of this key was built for `device`."""
        if self.device is not None:
            return self.device == str(device)
        if not self.targets:
            return device.compute_capability >= RTX_OLDEST
        return "{}.{}".format(*device.compute_capability) in self.targets

    @property
    def made_for(self) -> str:
        """The device or devices, in words."""
        return self.device or f"compute capability {', '.join(self.targets) or '8.0 and later'}"


@dataclass(frozen=True)
class Sidecar:
    """The JSON beside an engine: its key, its hash, how it was built, and where it was proved.

    `verified` holds by device the report of `parity.check` there, and the `model_id` that it was
    held to: a new card over the same network has other thresholds, and is proved anew.
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
        """Return where the engine was proved to agree with a model."""
        reports = self.verified.items()
        return tuple(name for name, report in reports if report.get("model_id") == model_id)

    def to_json(self) -> bytes:
        """Return the file's content."""
        content = {"format": SIDECAR_FORMAT, **asdict(self)}
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, path: Path) -> Sidecar:
        """Read the JSON beside the engine; raise `BackendError` where it is missing or no such."""
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


def sidecar_of(engine: Path) -> Path:
    """Return the path of the JSON beside an engine."""
    return engine.with_name(engine.name + ".json")


def engines_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where engines are kept: HIPEDGE_ENGINES, or `engines` in the user's cache."""
    if "HIPEDGE_ENGINES" in environment:
        return Path(environment["HIPEDGE_ENGINES"])
    return cache_folder(environment) / "engines"


def engine_path(folder: Path, model_name: str, key: EngineKey) -> Path:
    """Return where an engine of this key belongs in the cache.

    A name is free text: of it remains what is safe in a file's name on every system.
    """
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", model_name)[:LONGEST_SLUG].strip(".-") or "model"
    return folder / f"{slug}-{key.digest[:16]}{ENGINE_SUFFIX}"


def find_engine(
    folder: Path, *, onnx_sha256: str, flavour: str, version: str, device: Device, cure: str
) -> Path:
    """Return the newest engine in `folder` for this model, TensorRT and device.

    Raises `BackendError` with the cure where there is none, naming what a stale one is stale in.
    """
    engines, unreadable = _sidecars(folder)
    of_model = {path: one for path, one in engines.items() if one.key.onnx_sha256 == onnx_sha256}
    newest_first = sorted(of_model, key=lambda path: of_model[path].built, reverse=True)
    for path in newest_first:
        key = of_model[path].key
        if (key.flavour, key.version) == (flavour, version) and key.runs_on(device):
            return path.with_name(path.name.removesuffix(".json"))
    here = f"{flavour} {version} on {device}"
    if unreadable:
        cure += f"; not readable here: {', '.join(unreadable)}"
    if not newest_first:
        raise BackendError(f"{folder} has no engine of this model for {here}: {cure}")
    stale = of_model[newest_first[0]].key
    raise BackendError(
        f"the newest engine of this model in {folder} is for {stale.flavour} {stale.version} on"
        f" {stale.made_for}, and this is {here}: {cure}"
    )


def _sidecars(folder: Path) -> tuple[dict[Path, Sidecar], list[str]]:
    """Return what the JSONs in a folder say by their paths, and the names of those unreadable."""
    readable, unreadable = {}, []
    for path in sorted(folder.glob(f"*{ENGINE_SUFFIX}.json")):
        try:
            readable[path] = Sidecar.read(path)
        except BackendError as error:
            log.warning("an engine is passed over: %s", error)
            unreadable.append(path.name)
    return readable, unreadable


def read_engine(path: Path) -> tuple[bytes, Sidecar]:
    """Return an engine and what its JSON says; raise `BackendError` unless its bytes are those."""
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
    """Write an engine and its JSON, so that no reader ever sees half of one."""
    sidecar_of(path).unlink(missing_ok=True)
    write_atomically(path, data)
    write_atomically(sidecar_of(path), sidecar.to_json())


def record_proof(
    path: Path, engine_sha256: str, device: Device, model_id: str, report: Mapping[str, Any]
) -> None:
    """Add to an engine's JSON the report of a verification on `device`, held to a model.

    Nothing is recorded where the engine at `path` is no longer the one that was verified.
    """
    with locked(path):
        sidecar = Sidecar.read(sidecar_of(path))
        if sidecar.engine_sha256 != engine_sha256:
            log.warning("%s was replaced while it was proved: its next use proves it", path)
            return
        proof = {"model_id": model_id, **report}
        proved = replace(sidecar, verified={**sidecar.verified, str(device): proof})
        write_atomically(sidecar_of(path), proved.to_json())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` against other processes that would write it; the lock dies with its holder."""
    with path.with_name(path.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
