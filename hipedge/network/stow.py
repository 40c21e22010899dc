"""Sending results by STOW-RS, and finding them again by QIDO-RS (PS3.18 10.5, 10.6)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from hipedge.errors import ConfigError
from hipedge.network.sending import Interrupted, Rejected, Unreachable

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
# Larger than any result: chunked requests are not understood by every server.
_NEVER_CHUNKED = 1 << 30
_CONFLICT = 409  # PS3.18 10.5.3.1: some or all objects were not stored; the body says why
# PS3.18 I.2.2: Failure Reason (0008,1197) and Warning Reason (0008,1196).
DUPLICATE_INSTANCE = 0x0111
_OUT_OF_RESOURCES = 0xA700


@dataclass(frozen=True)
class StowServer:
    """A PACS that takes objects by STOW-RS at `url`.

    `authorization` is the value of that header, `authorities` a PEM file of those that have signed
    the server's certificate, instead of those that are generally known.
    """

    url: str
    authorization: str | None = None
    authorities: Path | None = None
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    name: str = "pacs-web"

    @contextmanager
    def session(self) -> Iterator[_Session]:
        """Open a session. Raises `Unreachable` if the server cannot be connected to."""
        _connect(self.url)
        with requests.Session() as session:
            yield _Session(_client(self, session))


class _Session:
    """Requests to a STOW-RS service."""

    def __init__(self, client: DICOMwebClient) -> None:
        self._client = client

    def accepts(self, sop_class_uid: str) -> bool:
        """Return True: nothing is negotiated, a class is refused when it is sent."""
        return True

    def store(self, dataset: Dataset) -> int:
        """Send an object; return its status, as `Session` says."""
        try:
            answer = self._client.store_instances([dataset])
        except requests.HTTPError as error:
            answer = _answer_of(error)
        except (requests.exceptions.SSLError, requests.ConnectTimeout) as error:
            raise Unreachable(type(error).__name__) from error  # whatever is sent
        except requests.RequestException as error:
            raise Interrupted(type(error).__name__) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Interrupted("an answer that is none of STOW-RS") from error
        for item in answer.get("FailedSOPSequence") or ():
            reason = int(item.get("FailureReason") or 0x0110)
            if reason == DUPLICATE_INSTANCE:
                return reason
            if reason & 0xFF00 == _OUT_OF_RESOURCES:
                raise Unreachable(f"out of resources (reason {reason:04X})")
            raise Rejected(f"reason {reason:04X}")
        for item in answer.get("ReferencedSOPSequence") or ():
            return int(item.get("WarningReason") or 0)
        return 0  # a 2xx without a body that can be read: stored (PS3.18 10.5.3.1)


@dataclass(frozen=True)
class QidoServer:
    """A PACS that can be asked by QIDO-RS what it has; the fields are those of `StowServer`."""

    url: str
    authorization: str | None = None
    authorities: Path | None = None
    answer_timeout_s: float = ANSWER_TIMEOUT_S

    def has(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Return whether an object is there. Raises `Unreachable`."""
        with requests.Session() as session:
            client = _client(self, session)
            try:
                found = client.search_for_instances(
                    study_uid, series_uid, search_filters={"SOPInstanceUID": instance_uid}
                )
            except requests.HTTPError as error:
                status = _status_of(error)
                if status == requests.codes.not_found:
                    return False  # neither the study nor the series
                raise Unreachable(f"HTTP {status}") from error
            except (requests.RequestException, ValueError) as error:
                raise Unreachable(type(error).__name__) from error
        return bool(found)


def authorization_of(file: Path | None, *urls: str | None) -> str | None:
    """Return the value of the header `Authorization` in a file, None without a file.

    It is only sent by https, or to this machine. Raises `ConfigError`.
    """
    if file is None:
        return None
    for url in filter(None, urls):
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigError(f"pacs_authorization_file needs a URL with https://, not {url}")
    try:
        text = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {type(error).__name__}") from error
    if not text or "\n" in text:
        raise ConfigError(f"{file} must hold one line, such as: Bearer TOKEN")
    return text


def _connect(url: str) -> None:
    """Open and close a connection: a server that is down refuses no object in particular."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise Unreachable(type(error).__name__) from error


def _client(server: StowServer | QidoServer, session: requests.Session) -> DICOMwebClient:
    session.trust_env = False  # neither proxies nor .netrc
    if server.authorities is not None:
        session.verify = str(server.authorities)
    headers = {} if server.authorization is None else {"Authorization": server.authorization}
    client = DICOMwebClient(
        server.url,
        session=session,
        headers=headers,
        chunk_size=_NEVER_CHUNKED,
        timeout=(CONNECT_TIMEOUT_S, server.answer_timeout_s),
    )
    client.set_http_retry_params(retry=False)
    return client


def _status_of(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _answer_of(error: requests.HTTPError) -> Dataset:
    """Return the answer of a request that failed. Raises `Unreachable` or `Rejected` without one.

    What the server says of itself or of the request (401, 500, 503) concerns every object.
    """
    status = _status_of(error)
    if status == _CONFLICT and error.response is not None:
        try:
            return Dataset.from_json(error.response.text)
        except (ValueError, KeyError, TypeError, json.JSONDecodeError) as fault:
            raise Rejected("HTTP 409") from fault
    if status in (requests.codes.bad_request, requests.codes.unsupported_media_type):
        raise Rejected(f"HTTP {status}") from error
    raise Unreachable(f"HTTP {status}") from error
