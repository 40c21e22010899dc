"""Libraries for the network, made silent: their logs quote what peers send, also patient data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from hipedge.errors import InstallationError

# PS3.8 D.1: the longest P-DATA-TF PDU that hipedge accepts. A film of 15 MB takes 115 of them.
MAX_PDU_BYTES = 131_072
_LOGGERS = ("pynetdicom", "pydicom", "dicomweb_client", "requests", "urllib3")


def require_pynetdicom() -> None:
    """Raise `InstallationError` without the extra `clinic`; prepare pynetdicom otherwise."""
    try:
        from pynetdicom import _config
    except ImportError as error:
        raise InstallationError(
            "DICOM over the network needs pynetdicom: pip install 'hipedge[clinic]'"
        ) from error
    _config.LOG_HANDLER_LEVEL = "none"  # else each PDU is formatted as text for the log


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the logs of these libraries, and all Python warnings.

    Filters and loggers are global to the process: this encloses a service as a whole.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
            logger.propagate = False
        try:
            yield
        finally:
            for logger, level, propagate in before:
                logger.setLevel(level)
                logger.propagate = propagate
