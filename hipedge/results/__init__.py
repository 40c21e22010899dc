"""Results as DICOM objects that belong to the film's study (extra `clinic`).

A film's case becomes a Secondary Capture, a Structured Report, a presentation state or a key object
selection (`build`). Nothing here sends or stores anything.
"""

from __future__ import annotations

from importlib.util import find_spec

from hipedge.errors import InstallationError

_REQUIRED = ("highdicom", "pynetdicom", "dicomweb_client")


def check_installed() -> None:
    """Raise `InstallationError` if a package of the extra `clinic` is missing."""
    missing = [name for name in _REQUIRED if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"results for PACS need {' and '.join(missing)}: run pip install 'hipedge[clinic]'"
        )
