"""Site settings: command-line options win over the environment, then `hipedge.toml`, then defaults.

The types of the fields of `Settings` are the schema; msgspec validates values against it.
"""

from __future__ import annotations

import difflib
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from hipedge.errors import ConfigError
from hipedge.types import ABNORMAL, Category

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = Path("hipedge.toml")
# Written by `hipedge calibrate` next to the settings file.
SITE_CALIBRATION_FILE = "hipedge.calibration.json"
ENVIRONMENT_PREFIX = "HIPEDGE_"
# Of the key in `patient_key_file`.
MIN_KEY_BYTES, MAX_KEY_BYTES = 32, 4096

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
Rate = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
# Kinds of results: secondary capture, structured report, presentation state, key objects.
ResultKind = Literal["sc", "sr", "gsps", "kos"]
# PS3.5 6.2, value representation AE: spaces around it are not significant.
AETitle = Annotated[str, Meta(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]


@dataclass(frozen=True)
class Settings:
    """The settings of one site; docs/settings.md says what each of them means.

    Every field can be set in `hipedge.toml`, and every field but `thresholds` by the environment
    variable `HIPEDGE_<FIELD>`. `calibration` is no setting: it is the calibration file next to the
    settings file, if `hipedge calibrate` has written one.
    """

    db: Path = Path("hipedge.db")
    model: Path | None = None
    backend: Text = "auto"
    workers: Count | None = None  # None: as measured by `hipedge tune`, or one per core
    operating_point: Text = "sensitive"
    flag_hardware: bool = False
    thresholds: Mapping[Category, float] = field(default_factory=dict)
    calibration: Path | None = None
    worker_memory_mb: Count = 2048
    worker_timeout_s: Seconds = 120.0
    patient_key_file: Path | None = None  # None: nothing tells which films are of one patient
    # Used by `hipedge watch` only:
    settle_s: Seconds = 3.0
    patience_s: Seconds = 600.0
    rescan_s: Seconds = 30.0
    poll: bool = False
    done_dir: Path | None = None
    reserve_mb: CountOrZero = 1024
    drain_s: Seconds = 60.0
    fallback_backend: Text | None = None
    metrics_port: CountOrZero = 9464
    spool_dir: Path | None = None
    webhook_url: Text | None = None
    webhook_secret_file: Path | None = None
    fhir_url: Text | None = None
    fhir_token_file: Path | None = None
    smtp: Text = "localhost:25"
    email_from: Text | None = None
    email_to: Text | None = None
    notify_patient_data: bool = False
    # Used by `hipedge watch` and `hipedge send`: results in PACS
    results: tuple[ResultKind, ...] = ("sc", "sr")
    results_unflagged: bool = False
    results_not_read: bool = True
    results_heat_maps: bool = False
    results_codes: Path | None = None
    pacs_host: Text | None = None
    pacs_port: Port = 104
    pacs_ae_title: AETitle = "ANY-SCP"
    pacs_calling_ae_title: AETitle = "HIPEDGE"
    pacs_tls: bool = False
    pacs_tls_authorities: Path | None = None
    pacs_tls_certificate: Path | None = None
    pacs_tls_key: Path | None = None
    pacs_stow_url: Text | None = None
    pacs_qido_url: Text | None = None
    pacs_authorization_file: Path | None = None
    pacs_confirm_s: Seconds = 60.0
    # Used by `hipedge receive` only:
    receive_ae_title: AETitle = "HIPEDGE"
    receive_host: Text = "127.0.0.1"
    receive_port: Port = 11112
    receive_from: tuple[AETitle, ...] = ()
    receive_from_anyone: bool = False
    receive_tls_certificate: Path | None = None
    receive_tls_key: Path | None = None
    receive_tls_clients: Path | None = None
    receive_associations: Count = 16
    receive_connections_per_s: Rate = 20.0
    receive_idle_s: Seconds = 30.0
    # Used by `hipedge fetch` only:
    fetch_authorization_file: Path | None = None
    fetch_tls_authorities: Path | None = None
    # Used by `hipedge serve` only:
    web_host: Text = "127.0.0.1"
    web_port: CountOrZero = 8464
    web_db: Path | None = None  # None: beside the database, see `web_database`
    study_db: Path | None = None  # None: beside the database, see `study_database`
    web_certificate: Path | None = None
    web_key: Path | None = None
    web_blind: bool = False
    web_idle_minutes: Seconds = 30.0

    @property
    def web_database(self) -> Path:
        """The database of users, sessions and the log of `hipedge serve`."""
        return self.web_db or self.db.with_name(f"{self.db.stem}.web{self.db.suffix}")

    @property
    def study_database(self) -> Path:
        """The database of reader studies, for `hipedge study` and `hipedge serve`."""
        return self.study_db or self.db.with_name(f"{self.db.stem}.study{self.db.suffix}")


_TYPES = get_type_hints(Settings, include_extras=True)
del _TYPES["calibration"]
# Spellings that msgspec does not know, beside true, false, 1 and 0.
_BOOLEANS = {"yes": "true", "no": "false"}


def load_settings(
    flags: Mapping[str, object],
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Merge command-line options (None means not given), environment and file into `Settings`.

    `file` defaults to `./hipedge.toml`, which may be absent; a file that is named must exist.
    Raises `ConfigError` naming the setting and the file or variable that it came from.
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
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows write a byte order mark
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
        for name in _TYPES
        if name != "thresholds" and (variable := ENVIRONMENT_PREFIX + name.upper()) in environment
    }


def _parse(name: str, value: object, source: str) -> object:
    """Convert one value from a file or the environment to the type of its field."""
    if name not in _TYPES:
        raise ConfigError(f"{source}: there is no setting {name!r}{_suggestion(name, _TYPES)}")
    if name == "thresholds" and isinstance(value, dict):
        return dict(_threshold(category, limit, source) for category, limit in value.items())
    if _TYPES[name] is bool and isinstance(value, str):
        value = _BOOLEANS.get(value.lower(), value)
    if get_origin(_TYPES[name]) is tuple and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    try:
        return msgspec.convert(value, _TYPES[name], strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {name} cannot be {value!r} ({error})") from None


def _path(_: type, value: object) -> Path:
    """Convert a value to a path, the one type here that msgspec does not know."""
    if not isinstance(value, str) or not value:
        raise ValueError("Expected a path")
    return Path(value)


def _threshold(name: str, value: object, source: str) -> tuple[Category, float]:
    if name not in ABNORMAL:
        if name == Category.NORMAL:
            raise ConfigError(f"{source}: {name} raises no flag, so it has no threshold")
        hint = _suggestion(name, [category.value for category in ABNORMAL])
        raise ConfigError(f"{source}: thresholds has no category {name!r}{hint}")
    try:
        return Category(name), msgspec.convert(value, Probability)
    except msgspec.ValidationError:
        raise ConfigError(f"{source}: the threshold of {name} must lie between 0 and 1") from None


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def patient_key_of(settings: Settings) -> bytes | None:
    """Return the key in a site's `patient_key_file`, None where the site has none.

    Raises `ConfigError` for a file that cannot be read, or holds no secret.
    """
    path = settings.patient_key_file
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            key = file.read(MAX_KEY_BYTES).strip()
    except OSError as error:
        raise ConfigError(
            f"patient_key_file {path} cannot be read ({error.strerror}): restore it; or make a new "
            "one with `openssl rand -hex 32`, which links no film to those before"
        ) from error
    if mode & 0o077:
        raise ConfigError(f"patient_key_file {path} can be read by others: chmod 600 {path}")
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(f"patient_key_file {path} is too short: openssl rand -hex 32 > {path}")
    return key
