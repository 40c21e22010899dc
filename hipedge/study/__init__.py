"""Statistics and reports of validation studies and reader studies."""

from __future__ import annotations

from importlib.util import find_spec

from hipedge.errors import InstallationError

_REQUIRED = ("scipy", "statsmodels", "matplotlib", "jinja2")


def check_installed() -> None:
    """Raise `InstallationError` if a package of the extra `study` is missing."""
    missing = [name for name in _REQUIRED if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"this command needs {' and '.join(missing)}: run pip install 'hipedge[study]'"
        )
