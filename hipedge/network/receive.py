"""`hipedge receive`: a DICOM node that puts films into a folder, until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hipedge.config import Settings
from hipedge.errors import ConfigError, InstallationError
from hipedge.network import tls
from hipedge.network.admission import Admission
from hipedge.network.library import quiet_libraries, require_pynetdicom
from hipedge.network.spool import Spool
from hipedge.service_log import event, notify_systemd

# The connections that may be open for each association that may: some associations are still being
# negotiated, or will be rejected with the reason. One address can have half of them.
CONNECTIONS_FOR_EACH_ASSOCIATION = 4
REPORT_S = 1.0
DRAIN_S = 20.0


def receive(folder: Path, settings: Settings) -> None:
    """Receive films into a folder until SIGTERM or SIGINT.

    A film is acknowledged with success once it is in the folder, complete and on the disk. Raises
    `HipedgeError` if the service cannot start.
    """
    require_pynetdicom()
    from hipedge.network.scp import make_server

    check_exposure(settings)
    context = None
    if settings.receive_tls_certificate is not None:
        context = tls.server_context(
            settings.receive_tls_certificate,
            settings.receive_tls_key,
            settings.receive_tls_clients,
        )
    most = CONNECTIONS_FOR_EACH_ASSOCIATION * settings.receive_associations
    admission = Admission(most, most // 2, settings.receive_connections_per_s)
    with quiet_libraries(), Spool(folder, settings.reserve_mb << 20) as spool:
        address = (settings.receive_host, settings.receive_port)
        try:
            server = make_server(
                address,
                settings.receive_ae_title,
                spool=spool,
                admission=admission,
                idle_s=settings.receive_idle_s,
                callers=settings.receive_from,
                associations=settings.receive_associations,
                tls=context,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {address[0]}, port {address[1]}: {error.strerror}"
            ) from error
        thread = threading.Thread(target=server.serve_forever, name="server", daemon=True)
        with _stop_signal() as stop, _log_failed_threads():
            thread.start()
            event(logging.INFO, "listening", port=server.server_address[1], tls=context is not None)
            notify_systemd(READY=1)
            while not stop.wait(REPORT_S):
                if not thread.is_alive():
                    raise InstallationError("the thread that accepts connections has ended")
                if count := server.count_turned_away():
                    event(logging.WARNING, "connections_refused", count=count)
                notify_systemd(WATCHDOG=1)
            notify_systemd(STOPPING=1)
            server.end(DRAIN_S)
        event(logging.INFO, "stopped")


def check_exposure(settings: Settings) -> None:
    """Raise `ConfigError` where a machine elsewhere could send without being named or certified."""
    if settings.receive_tls_certificate is None and (
        settings.receive_tls_clients is not None or settings.receive_tls_key is not None
    ):
        raise ConfigError("receive_tls_key and receive_tls_clients need receive_tls_certificate")
    is_restricted = bool(settings.receive_from) or settings.receive_tls_clients is not None
    if not (is_restricted or settings.receive_from_anyone or _is_loopback(settings.receive_host)):
        raise ConfigError(
            f"receive_host = {settings.receive_host!r} can be reached by other machines: list the "
            "AE titles that may send in receive_from, or set receive_tls_clients (certificates), "
            "or allow everybody by receive_from_anyone = true"
        )


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise ConfigError(f"receive_host {host!r} is not known: {error.strerror}") from error
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log_failed_threads() -> Iterator[None]:
    """Log threads that an exception ends, instead of a traceback that may quote a peer."""

    def log(failed: threading.ExceptHookArgs) -> None:
        event(logging.ERROR, "thread_failed", error=failed.exc_type.__name__)

    before, threading.excepthook = threading.excepthook, log
    try:
        yield
    finally:
        threading.excepthook = before
