"""`hipedge fetch`: radiographs of past days from a DICOMweb server into a folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from hipedge.errors import HipedgeError, InputError
from hipedge.network.dicomweb import DicomWeb, FetchError, Instance, Study
from hipedge.network.journal import Journal
from hipedge.network.library import quiet_libraries
from hipedge.network.spool import Spool, write_film
from hipedge.service_log import event

# Hidden, and no DICOM file: `watch` leaves it aside.
JOURNAL = ".fetched"
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # PS3.5 6.2, value representation CS


@dataclass(frozen=True)
class Query:
    """Which films to fetch: of these days, inclusive, modalities, and body parts (none: all)."""

    since: date
    until: date
    modalities: tuple[str, ...]
    body_parts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.since > self.until:
            raise InputError(f"the first day, {self.since}, is later than the last, {self.until}")
        for code in (*self.modalities, *self.body_parts):
            if not _CODE.fullmatch(code):
                raise InputError(f"{code!r} is no modality or body part of DICOM")

    def days(self) -> Iterator[date]:
        """Yield the days, the first one first."""
        for number in range((self.until - self.since).days + 1):
            yield self.since + timedelta(days=number)

    def key(self, study: Study, modality: str) -> str:
        """Return the name in the journal of what this query takes of a study."""
        parts = "+".join(sorted(self.body_parts)).replace(" ", "_")
        return f"{study.uid}/{modality}/{parts}"


@dataclass
class Fetched:
    """How many films were fetched now, were fetched before, and could not be fetched.

    A study that could not be searched counts as one.
    """

    films: int = 0
    known: int = 0
    failed: int = 0


def fetch(server: DicomWeb, folder: Path, query: Query, reserve_bytes: int) -> Fetched:
    """Fetch the films of a query into a folder that are not in its journal.

    A film that the server does not deliver is counted and left for the next call. Raises
    `FetchError` where the server cannot be searched for studies, and `InputError` where the folder
    cannot be used; what was fetched until then stays and is not fetched again.
    """
    fetched = Fetched()
    with (
        quiet_libraries(),
        Spool(folder, reserve_bytes) as spool,
        Journal(folder / JOURNAL) as journal,
    ):
        line = _Line(server, spool, journal, fetched)
        for day in query.days():
            before = replace(fetched)
            for modality in query.modalities:
                for study in server.studies(day, modality):
                    line.fetch_study(study, query, modality)
            if fetched != before:
                event(logging.INFO, "fetched", until=f"{day}", **vars(fetched))
    return fetched


@dataclass
class _Line:
    server: DicomWeb
    spool: Spool
    journal: Journal
    fetched: Fetched

    def fetch_study(self, study: Study, query: Query, modality: str) -> None:
        key = query.key(study, modality)
        if study.instances is not None and self.journal.has_study(key, study.instances):
            return
        failed = self.fetched.failed
        try:
            for instance in self.server.instances(study.uid, modality, query.body_parts):
                if self.journal.has_instance(instance.uid):
                    self.fetched.known += 1
                else:
                    self._fetch_instance(instance)
        except FetchError as error:  # the study cannot be searched; others may be
            self._fail(error)
        if study.instances is not None and failed == self.fetched.failed:
            self.journal.add_study(key, study.instances)

    def _fetch_instance(self, instance: Instance) -> None:
        try:
            write_film(self.spool, self.server.film(instance))
        except FetchError as error:
            self._fail(error)
        except OSError as error:
            raise HipedgeError(
                f"a film cannot be written ({error.strerror}): free the disk and fetch again"
            ) from error
        else:
            self.journal.add_instance(instance.uid)
            self.fetched.films += 1

    def _fail(self, error: FetchError) -> None:
        self.fetched.failed += 1
        event(logging.WARNING, "not_fetched", reason=str(error))
