"""Results on their way to PACS: built from the film, sent, recorded, and read back.

A result is a message in the outbox, committed with the case that it reports. Each of its objects is
recorded once the receiver has accepted it, and has the same UIDs whenever it is built: after any
interruption the missing ones are sent, and one that is sent again is known to the receiver.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from hipedge.config import Settings
from hipedge.errors import ConfigError, InputError, StoreError
from hipedge.network.sending import Interrupted, ReadBack, Receiver, Rejected, Session, Unreachable
from hipedge.results import check_installed
from hipedge.results.codes import load_codes
from hipedge.results.kinds import Kind
from hipedge.results.source import (
    FilmGone,
    NotReportable,
    Source,
    can_have_overlay,
    read_source,
    tolerant,
)
from hipedge.service_log import event
from hipedge.store.connection import utc_now
from hipedge.store.deliveries import Deliveries, Delivery
from hipedge.store.outbox import Message, Outbox, ResultPolicy
from hipedge.store.rows import Case
from hipedge.store.store import Store

BATCH_SIZE = 50
FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 300.0
# Of a message that failed for a reason of its own, while others are delivered.
FIRST_RETRY_S = 10.0
LAST_RETRY_S = 6 * 3600.0


def result_policy(settings: Settings) -> ResultPolicy:
    """Return which results a site wants sent, and where; without a PACS, none."""
    channels = []
    if settings.pacs_host is not None:
        channels.append("pacs")
    if settings.pacs_stow_url is not None:
        channels.append("pacs-web")
    return ResultPolicy(tuple(channels), settings.results_unflagged, settings.results_not_read)


def receivers_of(settings: Settings) -> list[Receiver]:
    """Return the receivers in a site's settings.

    Raises `ConfigError` for incomplete settings, and `InstallationError` without the extra
    `clinic`.
    """
    check_installed()
    from hipedge.network.library import require_pynetdicom
    from hipedge.network.store_scu import StoreScp
    from hipedge.network.stow import StowServer, authorization_of
    from hipedge.network.tls import client_context

    require_pynetdicom()
    receivers = list[Receiver]()
    if settings.pacs_host is not None:
        wanted = [kind for kind in Kind if kind.value in settings.results]
        tls = None
        if settings.pacs_tls:
            tls = client_context(
                settings.pacs_tls_authorities,
                settings.pacs_tls_certificate,
                settings.pacs_tls_key,
            )
        receivers.append(
            StoreScp(
                settings.pacs_host,
                settings.pacs_port,
                settings.pacs_ae_title,
                settings.pacs_calling_ae_title,
                tuple(sop_class for kind in wanted for sop_class in kind.classes),
                tls,
            )
        )
    if settings.pacs_stow_url is not None:
        authorization = authorization_of(
            settings.pacs_authorization_file, settings.pacs_stow_url, settings.pacs_qido_url
        )
        receivers.append(
            StowServer(settings.pacs_stow_url, authorization, settings.pacs_tls_authorities)
        )
    if not receivers:
        raise ConfigError("no PACS is named: set pacs_host, or pacs_stow_url")
    if not settings.results:
        raise ConfigError("a PACS is named, but no kind of results: see the setting results")
    return receivers


def read_back_of(settings: Settings) -> ReadBack | None:
    """Return the service that is asked whether results have arrived, if there is one."""
    if settings.pacs_qido_url is None:
        return None
    from hipedge.network.stow import QidoServer, authorization_of

    authorization = authorization_of(settings.pacs_authorization_file, settings.pacs_qido_url)
    return QidoServer(settings.pacs_qido_url, authorization, settings.pacs_tls_authorities)


def check_results(settings: Settings) -> None:
    """Raise what `receivers_of` and `read_back_of` raise, and `ConfigError` for the codes."""
    receivers_of(settings)
    read_back_of(settings)
    load_codes(settings.results_codes)


class ResultDispatcher:
    """Sends the messages of one receiver that are due, most urgent first.

    A receiver that is down is left alone for a while, and the messages stay due. A message that
    fails for a reason of its own is tried again later, and keeps back no other. `faults` are the
    reasons of present failures: of the receiver by "", of messages by their keys.
    """

    def __init__(
        self,
        store: Store,
        receiver: Receiver,
        settings: Settings,
        *,
        read_back: ReadBack | None = None,
        clock: Callable[[], datetime] = utc_now,
        proceed: Callable[[], bool] = lambda: True,
    ) -> None:
        from hipedge.results.build import Builder

        self._store, self._outbox, self._deliveries = store, Outbox(store), Deliveries(store)
        self._receiver, self._read_back = receiver, read_back
        self._builder = Builder.of(settings)
        self._confirm_after = timedelta(seconds=settings.pacs_confirm_s)
        self._clock, self._proceed = clock, proceed
        self._backoff_s = 0.0
        self._not_before: datetime | None = None
        self.faults = dict[str, str]()

    @property
    def failing(self) -> bool:
        """Whether the receiver was down at the last attempt, or a message has failed repeatedly."""
        return self._backoff_s > 0 or self._outbox.troubled(self._receiver.name)

    def dispatch(self) -> int:
        """Send a batch of messages that are due; return how many were tried.

        `proceed` is called after each one; the batch ends where it returns False.
        """
        now = self._clock()
        if self._not_before is not None and now < self._not_before:
            return 0
        messages = self._outbox.due(self._receiver.name, now, BATCH_SIZE)
        if not messages:
            return 0
        tried = 0
        try:
            with self._receiver.session() as session:
                for message in messages:
                    tried += 1
                    self._attempt(session, message)
                    if not self._proceed():
                        break
        except (Unreachable, Interrupted) as error:
            self._back_off(str(error))
        else:
            self._backoff_s, self._not_before = 0.0, None
            self.faults.pop("", None)
        return tried

    def _back_off(self, reason: str) -> None:
        self._backoff_s = min(max(self._backoff_s * 2, FIRST_BACKOFF_S), LAST_BACKOFF_S)
        self._not_before = self._clock() + timedelta(seconds=self._backoff_s)
        self.faults[""] = reason
        event(logging.WARNING, "receiver_failed", channel=self._receiver.name, reason=reason)

    def _attempt(self, session: Session, message: Message) -> None:
        """Try one message.

        Raises `Unreachable` after giving the message back, and `Interrupted` after postponing it:
        it may be the one that ends each connection.
        """
        now = self._clock()
        retry_at = now + timedelta(seconds=_retry_s(message.attempts))
        if not self._outbox.claim(message, now, retry_at):
            return
        try:
            self._deliver(session, message)
        except Unreachable:
            self._outbox.postpone(message, now)
            raise
        except (StoreError, Interrupted):
            raise
        except NotReportable as error:
            self._outbox.discard(message)
            self._log("result_not_possible", message, str(error))
        except Exception as error:
            # Of whatever kind: a fault in one message must not keep back the others.
            reason = _reason(error)
            self.faults[message.key] = reason
            self._log("result_failed", message, reason)
        else:
            self.faults.pop(message.key, None)

    def _log(self, name: str, message: Message, reason: str) -> None:
        event(logging.WARNING, name, case=message.file_id, reason=reason)

    def _deliver(self, session: Session, message: Message) -> None:
        """Send what the receiver has not; the message is delivered once it is known to have all.

        Raises what the first object that failed has raised, once the others have been tried.
        """
        case = self._store.case(message.file_id, message.rule_id)
        faults = list[Exception]()
        source = None
        with tolerant():
            for kind in self._builder.kinds_for(case):
                if self._has(message, kind):
                    continue
                source = source or self._source(case)
                try:
                    self._ensure(session, message, kind, case, source)
                except (Rejected, InputError) as error:
                    faults.append(error)
        if faults:
            raise faults[0]
        if self._read_back is not None:
            sent = self._deliveries.of(self._receiver.name, message)
            if not all(delivery.confirmed for delivery in sent.values()):
                self._outbox.postpone(message, self._clock() + self._confirm_after)
                return
        self._outbox.mark_delivered(message)

    def _source(self, case: Case) -> Source:
        return read_source([case.path, *self._store.places(case.file_id)], case.content_hash)

    def _ensure(
        self, session: Session, message: Message, kind: Kind, case: Case, source: Source
    ) -> None:
        """Send an object and record that the receiver has accepted it."""
        if kind is Kind.PRESENTATION_STATE and not can_have_overlay(source):
            return
        name = self._receiver.name
        delivery = self._send(session, kind, case, source)
        self._deliveries.record(name, message, delivery)
        status = delivery.status
        level = logging.WARNING if status else logging.DEBUG
        event(level, "result_sent", channel=name, case=case.file_id, kind=kind, status=status)

    def _has(self, message: Message, kind: Kind) -> bool:
        """Return whether the receiver has an object; forget one that it has accepted and lost."""
        name = self._receiver.name
        delivery = self._deliveries.of(name, message).get(kind.value)
        if delivery is None:
            return False
        if self._read_back is None or delivery.confirmed:
            return True
        study, series = delivery.study_instance_uid, delivery.series_instance_uid
        try:
            is_there = self._read_back.has(study, series, delivery.sop_instance_uid)
        except Unreachable as error:  # it stays unconfirmed, and what is new is sent meanwhile
            self._log("read_back_failed", message, str(error))
            return True
        if is_there:
            self._deliveries.confirm(name, message, delivery.kind)
            return True
        self._deliveries.forget(name, message, delivery.kind)
        self._log("result_lost", message, "the receiver has accepted it, and has it no more")
        return False

    def _send(self, session: Session, kind: Kind, case: Case, source: Source) -> Delivery:
        """Send an object of the first class that the receiver takes."""
        rejection = Rejected(f"{kind.value}: its class was not accepted in the negotiation")
        for sop_class in kind.classes:
            if not session.accepts(sop_class):
                continue
            result = self._builder.build(kind, sop_class, case, source)
            try:
                status = session.store(result)
            except Rejected as error:
                rejection = Rejected(f"{kind.value}: {error}")
                continue
            series, instance = str(result.SeriesInstanceUID), str(result.SOPInstanceUID)
            return Delivery(kind.value, sop_class, source.study_uid, series, instance, status)
        raise rejection


def _reason(error: Exception) -> str:
    """Return why a message failed, without the path of its film."""
    if isinstance(error, (Rejected, FilmGone)):
        return str(error)
    return (
        "the film can no longer be read" if isinstance(error, InputError) else type(error).__name__
    )


def _retry_s(attempts: int) -> float:
    """Return after how long a message is tried again that was tried so often before."""
    return float(min(FIRST_RETRY_S * 2 ** min(attempts, 20), LAST_RETRY_S))
