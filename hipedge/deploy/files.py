"""The files of the services: which are installed where, and what they contain.

`units/` holds them as templates, in which `@BIN@` stands for the folder of the command `hipedge`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path

UNIT_FOLDER = Path("/etc/systemd/system")
SETTINGS_FILE = Path("/etc/hipedge/hipedge.toml")
# Where the units let films arrive.
INCOMING = Path("/srv/hipedge/incoming")
# Made from the settings, unlike the files below: which peers the service may connect to.
PEERS_FILE = UNIT_FOLDER / "hipedge-watch.service.d/peers.conf"


class Part(str, Enum):
    """What a site may choose to install."""

    WATCH = "watch"
    GPU = "gpu"
    RECEIVE = "receive"
    WEB = "web"


@dataclass(frozen=True)
class ServiceFile:
    """A file of the services: the part that it belongs to, its template and its place."""

    part: Part
    template: str
    target: Path

    def render(self, scripts: Path) -> bytes:
        """Return the content, for the environment with this folder of commands."""
        text = (files("hipedge.deploy") / "units" / self.template).read_text("utf-8")
        return text.replace("@BIN@", str(scripts)).encode()


def _unit(part: Part, name: str) -> ServiceFile:
    return ServiceFile(part, name, UNIT_FOLDER / name)


FILES = (
    ServiceFile(Part.WATCH, "hipedge.sysusers.conf", Path("/etc/sysusers.d/hipedge.conf")),
    ServiceFile(Part.WATCH, "hipedge.tmpfiles.conf", Path("/etc/tmpfiles.d/hipedge.conf")),
    _unit(Part.WATCH, "hipedge-watch.service"),
    _unit(Part.WATCH, "hipedge-health.service"),
    _unit(Part.WATCH, "hipedge-health.timer"),
    ServiceFile(
        Part.GPU, "hipedge-watch.gpu.conf", UNIT_FOLDER / "hipedge-watch.service.d/gpu.conf"
    ),
    _unit(Part.RECEIVE, "hipedge-receive.service"),
    _unit(Part.WEB, "hipedge-serve.service"),
)
# The settings belong to the site: they are written once, and neither changed nor removed.
SETTINGS = ServiceFile(Part.WATCH, "hipedge.toml", SETTINGS_FILE)
# The units that are enabled and started, by part.
UNITS = {
    "hipedge-watch.service": Part.WATCH,
    "hipedge-health.timer": Part.WATCH,
    "hipedge-receive.service": Part.RECEIVE,
    "hipedge-serve.service": Part.WEB,
}


def files_of(parts: Collection[Part]) -> Iterator[ServiceFile]:
    """Yield the files of some parts, the settings not among them."""
    return (file for file in FILES if file.part in parts)


def units_of(parts: Collection[Part]) -> list[str]:
    """Return the units of some parts that are enabled and started."""
    return [unit for unit, part in UNITS.items() if part in parts]
