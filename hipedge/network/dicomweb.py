"""A DICOMweb server as a source of films: searched by QIDO-RS, fetched by WADO-RS (PS3.18 10)."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hipedge.dicom.dataset import PREFIX, PREFIX_OFFSET
from hipedge.dicom.read import MAX_FILE_BYTES
from hipedge.errors import ConfigError, HipedgeError, InstallationError
from hipedge.network.contexts import STORAGE_CLASSES
from hipedge.network.multipart import only_part
from hipedge.service_log import event

if TYPE_CHECKING:
    from dicomweb_client.web import DICOMwebClient
    from requests import Session

TIMEOUT_S = 60.0
PAGE = 100
# Fewer than any server returns for one search; Orthanc's configuration says 100.
MANY = 50
# Statuses of a server that is to be asked again later.
BUSY = (429, 502, 503, 504)
_CHUNK_BYTES = 1 << 18
# As PS3.5 9.1, but also with components that begin with a zero, which some systems give.
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_PREFIX = slice(PREFIX_OFFSET, PREFIX_OFFSET + len(PREFIX))
_ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_Row = dict[str, Any]  # of the DICOM JSON model, PS3.18 F.2
_STUDY, _SERIES, _INSTANCE, _CLASS = "0020000D", "0020000E", "00080018", "00080016"
_BODY_PART, _COUNT = "00180015", "00201208"


class FetchError(HipedgeError):
    """A server did not answer a request as DICOMweb demands. The text holds no patient data."""


@dataclass(frozen=True)
class Study:
    """A study, and how many instances the server says that it has (None: it does not say)."""

    uid: str
    instances: int | None


@dataclass(frozen=True)
class Instance:
    """Where an instance lies."""

    study: str
    series: str
    uid: str


class DicomWeb:
    """A DICOMweb server. `before_request` is called before each request.

    Raises `ConfigError` for an address that is no http(s) URL, and `InstallationError` without the
    extra `clinic`. The methods raise `FetchError`.
    """

    def __init__(
        self,
        url: str,
        *,
        authorization: str | None = None,
        authorities: Path | None = None,
        before_request: Callable[[], None] = lambda: None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError("the server's address must begin with https:// or http:// and a host")
        if authorization is not None and parts.scheme == "http" and not _is_here(parts.hostname):
            raise ConfigError(
                "a password is not sent over http:// to another machine: use https://"
            )
        self._session = _session(authorization, authorities)
        self._client = _client(url.rstrip("/"), self._session)
        self._before_request = before_request

    def studies(self, day: date, modality: str) -> Iterator[Study]:
        """Yield the studies of a day that have a series of a modality.

        Servers limit the results of a search, and not all of them tell: a day that has many studies
        is searched again hour by hour.
        """
        seen = set[str]()
        for study in self._studies(day, modality):
            seen.add(study.uid)
            yield study
        if len(seen) < MANY:
            return
        for hour in range(24):
            found = list(self._studies(day, modality, f"{hour:02}0000-{hour:02}5959.999999"))
            if len(found) >= MANY:
                event(logging.WARNING, "many_studies", day=f"{day}", hour=hour, found=len(found))
            yield from (study for study in found if study.uid not in seen)
            seen.update(study.uid for study in found)

    def _studies(self, day: date, modality: str, times: str | None = None) -> Iterator[Study]:
        filters = {"StudyDate": f"{day:%Y%m%d}", "ModalitiesInStudy": modality}
        if times is not None:
            filters["StudyTime"] = times
        found = self._pages(
            _STUDY, lambda **page: self._client.search_for_studies(search_filters=filters, **page)
        )
        for row in found:
            count = _value(row, _COUNT)
            yield Study(_text(row, _STUDY), count if isinstance(count, int) else None)

    def instances(
        self, study: str, modality: str, body_parts: frozenset[str]
    ) -> Iterator[Instance]:
        """Yield a study's instances of a modality that may be radiographs of these body parts.

        Without body parts, all are taken; a series that names none is taken in any case, since
        many radiographs do not. The body part is compared here: few servers search for it.
        """
        _require_uid(study)
        series = self._pages(
            _SERIES,
            lambda **page: self._client.search_for_series(
                study,
                fields=["BodyPartExamined"],
                search_filters={"Modality": modality},
                **page,
            ),
        )
        for row in series:
            part = _text(row, _BODY_PART).upper()
            if not body_parts or not part or part in body_parts:
                yield from self._instances_of_series(study, _text(row, _SERIES))

    def film(self, instance: Instance) -> Iterator[bytes]:
        """Yield the bytes of an instance's file, in the transfer syntax in which it is stored."""
        from dicomweb_client.uri import URI

        with self._translated():
            _require_uid(instance.study, instance.series, instance.uid)
            url = str(URI(self._client.base_url, instance.study, instance.series, instance.uid))
            self._before_request()
            response = self._session.get(
                url, headers={"Accept": _ANY_SYNTAX}, stream=True, timeout=TIMEOUT_S
            )
            with response:
                response.raise_for_status()
                chunks = response.iter_content(_CHUNK_BYTES)
                content_type = response.headers.get("Content-Type", "")
                yield from _dicom_file(only_part(content_type, chunks))

    def _instances_of_series(self, study: str, series: str) -> Iterator[Instance]:
        _require_uid(series)
        found = self._pages(
            _INSTANCE, lambda **page: self._client.search_for_instances(study, series, **page)
        )
        for row in found:
            if _text(row, _CLASS) in STORAGE_CLASSES:
                yield Instance(study, series, _text(row, _INSTANCE))

    def _pages(
        self, key: str, search: Callable[..., list[dict[str, Any]]]
    ) -> Iterator[dict[str, Any]]:
        """Yield all results, each once, page by page.

        Some servers ignore the page, others count its length from the first result (Orthanc's
        plugin 1.7) instead of from the offset: both get what makes them return something new.
        """
        seen = set[str]()
        offset = 0
        while True:
            with self._translated():
                self._before_request()
                rows = search(limit=offset + PAGE, offset=offset)
                new = {_text(row, key): row for row in rows if _text(row, key) not in seen}
            seen.update(new)
            yield from new.values()
            offset += len(rows)
            if not new:
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from requests import HTTPError, RequestException

        try:
            yield
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else "an error"
            raise FetchError(f"the server answers {status}") from error
        except RequestException as error:
            raise FetchError(f"no answer from the server ({type(error).__name__})") from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # an invalid answer
            raise FetchError("the server's answer is not valid DICOMweb") from error


def _dicom_file(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a DICOM file. Raises `ValueError` where it is none, or too large."""
    size, start = 0, b""
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            raise ValueError("larger than any film")
        if size - len(chunk) < _PREFIX.stop:
            start += chunk
            if size >= _PREFIX.stop and start[_PREFIX] == PREFIX:
                yield start
            elif size >= _PREFIX.stop:
                break
        else:
            yield chunk
    if start[_PREFIX] != PREFIX:
        raise ValueError("not a DICOM file")


def _require_uid(*values: str) -> None:
    """Raise `FetchError` unless all are UIDs, which become parts of addresses."""
    if not all(map(_UID.fullmatch, values)):
        raise FetchError("the server names an object by what is no UID")


def _value(row: _Row, tag: str) -> Any:
    """Return the first value of an attribute (PS3.18 F.2.2), None if there is none."""
    return next(iter(row.get(tag, {}).get("Value", [])), None)


def _text(row: _Row, tag: str) -> str:
    return str(_value(row, tag) or "")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _session(authorization: str | None, authorities: Path | None) -> Session:
    try:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry
    except ImportError as error:
        raise _missing() from error
    session = requests.Session()
    busy = Retry(
        total=4, connect=1, backoff_factor=1.0, status_forcelist=BUSY, allowed_methods={"GET"}
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=busy))
    if authorization is not None:
        session.headers["Authorization"] = authorization
    if authorities is not None:
        session.verify = str(authorities)
    return session


def _client(url: str, session: Session) -> DICOMwebClient:
    try:
        from dicomweb_client.web import DICOMwebClient
    except ImportError as error:
        raise _missing() from error
    client = DICOMwebClient(url, session=session, timeout=TIMEOUT_S)
    client.set_http_retry_params(retry=False)  # the session repeats requests
    return client


def _missing() -> InstallationError:
    return InstallationError("DICOMweb needs dicomweb-client: pip install 'hipedge[clinic]'")
