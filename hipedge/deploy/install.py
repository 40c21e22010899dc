"""Installing and removing the services: first a plan that can be shown, then its steps.

Everything is done by files and by systemd's own commands (systemd-sysusers(8), systemd-tmpfiles(8),
systemctl(1)), which all take `--root=`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hipedge.config import load_settings
from hipedge.deploy.environment import REMEDY, Environment
from hipedge.deploy.files import (
    FILES,
    PEERS_FILE,
    SETTINGS,
    UNIT_FOLDER,
    Part,
    files_of,
    units_of,
)
from hipedge.deploy.peers import render_peers
from hipedge.errors import ConfigError, InstallationError
from hipedge.files import write_atomically

HOST = Path("/")
# Exists while systemd is the system's init (sd_booted(3)).
_BOOTED = Path("/run/systemd/system")
_FILE_MODE = 0o644
# The files that an uninstallation removes.
_OURS = (*(file.target for file in FILES), PEERS_FILE)
# What is left by an uninstallation, and what it is.
_LEFT = {
    "/etc/hipedge": "the settings",
    "/var/lib/hipedge": "the database and caches",
    "/srv/hipedge": "the films",
}


class Action(str, Enum):
    """What a step does."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    REMOVE = "remove"
    LEAVE = "leave"
    RUN = "run"
    NOTE = "note"


@dataclass(frozen=True)
class Step:
    """One step: a file with its new content, a command, or what is left as it is and why."""

    action: Action
    subject: str
    reason: str = ""
    content: bytes = b""
    command: tuple[str, ...] = ()


def plan_install(
    environment: Environment,
    root: Path = HOST,
    *,
    gpu: bool = False,
    receive: bool = False,
    web: bool = False,
) -> list[Step]:
    """Return the steps that install the services, or bring installed ones up to date.

    `watch` is always installed; the files of other parts stay if they are there already.
    Raises `InstallationError` if the services could not run from this environment, or systemd's
    commands are missing; `ConfigError` if the site's settings are invalid.
    """
    obstacle = environment.obstacle()
    if obstacle and root == HOST:
        raise InstallationError(f"{obstacle}: {REMEDY}")
    steps = [Step(Action.NOTE, obstacle, "no unit could start it")] if obstacle else []
    chosen = {Part.WATCH: True, Part.GPU: gpu, Part.RECEIVE: receive, Part.WEB: web}
    with _file_errors():
        parts = _installed(root) | {part for part, wanted in chosen.items() if wanted}
        steps += [
            _write(_on(root, file.target), file.render(environment.scripts))
            for file in files_of(parts)
        ]
        steps += _settings_steps(root, environment.scripts)
    steps.append(_run("systemd-sysusers", *_at(root), "hipedge.conf"))
    steps.append(_run("systemd-tmpfiles", "--create", *_at(root), "hipedge.conf"))
    return [*steps, *_start(root, units_of(parts))]


def plan_uninstall(root: Path = HOST) -> list[Step]:
    """Return the steps that remove the services, and name what they leave.

    Settings, database, films and the user who owns them are left, and so are the site's drop-ins.
    """
    with _file_errors():
        installed = [path for target in _OURS if (path := _on(root, target)).exists()]
        units = units_of(_installed(root))
        left = list(_left(root))
    steps = list[Step]()
    if units:
        now = ("--now",) if _runs_systemd(root) else ()
        steps += _systemctl(root, "disable", *now, *units)
    steps += [Step(Action.REMOVE, str(path)) for path in installed]
    if units and _runs_systemd(root):
        steps += _systemctl(root, "daemon-reload")
    return [*steps, *left]


def perform(steps: Sequence[Step]) -> None:
    """Do the steps in order. Raises `InstallationError` at the first that fails."""
    for step in steps:
        with _file_errors(step.subject):
            _perform(step)


@contextmanager
def _file_errors(subject: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = ": only root may do this" if isinstance(error, PermissionError) else ""
        message = f"{subject or error.filename}: {error.strerror}{remedy}"
        raise InstallationError(message) from error


def _perform(step: Step) -> None:
    path = Path(step.subject)
    if step.action in (Action.CREATE, Action.UPDATE):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, step.content)
        path.chmod(_FILE_MODE)
    elif step.action is Action.REMOVE:
        path.unlink()
        if path.parent.name.endswith(".service.d") and not any(path.parent.iterdir()):
            path.parent.rmdir()
    elif step.action is Action.RUN:
        done = subprocess.run(step.command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InstallationError(f"{step.subject} failed: {done.stderr.strip()}")


def _installed(root: Path) -> set[Part]:
    return {file.part for file in FILES if _on(root, file.target).exists()}


def _write(path: Path, content: bytes) -> Step:
    if not path.exists():
        return Step(Action.CREATE, str(path), content=content)
    if path.read_bytes() == content:
        return Step(Action.KEEP, str(path), "unchanged")
    return Step(Action.UPDATE, str(path), content=content)


def _settings_steps(root: Path, scripts: Path) -> Iterator[Step]:
    """Yield the steps for the settings, and for the peers that they name."""
    path, peers_path = _on(root, SETTINGS.target), _on(root, PEERS_FILE)
    if not path.exists():
        yield Step(Action.CREATE, str(path), content=SETTINGS.render(scripts))
        return
    settings = load_settings({}, path, {})
    if not settings.db.is_absolute():
        raise ConfigError(
            f'{path} must name the database by its whole path: add db = "/var/lib/hipedge/cases.db"'
        )
    yield Step(Action.KEEP, str(path), "the site's settings")
    peers = render_peers(settings)
    if peers is not None:
        yield _write(peers_path, peers)
    elif peers_path.exists():
        yield Step(Action.REMOVE, str(peers_path), "the settings name no other machine")


def _start(root: Path, units: Sequence[str]) -> Iterator[Step]:
    """Yield the steps that enable the units, and start those that run anew with what is new."""
    if shutil.which("systemctl") is None:
        yield Step(Action.NOTE, "the services are not enabled", "there is no systemctl here")
    elif _runs_systemd(root):
        yield from _systemctl(root, "daemon-reload")
        yield from _systemctl(root, "enable", *units)
        yield from _systemctl(root, "restart", *units)
    else:
        yield from _systemctl(root, "enable", *units)
        yield Step(Action.NOTE, "the services are not started", "systemd does not run here")


def _systemctl(root: Path, *arguments: str) -> Iterator[Step]:
    if shutil.which("systemctl") is not None:
        yield _run("systemctl", *_at(root), *arguments)


def _left(root: Path) -> Iterator[Step]:
    for target, what in _LEFT.items():
        if (path := _on(root, Path(target))).exists():
            yield Step(Action.LEAVE, str(path), what)
    for folder in sorted(_on(root, UNIT_FOLDER).glob("hipedge-*.service.d")):
        for path in sorted(set(folder.iterdir()) - {_on(root, target) for target in _OURS}):
            yield Step(Action.LEAVE, str(path), "the site's drop-in")
    yield Step(Action.LEAVE, "user hipedge", "owner of these files")


def _run(program: str, *arguments: str) -> Step:
    if shutil.which(program) is None:
        raise InstallationError(f"there is no {program} here: apt install systemd")
    command = (program, *arguments)
    return Step(Action.RUN, " ".join(command), command=command)


def _runs_systemd(root: Path) -> bool:
    return root == HOST and _BOOTED.is_dir()


def _at(root: Path) -> tuple[str, ...]:
    return () if root == HOST else (f"--root={root}",)


def _on(root: Path, target: Path) -> Path:
    """Return where a file of the target system lies on this one."""
    return root / target.relative_to("/")
