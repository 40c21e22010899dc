"""The worklist in a browser: `hipedge serve` (extra `web`)."""

from __future__ import annotations

from importlib.util import find_spec

from hipedge.errors import InstallationError

_REQUIRED = ("starlette", "uvicorn", "jinja2", "argon2")


def check_installed() -> None:
    """Raise `InstallationError` if a package of the extra `web` is missing."""
    missing = [name for name in _REQUIRED if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"this command needs {' and '.join(missing)}: run pip install 'hipedge[web]'"
        )
