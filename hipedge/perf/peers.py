"""Checks of the machines that the settings name: whether they answer, and agree on the time."""

from __future__ import annotations

import http.client
import json
import smtplib
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from hipedge.config import Settings
from hipedge.errors import HipedgeError
from hipedge.http_request import Answer, request
from hipedge.network import tls
from hipedge.network.echo import echo
from hipedge.perf.check import Check

SECTION = "peer"
TIMEOUT_S = 10.0
# A FHIR server's statement of all that it can do may be long.
MAX_STATEMENT_BYTES = 32 << 20
# Further apart, times of results and films contradict each other.
MAX_CLOCK_OFFSET_S = 60.0


def check_peers(settings: Settings) -> Iterator[Check]:
    """Connect to each machine that the settings name."""
    if settings.pacs_host is not None:
        yield _pacs(settings, settings.pacs_host)
    headers = {"Accept": "application/dicom+json"}
    if settings.pacs_qido_url is not None:
        url = f"{settings.pacs_qido_url.rstrip('/')}/studies?limit=1"
        yield from _web("PACS, QIDO-RS", url, headers, settings.pacs_authorization_file)
    if settings.pacs_stow_url is not None:
        yield from _web("PACS, STOW-RS", settings.pacs_stow_url, {}, None, any_status=True)
    if settings.fhir_url is not None:
        yield from _fhir(settings.fhir_url)
    if settings.webhook_url is not None:
        yield from _web("webhook", settings.webhook_url, {}, None, any_status=True)
    if settings.email_to is not None:
        yield _mail_relay(settings.smtp)


def _pacs(settings: Settings, host: str) -> Check:
    called, calling = settings.pacs_ae_title, settings.pacs_calling_ae_title
    place = f"{called} at {host}, port {settings.pacs_port}"
    try:
        context = None
        if settings.pacs_tls:
            context = tls.client_context(
                settings.pacs_tls_authorities, settings.pacs_tls_certificate, settings.pacs_tls_key
            )
        echo(host, settings.pacs_port, called, calling, context)
    except HipedgeError as error:
        cure = f"settings pacs_…, and AE title {calling} in the PACS"
        return Check(SECTION, "PACS", False, f"{place}: {error}", cure)
    return Check(SECTION, "PACS", True, f"{place} answers")


def _web(
    name: str,
    url: str,
    headers: dict[str, str],
    authorization: Path | None,
    *,
    any_status: bool = False,
) -> Iterator[Check]:
    """Make a GET request. With `any_status` an error is an answer too: GET need not be allowed."""
    try:
        if authorization is not None:
            headers = {**headers, "Authorization": authorization.read_text("ascii").strip()}
        answer = request("GET", url, headers, timeout_s=TIMEOUT_S)
    except (OSError, UnicodeDecodeError, http.client.HTTPException) as error:
        yield _silent(name, url, error)
        return
    works = any_status or 200 <= answer.status < 300
    cure = "" if works else "check the URL, and what it needs as authorization"
    yield Check(SECTION, name, works, f"{url} answers with HTTP {answer.status}", cure)
    yield from _clock(name, answer)


def _fhir(url: str) -> Iterator[Check]:
    """Read the version from the server's CapabilityStatement, which needs no authorization."""
    name, place = "FHIR server", f"{url}/metadata"
    try:
        headers = {"Accept": "application/fhir+json"}
        answer = request("GET", place, headers, timeout_s=TIMEOUT_S, max_bytes=MAX_STATEMENT_BYTES)
        version = json.loads(answer.body).get("fhirVersion")
    except (OSError, http.client.HTTPException) as error:
        yield _silent(name, place, error)
        return
    except (ValueError, AttributeError):
        cure = "fhir_url must be the base URL of a FHIR R4 server"
        yield Check(SECTION, name, False, f"{place}: HTTP {answer.status}, no statement", cure)
        return
    works = str(version).startswith("4.")
    cure = "" if works else "hipedge needs a server of FHIR R4"
    yield Check(SECTION, name, works, f"{url}: FHIR {version}", cure)
    yield from _clock(name, answer)


def _mail_relay(relay: str) -> Check:
    host, _, port = relay.rpartition(":")
    try:
        with smtplib.SMTP(host, int(port), timeout=TIMEOUT_S) as connection:
            connection.ehlo()
    except (OSError, ValueError, smtplib.SMTPException) as error:
        return _silent("mail relay", relay, error)
    return Check(SECTION, "mail relay", True, f"{relay} answers")


def _clock(name: str, answer: Answer) -> Iterator[Check]:
    if answer.date is None:
        return
    offset_s = (datetime.now(timezone.utc) - answer.date).total_seconds()
    works = abs(offset_s) <= MAX_CLOCK_OFFSET_S
    if works:
        yield Check(SECTION, f"{name}, clock", True, "agrees with that of this machine")
    else:
        side = "behind" if offset_s > 0 else "ahead of"
        found = f"{abs(offset_s):.0f} s {side} that of this machine"
        yield Check(SECTION, f"{name}, clock", False, found, "synchronise both clocks by NTP")


def _silent(name: str, url: str, error: Exception) -> Check:
    reason = str(error) or type(error).__name__
    return Check(SECTION, name, False, f"{url}: {reason}", "check address, firewall and TLS")
