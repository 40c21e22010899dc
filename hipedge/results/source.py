"""The film that a result belongs to: its header, read again from the file that was screened."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from hipedge.dicom.read import load
from hipedge.errors import InputError, Refused

# Their messages quote the file, so patient data would reach the logs.
_QUOTING_LOGGERS = ("pydicom", "highdicom", "pynetdicom", "dicomweb_client")


class FilmGone(InputError):
    """The film is no longer where it was screened, or is another one by now."""


class NotReportable(InputError):
    """No result can belong to this file: it is no DICOM file, or names no study and instance."""


@dataclass(frozen=True, eq=False)
class Source:
    """A film's header without its pixels, and where the film lies."""

    path: Path
    header: Dataset

    @property
    def study_uid(self) -> str:
        """Study Instance UID (0020,000D)."""
        return str(self.header.StudyInstanceUID)

    @property
    def film_uid(self) -> str:
        """SOP Instance UID (0008,0018)."""
        return str(self.header.SOPInstanceUID)

    @property
    def film_class(self) -> str:
        """SOP Class UID (0008,0016)."""
        return str(self.header.SOPClassUID)


@contextmanager
def tolerant() -> Iterator[None]:
    """Take values as they are in the film, and keep libraries from quoting them.

    Warning filters and loggers are global to the process: do not use this in threads.
    """
    loggers = [logging.getLogger(name) for name in _QUOTING_LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def read_source(places: Sequence[Path], content_hash: str | None) -> Source:
    """Read a film's header from the first of some places where its content still lies.

    Call it within `tolerant`. Raises `FilmGone` where it is at none of them any more, and
    `NotReportable` if no result can belong to it.
    """
    for path in places:
        try:
            payload = load(path)
        except Refused:
            continue
        if payload.is_named(content_hash):
            return Source(path, _header(payload.data))
    raise FilmGone("the film is no longer where it was screened")


def _header(data: bytes) -> Dataset:
    try:
        header = dcmread(BytesIO(data), stop_before_pixels=True, force=True)
        uids = [header.get(name) for name in ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID")]
    except Exception as error:  # whatever pydicom raises on a malformed file
        raise NotReportable("the header of the film cannot be read") from error
    if not all(uids):
        raise NotReportable(
            "the film names no study, instance or class that a result could refer to"
        )
    return header


def can_have_overlay(source: Source) -> bool:
    """Return whether a film is grayscale, as the presentation state's class demands."""
    return bool(source.header.get("SamplesPerPixel") == 1)
