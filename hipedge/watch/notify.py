"""Notifications of flagged cases: at least once, on each channel of the site, most urgent first.

A message is committed to the outbox in the transaction of the result that it reports; here it is
composed, delivered and marked as delivered. It holds no patient data unless the site asks for that.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import os
import re
import smtplib
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.errors import ObsoleteHeaderDefect
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hipedge.config import Settings
from hipedge.errors import ConfigError, HipedgeError, StoreError
from hipedge.files import write_atomically
from hipedge.http_request import request
from hipedge.review.worklist import case_record, finding_record
from hipedge.service_log import event
from hipedge.store.outbox import Message, Outbox
from hipedge.store.rows import Case
from hipedge.store.store import Store
from hipedge.types import Priority
from hipedge.watch.fhir import MEDIA_TYPE, communication

TIMEOUT_S = 10.0
POLL_S = 1.0
FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 300.0
# After this many failures in a row a channel is left alone until its backoff has passed.
MAX_FAILURES_IN_A_ROW = 3
BATCH_SIZE = 50
# A spooled message may be read by the group of the spool's folder, less the umask.
SPOOL_MODE = 0o640
NOTE = "Research use only: not a medical device."


class DeliveryError(HipedgeError):
    """A channel did not take a message. The text holds nothing of the message or the response."""


class Channel(ABC):
    """A way to deliver messages."""

    name: str

    @abstractmethod
    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Deliver a message; return once it is safe there. Raises `DeliveryError`."""


@dataclass(frozen=True)
class Spool(Channel):
    """A folder with one JSON file for each message, named by its key: repetitions overwrite it."""

    folder: Path
    name = "spool"

    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Write the file atomically, and sync it to the disk."""
        try:
            write_atomically(
                self.folder / f"{key}.json", json.dumps(body, indent=2).encode(), SPOOL_MODE
            )
        except OSError as error:
            raise DeliveryError(type(error).__name__) from error


@dataclass(frozen=True)
class Webhook(Channel):
    """An HTTP POST, signed as in Standard Webhooks (https://www.standardwebhooks.com).

    `webhook-id` and `Idempotency-Key` are the same at every attempt, so that the receiver can
    recognise a repetition. Redirects are not followed, and proxies are not used.
    """

    url: str
    secret: bytes
    timeout_s: float = TIMEOUT_S
    name = "webhook"

    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Post the message; every response but a 2xx within the timeout is a failure."""
        content = json.dumps(body).encode()
        _send("POST", self.url, content, self._headers(key, content), self.timeout_s)

    def _headers(self, key: str, content: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        signed = b".".join((key.encode(), timestamp.encode(), content))
        signature = hmac.digest(self.secret, signed, hashlib.sha256)
        return {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "webhook-id": key,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }


@dataclass(frozen=True)
class Fhir(Channel):
    """A FHIR R4 server, on which each message becomes a Communication.

    It is put under the message's key, which the server must allow as a new resource's id ("update
    as create", https://hl7.org/fhir/R4/http.html#upsert): a repetition changes nothing. The token
    is read anew for each message, so that another program can renew it. Redirects are not followed,
    and proxies are not used.
    """

    url: str
    token_file: Path | None = None
    timeout_s: float = TIMEOUT_S
    name = "fhir"

    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Put the resource; every response but a 2xx within the timeout is a failure."""
        headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE, "Prefer": "return=minimal"}
        if self.token_file is not None:
            try:
                headers["Authorization"] = f"Bearer {_read_token(self.token_file)}"
            except ConfigError as error:
                raise DeliveryError("the token cannot be read") from error
        content = json.dumps(communication(key, body)).encode()
        _send("PUT", f"{self.url}/Communication/{key}", content, headers, self.timeout_s)


def _send(
    method: str, url: str, content: bytes, headers: Mapping[str, str], timeout_s: float
) -> None:
    """Make one HTTP request. Raises `DeliveryError` for every response but a 2xx in time."""
    try:
        status = request(method, url, headers, content=content, timeout_s=timeout_s).status
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryError(type(error).__name__) from error
    if not 200 <= status < 300:
        raise DeliveryError(f"HTTP {status}")


@dataclass(frozen=True)
class Mail(Channel):
    """An e-mail, by STARTTLS unless the relay is on this machine. It may repeat after a crash."""

    host: str
    port: int
    sender: str
    recipient: str
    timeout_s: float = TIMEOUT_S
    name = "email"

    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Send the message to the relay."""
        mail = EmailMessage()
        mail["From"], mail["To"] = self.sender, self.recipient
        mail["Subject"] = f"hipedge: {body['priority']}, case {body['case']}"
        mail["Message-ID"] = f"<{key}@hipedge>"
        mail.set_content(json.dumps(body, indent=2) + "\n")
        try:
            with smtplib.SMTP(self.host, self.port, timeout=self.timeout_s) as relay:
                if not is_loopback(self.host):
                    relay.starttls(context=ssl.create_default_context())
                relay.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            raise DeliveryError(type(error).__name__) from error


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is that of this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def channels_of(settings: Settings) -> list[Channel]:
    """Return the channels in a site's settings. Raises `ConfigError` for incomplete ones."""
    channels = list[Channel]()
    if settings.webhook_url is not None:
        channels.append(_webhook(settings.webhook_url, settings.webhook_secret_file))
    if settings.fhir_url is not None:
        channels.append(_fhir(settings.fhir_url, settings.fhir_token_file))
    if settings.email_to is not None:
        channels.append(_mail(settings.smtp, settings.email_from, settings.email_to))
    if settings.spool_dir is not None:
        if not os.access(settings.spool_dir, os.W_OK):
            raise ConfigError(f"spool_dir must be a writable folder: {settings.spool_dir}")
        channels.append(Spool(settings.spool_dir))
    return channels


def _webhook(url: str, secret_file: Path | None) -> Webhook:
    _require_encryption("webhook_url", url)
    if secret_file is None:
        raise ConfigError("webhook_url needs webhook_secret_file, to sign messages with")
    try:
        secret = secret_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{secret_file} cannot be read: {type(error).__name__}") from error
    if len(secret) < 16:
        raise ConfigError(f"{secret_file} must hold a secret of at least 16 characters")
    if secret.startswith("whsec_"):
        return Webhook(url, base64.b64decode(secret.removeprefix("whsec_")))
    return Webhook(url, secret.encode())


def _fhir(url: str, token_file: Path | None) -> Fhir:
    _require_encryption("fhir_url", url)
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ConfigError("fhir_url must be the server's base URL, without ? and #")
    if token_file is not None:
        _read_token(token_file)
    return Fhir(url.rstrip("/"), token_file)


def _read_token(file: Path) -> str:
    """Return a bearer token (RFC 6750, section 2.1). Raises `ConfigError`."""
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {type(error).__name__}") from error
    if not re.fullmatch(r"[\w.~+/-]+=*", token):
        raise ConfigError(f"{file} must hold a bearer token, and nothing else")
    return token


def _require_encryption(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    ):
        raise ConfigError(f"{name} must begin with https://, or http:// on this machine")


def _mail(relay: str, sender: str | None, recipient: str) -> Mail:
    if sender is None:
        raise ConfigError("email_to needs email_from")
    for name, value in (("email_from", sender), ("email_to", recipient)):
        if not _is_address(value):
            raise ConfigError(
                f"{name} must be an e-mail address such as doctor@example.org, not {value!r}"
            )
    host, _, port = relay.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"smtp must be host:port, not {relay!r}")
    return Mail(host, int(port), sender, recipient)


def _is_address(text: str) -> bool:
    """Return whether text is an address, or several with commas between, as in RFC 5322."""
    header = EmailMessage()
    try:
        header["To"] = text
        addresses = header["To"].addresses
    except (ValueError, IndexError):  # the parser raises IndexError for `doctor@`
        return False
    defects = header["To"].defects
    return bool(addresses) and all(isinstance(found, ObsoleteHeaderDefect) for found in defects)


def compose(case: Case, message: Message, *, patient_data: bool) -> dict[str, Any]:
    """Return the body of a message; its path and UIDs are included only with `patient_data`."""
    flagged = [
        finding_record(scored.hip, finding)
        for scored, finding in zip(case.hips, case.findings, strict=True)
        if finding.flagged
    ]
    order = [priority.value for priority in Priority]
    body: dict[str, Any] = {
        "key": message.key,
        "case": case.file_id,
        "priority": min((finding["priority"] for finding in flagged), key=order.index),
        "recorded_at": case.recorded_at,
        "hips": flagged,
        "marks": [mark.value for mark in case.marks],
        "model": case.model,
        "model_status": case.model_status,
        "backend": case.backend,
        "note": NOTE,
    }
    if patient_data:
        record = case_record(case)
        body |= {key: record[key] for key in ("path", "sop_instance_uid", "study_instance_uid")}
    return body


class Dispatcher:
    """Delivers messages from the outbox, with a backoff for each channel that fails."""

    def __init__(
        self,
        store: Store,
        channels: Sequence[Channel],
        *,
        patient_data: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._outbox = Outbox(store)
        self._channels = channels
        self._patient_data = patient_data
        self._clock = clock
        self._backoff_s = dict[str, float]()
        self._not_before = dict[str, float]()

    @property
    def failing(self) -> bool:
        """Whether a channel did not take its last message."""
        return bool(self._backoff_s)

    def dispatch(self) -> None:
        """Deliver a batch of pending messages on each channel whose backoff has passed."""
        for channel in self._channels:
            if self._clock() >= self._not_before.get(channel.name, 0.0):
                self._dispatch_on(channel)

    def _dispatch_on(self, channel: Channel) -> None:
        """Deliver the most urgent messages; if these fail, those with the fewest attempts.

        A message that is always refused stays the most urgent one, and must not block the others.
        """
        delivered = self._deliver_all(channel, self._outbox.pending(channel.name, BATCH_SIZE))
        if _fails_in_a_row(delivered):
            others = self._outbox.least_tried(channel.name, BATCH_SIZE)
            untried = [message for message in others if message.key not in delivered]
            delivered |= self._deliver_all(channel, untried)
        if all(list(delivered.values())[-1:]):  # the last one, if there was any
            self._backoff_s.pop(channel.name, None)
        else:
            backoff_s = min(self._backoff_s.get(channel.name, FIRST_BACKOFF_S) * 2, LAST_BACKOFF_S)
            self._backoff_s[channel.name] = backoff_s
            self._not_before[channel.name] = self._clock() + backoff_s

    def _deliver_all(self, channel: Channel, messages: Sequence[Message]) -> dict[str, bool]:
        """Return whether each message that was tried was delivered, by key, in order."""
        delivered = dict[str, bool]()
        for message in messages:
            if self._outbox.start_attempt(message):
                delivered[message.key] = self._deliver(channel, message)
            if _fails_in_a_row(delivered):
                break
        return delivered

    def _deliver(self, channel: Channel, message: Message) -> bool:
        """Compose and deliver one message; return whether it was delivered."""
        try:
            case = self._store.case(message.file_id, message.rule_id)
            channel.deliver(message.key, compose(case, message, patient_data=self._patient_data))
        except StoreError:
            raise
        except Exception as error:
            # Of whatever kind: a fault in one message must not keep back the others.
            reason = str(error) if isinstance(error, DeliveryError) else type(error).__name__
            event(logging.WARNING, "delivery_failed", channel=channel.name, reason=reason)
            return False
        self._outbox.mark_delivered(message)
        return True


def _fails_in_a_row(delivered: Mapping[str, bool]) -> bool:
    last = list(delivered.values())[-MAX_FAILURES_IN_A_ROW:]
    return len(last) == MAX_FAILURES_IN_A_ROW and not any(last)


class Notifier(threading.Thread):
    """A dispatcher in a thread with its own connection: a slow webhook delays no film.

    `on_change` is called with whether notifications fail.
    """

    def __init__(
        self,
        db: Path,
        channels: Sequence[Channel],
        *,
        patient_data: bool,
        on_change: Callable[[bool], None],
    ) -> None:
        super().__init__(name="notify", daemon=True)
        self._db = db
        self._channels = channels
        self._patient_data = patient_data
        self._on_change = on_change
        self._wake = threading.Event()
        self._stopping = False

    def run(self) -> None:
        """Deliver whenever woken, and at intervals, until `stop`."""
        try:
            while not self._stopping:
                try:
                    with Store(self._db) as store:
                        self._dispatch_from(store)
                except StoreError as error:  # the database may become available again
                    event(logging.WARNING, "outbox_unavailable", error=type(error).__name__)
                    self._on_change(True)
                    self._pause()
        finally:
            self._on_change(not self._stopping)

    def _dispatch_from(self, store: Store) -> None:
        dispatcher = Dispatcher(store, self._channels, patient_data=self._patient_data)
        while not self._stopping:
            dispatcher.dispatch()
            self._on_change(dispatcher.failing)
            self._pause()

    def _pause(self) -> None:
        self._wake.wait(POLL_S)
        self._wake.clear()

    def wake(self) -> None:
        """Start the next dispatch now."""
        self._wake.set()

    def stop(self) -> None:
        """End after the current attempt; undelivered messages stay in the outbox."""
        self._stopping = True
        self._wake.set()
        self.join(TIMEOUT_S + POLL_S)
