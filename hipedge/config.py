"""What a site can set: flags win, then the environment, then `hipedge.toml`, then the defaults."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hipedge.errors import ConfigError
from hipedge.types import ABNORMAL, Category

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = Path("hipedge.toml")
# What `hipedge calibrate` writes beside it.
SITE_CALIBRATION_FILE = "hipedge.calibration.json"
ENVIRONMENT_PREFIX = "HIPEDGE_"


@dataclass(frozen=True)
class Settings:
    """One site's settings; every field but `thresholds` can come from the environment too.

    `calibration` is what `hipedge calibrate` wrote beside the settings file, if it did.
    """

    db: Path = Path("hipedge.db")
    model: Path | None = None
    backend: str = "auto"
    workers: int | None = None  # as `hipedge tune` has found, or one for each core
    operating_point: str = "sensitive"
    flag_hardware: bool = False
    thresholds: Mapping[Category, float] = field(default_factory=dict)
    calibration: Path | None = None
    worker_memory_mb: int = 2048
    worker_timeout_s: float = 120.0
    # `hipedge watch`:
    settle_s: float = 3.0
    patience_s: float = 600.0
    rescan_s: float = 30.0
    poll: bool = False
    done_dir: Path | None = None
    reserve_mb: int = 1024
    drain_s: float = 60.0
    fallback_backend: str | None = None
    metrics_port: int = 9464
    spool_dir: Path | None = None
    webhook_url: str | None = None
    webhook_secret_file: Path | None = None
    smtp: str = "localhost:25"
    email_from: str | None = None
    email_to: str | None = None
    notify_patient_data: bool = False


def load_settings(
    flags: Mapping[str, object],
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Merge flags (None means not given), environment and file into `Settings`.

    `file` defaults to `./hipedge.toml`, which may be absent; a file that is named must exist.
    Raises `ConfigError` naming the setting and where it came from.
    """
    if file is None and "HIPEDGE_CONFIG" in environment:
        file = Path(environment["HIPEDGE_CONFIG"])
    values = _from_file(file or CONFIG_FILE, required=file is not None)
    values |= _from_environment(environment)
    values |= {name: value for name, value in flags.items() if value is not None}
    calibration = (file or CONFIG_FILE).with_name(SITE_CALIBRATION_FILE)
    return Settings(**values, calibration=calibration if calibration.exists() else None)


def _from_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise ConfigError(f"no such settings file: {path}") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return {name: _parse(name, value, str(path)) for name, value in table.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: _parse(name, environment[variable], variable)
        for name in _FIELDS
        if name != "thresholds" and (variable := ENVIRONMENT_PREFIX + name.upper()) in environment
    }


_FIELDS = tuple(f.name for f in fields(Settings) if f.name != "calibration")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _parse(name: str, value: object, where: str) -> object:
    """Turn one value from a file or the environment into its field's type."""
    if name not in _FIELDS:
        close = difflib.get_close_matches(name, _FIELDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{where}: there is no setting {name!r}{hint}")
    if name == "thresholds" and isinstance(value, dict):
        return {_category(key, where): _probability(key, one, where) for key, one in value.items()}
    parsed = _PARSERS[name](value) if name in _PARSERS else None
    if parsed is None:
        raise ConfigError(f"{where}: {name} cannot be {value!r}")
    return parsed


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _path(value: object) -> Path | None:
    return Path(value) if isinstance(value, str) and value else None


def _boolean(value: object) -> bool | None:
    return _BOOLEANS.get(str(value).lower())


def _whole(value: object) -> int | None:
    return int(str(value)) if str(value).isdecimal() else None


def _count(value: object) -> int | None:
    return _whole(value) or None


def _seconds(value: object) -> float | None:
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


# None means that the value cannot be.
_PARSERS: Mapping[str, Callable[[object], object]] = {
    "db": _path,
    "model": _path,
    "backend": _text,
    "workers": _count,
    "operating_point": _text,
    "flag_hardware": _boolean,
    "worker_memory_mb": _count,
    "worker_timeout_s": _seconds,
    "settle_s": _seconds,
    "patience_s": _seconds,
    "rescan_s": _seconds,
    "poll": _boolean,
    "done_dir": _path,
    "reserve_mb": _whole,
    "drain_s": _seconds,
    "fallback_backend": _text,
    "metrics_port": _whole,
    "spool_dir": _path,
    "webhook_url": _text,
    "webhook_secret_file": _path,
    "smtp": _text,
    "email_from": _text,
    "email_to": _text,
    "notify_patient_data": _boolean,
}


def _category(name: str, where: str) -> Category:
    try:
        category = Category(name)
    except ValueError:
        close = difflib.get_close_matches(name, ABNORMAL, n=1)
        hint = f"; did you mean {Category(close[0]).value!r}?" if close else ""
        raise ConfigError(f"{where}: thresholds has no category {name!r}{hint}") from None
    if category not in ABNORMAL:
        raise ConfigError(f"{where}: {name} raises no flag, so it has no threshold")
    return category


def _probability(name: str, value: object, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= float(str(value)) <= 1:
        raise ConfigError(f"{where}: the threshold of {name} must lie between 0 and 1")
    return float(str(value))
