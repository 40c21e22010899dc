"""A DICOM server that puts films into a `Spool` (needs the extra `clinic`).

pynetdicom keeps a message in memory until it is complete, reads as many bytes as a PDU claims and
waits for them without end, and performs TLS handshakes in the thread that accepts connections. The
classes here set limits below that: for PDUs (`_Socket`), messages (`_Messages`) and connections
(`SpoolServer`).
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from socketserver import BaseServer, TCPServer
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from hipedge.dicom.read import MAX_FILE_BYTES
from hipedge.network.admission import Admission
from hipedge.network.contexts import (
    STORAGE_CLASSES,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    VERIFICATION,
)
from hipedge.network.library import MAX_PDU_BYTES
from hipedge.network.spool import Spool, SpooledFilm, is_out_of_space
from hipedge.service_log import event

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event
    from pynetdicom.pdu_primitives import P_DATA
    from pynetdicom.presentation import PresentationContext

# Status codes of C-STORE (PS3.4 table B.2-1, PS3.7 annex C).
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
WRONG_CLASS = 0x0122
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
# A command set has about ten short elements (PS3.7 9.3.1.1).
MAX_COMMAND_BYTES = 16_384
# A data set that is too large to be kept is read to its end, but not without end.
ENDLESS_BYTES = 4 * MAX_FILE_BYTES
# A peer waits for each response, since no asynchronous operations are negotiated (PS3.7 D.3.3.3).
MAX_WAITING_MESSAGES = 2
# How often the time-out of a connection without a request is checked.
REQUEST_POLL_S = 0.05
# PS3.8 9.3.8: by the provider, for an invalid value of a parameter of a PDU.
_PROVIDER, _INVALID_VALUE = 2, 6
# The event of pynetdicom's state machine for an invalid PDU: it aborts the association (PS3.8 9.2).
_INVALID_PDU = "Evt19"


class _Socket(AssociationSocket):
    """A connection whose PDUs are limited in length, and in the time that they may take."""

    def __init__(self, association: Association, connection: socket.socket, idle_s: float) -> None:
        super().__init__(association, client_socket=connection)
        self._idle_s = idle_s

    @property
    def ready(self) -> bool:
        """Whether something can be read.

        pynetdicom asks for this a thousand times a second. While there is nothing to send, as
        before the peer has requested an association, the answer can wait for the peer.
        """
        if self.assoc.requestor.primitive is None and self.socket is not None:
            with suppress(OSError, ValueError):  # it is closed
                select.select([self.socket], [], [], REQUEST_POLL_S)
        return super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or less if the connection ends. Raises `OSError`.

        pynetdicom asks for the six bytes before a PDU, then for as many as they claim.
        """
        if self.socket is None:
            raise ConnectionAbortedError
        if nr_bytes > MAX_PDU_BYTES:
            event(logging.WARNING, "pdu_refused", address=_address(self.assoc), claimed=nr_bytes)
            abort = A_ABORT_RQ()
            abort.source, abort.reason_diagnostic = _PROVIDER, _INVALID_VALUE
            self.send(abort.encode())
            raise ConnectionAbortedError
        data = bytearray(nr_bytes)
        count, deadline = 0, time.monotonic() + self._idle_s
        with memoryview(data) as view:
            while count < nr_bytes:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                read = self.socket.recv_into(view[count:])
                if not read:
                    break
                count += read
        self.socket.settimeout(self._idle_s)  # for `send`
        del data[count:]
        return data


class _Command(BytesIO):
    """The command set of a message, which cannot become large."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_COMMAND_BYTES:
            raise ValueError("command set too long")
        return super().write(data)


class _Refused(Exception):
    """A film is refused with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _DataSet(BytesIO):
    """The data set of a message, which goes to the spool as it arrives.

    Where it cannot be kept, the rest of it is read and forgotten, and `finish` returns the status.
    """

    def __init__(self, messages: _Messages, message: DIMSEMessage) -> None:
        super().__init__()
        self._messages, self._message = messages, message
        self._film: SpooledFilm | None = None
        self._status = SUCCESS
        self._size = 0

    def write(self, data: Any) -> int:
        """Append a fragment. Raises `ValueError` for what no peer may send."""
        if not isinstance(self._message, C_STORE_RQ):
            raise ValueError("a data set without a C-STORE request")
        self._size += len(data)
        if self._size > ENDLESS_BYTES:
            raise ValueError("a data set without end")
        self._attempt(lambda: self._append(data))
        return len(data)

    def finish(self) -> int:
        """Put the complete film into the spool; return the status for the peer."""
        self._attempt(self._keep)
        self.discard()
        if self._status == SUCCESS:
            event(logging.DEBUG, "received", bytes=self._size)
        else:
            event(logging.WARNING, "film_refused", status=f"0x{self._status:04X}")
        return self._status

    def discard(self) -> None:
        """Remove the film, unless it has been kept."""
        if self._film is not None:
            self._film.discard()
            self._film = None
        self._messages.unfinished.discard(self)

    def _append(self, data: bytes) -> None:
        if self._size > MAX_FILE_BYTES:
            raise _Refused(CANNOT_UNDERSTAND)
        if self._film is None:
            start = self._start_of_file()
            self._film = self._messages.spool.begin()
            self._messages.unfinished.add(self)
            self._film.write(start)
        self._film.write(data)

    def _keep(self) -> None:
        if self._film is None:
            raise _Refused(CANNOT_UNDERSTAND)  # there was no data set
        self._film.keep()

    def _attempt(self, step: Callable[[], None]) -> None:
        if self._status != SUCCESS:
            return
        try:
            step()
        except _Refused as refused:
            self._status = refused.status
        except OSError as error:
            event(logging.ERROR, "spool_failed", error=type(error).__name__, errno=error.errno)
            full = is_out_of_space(error)
            self._status = OUT_OF_RESOURCES if full else PROCESSING_FAILURE
        if self._status != SUCCESS:
            self.discard()

    def _start_of_file(self) -> bytes:
        """Return preamble, prefix and File Meta Information (PS3.10 7.1)."""
        command = self._message.command_set
        context = self._messages.context(self._message)
        if command.AffectedSOPClassUID != context.abstract_syntax:
            raise _Refused(WRONG_CLASS)
        meta = create_file_meta(
            sop_class_uid=command.AffectedSOPClassUID,
            sop_instance_uid=command.AffectedSOPInstanceUID,
            transfer_syntax=context.transfer_syntax[0],
        )
        return bytes(128) + b"DICM" + encode_file_meta(meta)


class _Messages(DIMSEServiceProvider):
    """The messages of an association: those of C-STORE go to the spool, the others are short."""

    def __init__(self, association: Association, spool: Spool) -> None:
        super().__init__(association)
        self.spool = spool
        self.unfinished = set[_DataSet]()

    @property
    def is_busy(self) -> bool:
        """Whether a message is arriving, or waits for its response."""
        return self.message is not None or bool(self.unfinished) or not self.msg_queue.empty()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take some fragments of a message; abort the association if they are invalid."""
        try:
            if self.msg_queue.qsize() >= MAX_WAITING_MESSAGES:
                raise ValueError("more messages than responses were waited for")
            if self.message is None:
                self.message = DIMSEMessage()
                self.message.encoded_command_set = _Command()
                self.message.data_set = _DataSet(self, self.message)
            super().receive_primitive(primitive)
        except Exception as error:  # whatever the peer has sent ends its association, and no more
            address = _address(self.assoc)
            event(logging.WARNING, "message_refused", address=address, error=type(error).__name__)
            self.dul.event_queue.put(_INVALID_PDU)

    def context(self, message: DIMSEMessage) -> PresentationContext:
        """Return the accepted presentation context of a message. Raises `LookupError`."""
        contexts = {context.context_id: context for context in self.assoc.accepted_contexts}
        return contexts[message.context_id]

    def discard(self) -> None:
        """Remove the films that were not complete when the association ended."""
        for data_set in tuple(self.unfinished):
            data_set.discard()


class _Handler(RequestHandler):
    """One connection, from its acceptance to its end."""

    server: SpoolServer

    def handle(self) -> None:
        """Serve an association until it ends."""
        association = self._create_association()
        association.start()
        association.join()
        association.dul.join()
        assert isinstance(association.dimse, _Messages)
        association.dimse.discard()

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dimse = _Messages(association, self.server.spool)
        # The socket that it has announces the connection, and so does the one that replaces it.
        association.dul.event_queue.get_nowait()
        association.dul.socket = _Socket(association, self.request, self.server.idle_s)
        return association


class SpoolServer(ThreadedAssociationServer):
    """A server of associations, each in its threads, whose films go to `spool`.

    `admission` limits the connections, and `idle_s` the time in seconds that a peer may be silent,
    within a PDU or a handshake of TLS.
    """

    request_queue_size = 64
    daemon_threads = True

    def __init__(
        self, *arguments: Any, spool: Spool, admission: Admission, idle_s: float, **options: Any
    ) -> None:
        self.spool, self.admission, self.idle_s = spool, admission, idle_s
        self._connections = set[socket.socket]()
        self._lock = threading.Lock()
        self._turned_away = 0
        super().__init__(*arguments, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its handshake of TLS, which can take long, is not made here."""
        return TCPServer.get_request(self)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether a connection is admitted."""
        admitted = self.admission.enter(client_address[0])
        self._turned_away += not admitted
        return admitted

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its own thread."""
        connection: socket.socket = request
        try:
            connection.settimeout(self.idle_s)
            if self.ssl_context is not None:
                connection = self.ssl_context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            with self._open(connection):
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                super().finish_request(connection, client_address)
        except ssl.SSLError as error:
            event(logging.WARNING, "tls_refused", address=client_address[0], reason=error.reason)
        finally:
            self.admission.leave(client_address[0])
            connection.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread of a connection."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads can be started
            self.admission.leave(client_address[0])
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a connection, by its type."""
        error = type(sys.exc_info()[1]).__name__
        event(logging.WARNING, "connection_failed", address=client_address[0], error=error)

    def count_turned_away(self) -> int:
        """Return how many connections were not admitted since the last call."""
        count, self._turned_away = self._turned_away, 0
        return count

    def end(self, drain_s: float) -> None:
        """Accept no more connections; end all of them, those amid a message after `drain_s`."""
        BaseServer.shutdown(self)
        with suppress(OSError):
            TCPServer.server_close(self)
        deadline = time.monotonic() + drain_s
        while self._is_busy() and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self.active_associations:
            association.abort(block=False)
        time.sleep(0.2)  # the time to send what was queued
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + self.idle_s
        while self._connections and time.monotonic() < deadline:
            time.sleep(0.05)

    def _is_busy(self) -> bool:
        messages = [association.dimse for association in self.active_associations]
        return any(isinstance(of_one, _Messages) and of_one.is_busy for of_one in messages)

    @contextmanager
    def _open(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


def make_server(
    address: tuple[str, int],
    ae_title: str,
    *,
    spool: Spool,
    admission: Admission,
    idle_s: float,
    callers: tuple[str, ...] = (),
    associations: int,
    tls: ssl.SSLContext | None = None,
) -> SpoolServer:
    """Return a server that listens at an address (host, port); it serves in `serve_forever`.

    It accepts associations that call `ae_title`, and from `callers` only, if there are any; at most
    `associations` at a time. Raises `OSError` where it cannot listen.
    """
    entity = AE(ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(callers)
    entity.maximum_associations = associations
    entity.maximum_pdu_size = MAX_PDU_BYTES
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = idle_s
    entity.add_supported_context(VERIFICATION, list(UNCOMPRESSED))
    for sop_class in STORAGE_CLASSES:
        entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    server = entity.make_server(
        address,
        ssl_context=tls,
        evt_handlers=[
            (evt.EVT_C_STORE, _store),
            (evt.EVT_REJECTED, _log_rejection),
            (evt.EVT_CONN_CLOSE, _end_wait),
        ],
        server_class=SpoolServer,
        request_handler=_Handler,
        spool=spool,
        admission=admission,
        idle_s=idle_s,
    )
    assert isinstance(server, SpoolServer)
    return server


def _store(request: Event) -> int:
    """Answer a C-STORE request, of which pynetdicom hands over the data set undecoded."""
    data_set = request.request.DataSet  # type: ignore[union-attr]
    assert isinstance(data_set, _DataSet)
    return data_set.finish()


def _end_wait(closing: Event) -> None:
    """End an association whose connection closed before its request came.

    pynetdicom would wait for that request as long as if the connection were open.
    """
    association = closing.assoc
    if association.requestor.primitive is None:
        association.dul.to_user_queue.put(None)  # as at the end of a wait


def _log_rejection(rejection: Event) -> None:
    """Log why an association was rejected, without the titles that the peer has used."""
    association = rejection.assoc
    asked, entity = association.requestor.primitive, association.ae
    if asked is not None and asked.called_ae_title != association.acceptor.ae_title:
        reason = "called_ae_title"
    elif entity.require_calling_aet and association.requestor.ae_title not in (
        entity.require_calling_aet
    ):
        reason = "calling_ae_title"
    else:
        reason = "associations"
    event(logging.WARNING, "rejected", address=_address(association), reason=reason)


def _address(association: Association) -> str:
    return association.requestor.address_info.address  # type: ignore[union-attr]
