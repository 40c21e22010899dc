"""The statistics of a validation and reader study: arrays in, tables out."""

from __future__ import annotations

from importlib.util import find_spec

from hipedge.errors import InstallationError

_NEEDED = ("scipy", "matplotlib")


def check_installed() -> None:
    """Raise `InstallationError` where the packages of the extra `study` are missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"this command needs {' and '.join(missing)}: run pip install 'hipedge[study]'"
        )
