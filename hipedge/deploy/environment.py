"""The Python environment that the units start, and whether they can reach it."""

from __future__ import annotations

import re
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import hipedge
from hipedge.errors import InstallationError

# Folders that ProtectHome= and PrivateTmp= hide from the services.
HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
# Neither white space nor what a unit file gives a meaning: quotes, %, $ and backslashes.
_PLAIN_PATH = re.compile(r"[\w/.+,:@~-]+", re.ASCII)
REMEDY = (
    "install hipedge where services can read it: `python3 -m venv /opt/hipedge` and "
    "`/opt/hipedge/bin/pip install 'hipedge[service,clinic,web]'`"
)


@dataclass(frozen=True)
class Environment:
    """A Python environment with hipedge: the folder of its commands, and what these read."""

    scripts: Path
    read: tuple[Path, ...] = ()

    @classmethod
    def present(cls) -> Environment:
        """Return the environment of this process.

        Raises `InstallationError` if it has no command `hipedge`, or lies at a path that cannot be
        written into a unit.
        """
        scripts = Path(sysconfig.get_path("scripts"))
        if not (scripts / "hipedge").is_file():
            raise InstallationError(f"there is no command hipedge in {scripts}: {REMEDY}")
        if not _PLAIN_PATH.fullmatch(str(scripts)):
            raise InstallationError(f"systemd cannot start commands in {str(scripts)!r}: {REMEDY}")
        package = Path(hipedge.__file__).parent
        return cls(scripts, (scripts, package, Path(sys.base_prefix)))

    def obstacle(self) -> str | None:
        """Return why the services could not run from here, or None."""
        for path in self.read:
            real = path.resolve()
            if any(real.is_relative_to(folder) for folder in HIDDEN):
                return f"{path} is hidden from the services (ProtectHome=, PrivateTmp=)"
            if not all(_others_may_enter(folder) for folder in (real, *real.parents)):
                return f"{path} cannot be read by the user hipedge"
        return None


def _others_may_enter(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)
