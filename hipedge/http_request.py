"""One HTTP request: no redirect is followed, no proxy is used, and it ends within a time."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """A response. `date` is the server's clock, where it tells it (RFC 9110, 6.6.1)."""

    status: int
    date: datetime | None
    body: bytes


def request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    content: bytes | None = None,
    max_bytes: int = 0,
) -> Answer:
    """Make a request, and read at most `max_bytes` of the response's body.

    Raises `OSError` or `http.client.HTTPException` if there is no response in time, or the server's
    certificate is not valid.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = _connect(parts.scheme, parts.netloc, timeout_s)
    try:
        connection.request(method, target, content, dict(headers))
        response = connection.getresponse()
        date = _date(response.getheader("Date"))
        return Answer(response.status, date, response.read(max_bytes) if max_bytes else b"")
    finally:
        connection.close()


def _connect(scheme: str, host: str, timeout_s: float) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(host, timeout=timeout_s)


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
