"""notify: telling of flagged cases, the most urgent first, at least once, by what the site has set.

A message is written to the outbox in the transaction of the result that it tells of; here it is
composed, delivered and ticked off. It names no patient unless the site has said so.
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
import smtplib
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hipedge.config import Settings
from hipedge.errors import ConfigError, HipedgeError, StoreError
from hipedge.review.worklist import case_record, finding_record
from hipedge.store import Case, Message, Outbox, Store
from hipedge.types import Priority

TIMEOUT_S = 10.0
POLL_S = 1.0
FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 300.0
# So many failures in a row, and the channel is left alone for a while.
FAILURES_IN_A_ROW = 3
ROUND = 50
NOTE = "Research use only: not a medical device."

LOGGER = logging.getLogger("hipedge.watch")


class Undelivered(HipedgeError):
    """A channel did not take a message; its text holds nothing of the message or the answer."""


class Channel(ABC):
    """One way to tell of a case."""

    name: str

    @abstractmethod
    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Deliver a message; return only once it is safe there. Raises `Undelivered`."""


@dataclass(frozen=True)
class Spool(Channel):
    """A folder of JSON files, one for each message, named by its key: to deliver twice is once."""

    folder: Path
    name = "spool"

    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Write the file whole or not at all, and to the disk itself."""
        target = self.folder / f"{key}.json"
        unfinished = self.folder / f".{key}.unfinished"
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                json.dump(body, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Undelivered(type(error).__name__) from error


@dataclass(frozen=True)
class Webhook(Channel):
    """An HTTP POST, signed as https://www.standardwebhooks.com says.

    `webhook-id` and `Idempotency-Key` are the same at every attempt, so that the receiver can
    tell a repetition. Redirects are not followed, proxies not asked.
    """

    url: str
    secret: bytes
    timeout_s: float = TIMEOUT_S
    name = "webhook"

    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Post the message; anything but an answer 2xx in time is a failure."""
        content = json.dumps(body).encode()
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connection()
        try:
            connection.request("POST", target, content, self._headers(key, content))
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise Undelivered(type(error).__name__) from error
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise Undelivered(f"HTTP {status}")

    def _headers(self, key: str, content: bytes) -> dict[str, str]:
        moment = str(int(time.time()))
        signed = b".".join((key.encode(), moment.encode(), content))
        signature = hmac.digest(self.secret, signed, hashlib.sha256)
        return {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "webhook-id": key,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                parts.netloc, timeout=self.timeout_s, context=context
            )
        return http.client.HTTPConnection(parts.netloc, timeout=self.timeout_s)


@dataclass(frozen=True)
class Mail(Channel):
    """An e-mail, encrypted unless the relay is this machine. After a crash it may come twice."""

    host: str
    port: int
    sender: str
    recipient: str
    timeout_s: float = TIMEOUT_S
    name = "email"

    def deliver(self, key: str, body: dict[str, Any]) -> None:
        """Hand the message to the relay."""
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
            raise Undelivered(type(error).__name__) from error


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def channels_of(settings: Settings) -> list[Channel]:
    """Return the channels that a site has set. Raises `ConfigError` for half a channel."""
    channels = list[Channel]()
    if settings.webhook_url is not None:
        channels.append(_webhook(settings.webhook_url, settings.webhook_secret_file))
    if settings.email_to is not None:
        if settings.email_from is None:
            raise ConfigError("email_to needs email_from")
        host, _, port = settings.smtp.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"smtp must be host:port, not {settings.smtp!r}")
        channels.append(Mail(host, int(port), settings.email_from, settings.email_to))
    if settings.spool_dir is not None:
        if not os.access(settings.spool_dir, os.W_OK):
            raise ConfigError(f"spool_dir must be a folder to write to: {settings.spool_dir}")
        channels.append(Spool(settings.spool_dir))
    return channels


def _webhook(url: str, secret_file: Path | None) -> Webhook:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    ):
        raise ConfigError("webhook_url must begin with https://, or http:// on this machine")
    if secret_file is None:
        raise ConfigError("webhook_url needs webhook_secret_file: what is sent is signed")
    try:
        secret = secret_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{secret_file} cannot be read: {type(error).__name__}") from error
    if len(secret) < 16:
        raise ConfigError(f"{secret_file} must hold a secret of at least 16 characters")
    if secret.startswith("whsec_"):
        return Webhook(url, base64.b64decode(secret.removeprefix("whsec_")))
    return Webhook(url, secret.encode())


def compose(case: Case, message: Message, *, patient_data: bool) -> dict[str, Any]:
    """Return what is told of a case: plain values. Only `patient_data` adds its path and UIDs."""
    flagged = [
        finding_record(scored.hip, finding)
        for scored, finding in zip(case.hips, case.findings, strict=True)
        if finding.flagged
    ]
    order = [priority.value for priority in Priority]
    body: dict[str, Any] = {
        "key": message.key,
        "case": case.file_id,
        "priority": min((one["priority"] for one in flagged), key=order.index),
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
    """Brings messages from the outbox to each channel, and waits longer where one fails."""

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

    def deliver(self) -> None:
        """Go through what is pending, once for each channel that is not left alone for now."""
        for channel in self._channels:
            if self._clock() >= self._not_before.get(channel.name, 0.0):
                self._round(channel)

    def _round(self, channel: Channel) -> None:
        """Try the most urgent; where they fail in a row, those that were tried least.

        What is refused for ever stays the most urgent, and must not keep the others back.
        """
        arrived = self._try(channel, self._outbox.pending(channel.name, ROUND))
        if _fail_in_a_row(arrived):
            others = self._outbox.least_tried(channel.name, ROUND)
            arrived |= self._try(channel, [one for one in others if one.key not in arrived])
        if all(list(arrived.values())[-1:]):  # the last one, if any
            self._backoff_s.pop(channel.name, None)
        else:
            backoff_s = min(self._backoff_s.get(channel.name, FIRST_BACKOFF_S) * 2, LAST_BACKOFF_S)
            self._backoff_s[channel.name] = backoff_s
            self._not_before[channel.name] = self._clock() + backoff_s

    def _try(self, channel: Channel, messages: Sequence[Message]) -> dict[str, bool]:
        """Return, by key and in order, whether each message arrived that was tried."""
        arrived = dict[str, bool]()
        for message in messages:
            if self._outbox.take(message):
                arrived[message.key] = self._bring(channel, message)
            if _fail_in_a_row(arrived):
                break
        return arrived

    def _bring(self, channel: Channel, message: Message) -> bool:
        """Compose and deliver one message; say whether it arrived."""
        case = self._store.case(message.file_id, message.rule_id)
        body = compose(case, message, patient_data=self._patient_data)
        try:
            channel.deliver(message.key, body)
        except Undelivered as error:
            fields = {"channel": channel.name, "why": str(error)}
            LOGGER.warning("undelivered", extra={"fields": fields})
            return False
        self._outbox.delivered(message)
        return True


def _fail_in_a_row(arrived: Mapping[str, bool]) -> bool:
    last = list(arrived.values())[-FAILURES_IN_A_ROW:]
    return len(last) == FAILURES_IN_A_ROW and not any(last)


class Notifier(threading.Thread):
    """A courier in a thread with its own connection: a webhook that hangs delays no film."""

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
        self._ending = False

    def run(self) -> None:
        """Deliver whenever woken, and now and then, until `stop`."""
        try:
            while not self._ending:
                try:
                    with Store(self._db) as store:
                        self._deliver_from(store)
                except StoreError as error:
                    # Whatever ails the database may be mended while the service goes on.
                    fields = {"error": type(error).__name__}
                    LOGGER.warning("outbox_unavailable", extra={"fields": fields})
                    self._on_change(True)
                    self._pause()
        finally:
            self._on_change(not self._ending)

    def _deliver_from(self, store: Store) -> None:
        courier = Dispatcher(store, self._channels, patient_data=self._patient_data)
        while not self._ending:
            courier.deliver()
            self._on_change(courier.failing)
            self._pause()

    def _pause(self) -> None:
        self._wake.wait(POLL_S)
        self._wake.clear()

    def wake(self) -> None:
        """Say that there is something new."""
        self._wake.set()

    def stop(self) -> None:
        """End after the attempt at hand; what is not delivered stays in the outbox."""
        self._ending = True
        self._wake.set()
        self.join(TIMEOUT_S + POLL_S)
