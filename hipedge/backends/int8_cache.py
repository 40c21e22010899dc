"""The cache of quantized classifiers: each with a JSON of what it was made of and where it pays.

A runtime takes one only where `hipedge export int8` has proved it with that runtime, in that
version, on such a processor, and has measured it faster there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import hipedge
from hipedge.errors import BackendError
from hipedge.files import cache_folder, write_atomically
from hipedge.machine import processor_kind
from hipedge.model import ModelFolder
from hipedge.model.card import CLASSIFIER
from hipedge.versions import package_version

COMMAND = "hipedge export int8"


@dataclass(frozen=True)
class Trial:
    """What came out of one runtime: `faults` is empty where it is proved; times are per hip."""

    faults: tuple[str, ...]
    reference_ms: float
    int8_ms: float
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def obstacle(self) -> str | None:
        """Why INT8 is not taken here, None where it is."""
        if self.faults:
            others = len(self.faults) - 1
            return f"not proved: {self.faults[0]}" + (f", and {others} more" if others else "")
        if not self.int8_ms < self.reference_ms:
            return f"no faster: {self.int8_ms:.2f} ms a hip, not {self.reference_ms:.2f}"
        return None

    @property
    def reason(self) -> str:
        """What was chosen and why, for a person."""
        if (obstacle := self.obstacle) is not None:
            return f"INT8 is {obstacle}"
        return f"INT8 is proved, and {self.reference_ms / self.int8_ms:.2f} times as fast"


@dataclass(frozen=True)
class Int8Key:
    """What a quantized classifier was made of."""

    model_id: str
    onnx_sha256: str
    calibration_sha256: str
    hipedge: str

    @classmethod
    def of(cls, model: ModelFolder, calibration_sha256: str) -> Int8Key:
        """Return the key of a model by this version of hipedge."""
        sha256 = model.card.files[CLASSIFIER]
        return cls(model.model_id, sha256, calibration_sha256, hipedge.__version__)


@dataclass(frozen=True)
class Int8Sidecar:
    """The JSON beside a quantized classifier: its key, its hash, and the trial of each runtime."""

    key: Int8Key
    sha256: str
    trials: Mapping[str, Trial] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the file's content."""
        return (json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, path: Path) -> Int8Sidecar:
        """Read the JSON; raise `BackendError` where it is missing or invalid."""
        try:
            content = json.loads(path.read_bytes())
            trials = {
                name: Trial(**{**trial, "faults": tuple(trial["faults"])})
                for name, trial in content["trials"].items()
            }
            return cls(Int8Key(**content["key"]), content["sha256"], trials)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackendError(f"{path} describes no INT8 file: run `{COMMAND}` again") from error


def int8_path(model: ModelFolder) -> Path:
    """Return where the quantized classifier of a model is, or would be."""
    return cache_folder() / "int8" / f"{model.model_id[:32]}.onnx"


def sidecar_of(path: Path) -> Path:
    """Return the path of the JSON beside a quantized classifier."""
    return path.with_suffix(".json")


def write_int8(model: ModelFolder, data: bytes, calibration_sha256: str) -> Path:
    """Write a quantized classifier that has not been tried yet, in place of an earlier one."""
    path = int8_path(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    sidecar = Int8Sidecar(Int8Key.of(model, calibration_sha256), hashlib.sha256(data).hexdigest())
    sidecar_of(path).unlink(missing_ok=True)
    write_atomically(path, data)
    write_atomically(sidecar_of(path), sidecar.to_json())
    return path


def record_trial(path: Path, runtime: str, trial: Trial) -> None:
    """Add the trial of a runtime on this processor to the JSON."""
    sidecar = Int8Sidecar.read(sidecar_of(path))
    trials = {**sidecar.trials, trial_name(runtime): trial}
    write_atomically(sidecar_of(path), replace(sidecar, trials=trials).to_json())


def trial_name(runtime: str) -> str:
    """Return the name of a runtime's trials here, such as `openvino=2026.4.1 on …`."""
    return f"{runtime}={package_version(runtime)} on {processor_kind()}"


def find_int8(model: ModelFolder, runtime: str) -> tuple[Path | None, str]:
    """Return the quantized classifier that a runtime is to take, or None; and the reason."""
    path = int8_path(model)
    try:
        if not sidecar_of(path).exists():
            return None, f"INT8 is not made: {COMMAND}"
        sidecar = Int8Sidecar.read(sidecar_of(path))
        data = path.read_bytes()
    except (BackendError, OSError) as error:
        return None, f"INT8 cannot be read: {error}"
    if sidecar.key != Int8Key.of(model, sidecar.key.calibration_sha256):
        return None, f"INT8 is of another version of hipedge or of the model: {COMMAND}"
    if hashlib.sha256(data).hexdigest() != sidecar.sha256:
        return None, f"INT8 is not the file that its JSON describes: {COMMAND}"
    if (trial := sidecar.trials.get(trial_name(runtime))) is None:
        return None, f"INT8 is not proved with this {runtime} on this processor: {COMMAND}"
    return (None if trial.obstacle else path), trial.reason
