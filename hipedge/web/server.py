"""Starting the server: what it may be exposed to, its socket, and its end."""

from __future__ import annotations

import getpass
import ipaddress
import os
import secrets
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import uvicorn

from hipedge.config import Settings
from hipedge.errors import ConfigError, InputError, InstallationError
from hipedge.pipeline.workers import Limits
from hipedge.review.worklist import open_review
from hipedge.service_log import is_service, notify_systemd
from hipedge.store.accounts import Accounts
from hipedge.web.app import create_app
from hipedge.web.decoder import CACHE_BYTES, Decoder
from hipedge.web.guard import host_name
from hipedge.web.sessions import Sessions
from hipedge.web.site import Site

# Nobody looks at an empty page for longer.
MAX_DECODING_S = 30.0
MAX_PROCESSES = 4
# Connections, of which a browser has up to six.
MAX_CONNECTIONS = 512
# Of TLS 1.2: forward secrecy and authenticated encryption (RFC 9325 4.2). TLS 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve the site until SIGTERM or Ctrl-C; `announce` is given the address to open.

    Decides first on hips that were recorded under other thresholds, where the database may be
    written. As a service of systemd it has no link that lets in whoever holds it, since it would
    stand in the journal: there are users, or nobody comes in. Raises `ConfigError` for an exposure
    that is not safe, and `InputError` where the address cannot be bound.
    """
    with Accounts(settings.web_database) as accounts:
        has_users = any(not user.disabled for user in accounts.users())
    is_local = is_loopback(settings.web_host)
    secure = settings.web_certificate is not None
    _check_exposure(settings, is_local=is_local, has_users=has_users)
    with open_review(settings.db, settings):
        pass
    token = None if has_users or is_service() else secrets.token_urlsafe(32)
    sessions = Sessions(
        secure=secure,
        idle=timedelta(minutes=settings.web_idle_minutes),
        link_token=token,
        owner=getpass.getuser(),
    )
    with decoder_of(settings) as decoder:
        names = LOOPBACK_NAMES if is_local else None
        app = create_app(Site(settings, sessions, decoder), names=names, secure=secure)
        server = _Server(_config(settings, app))
        with _listen(settings) as listening:
            host = settings.web_host if ":" not in settings.web_host else f"[{settings.web_host}]"
            address = f"{'https' if secure else 'http'}://{host}:{listening.getsockname()[1]}/"
            announce(address if token is None else f"{address}login?token={token}")
            server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Tells the service manager that requests are taken (sd_notify(3))."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        notify_systemd(READY=1)

    async def on_tick(self, counter: int) -> bool:
        """Say each second that requests are taken: it is called ten times as often."""
        if counter % 10 == 0:
            notify_systemd(WATCHDOG=1)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, once the requests that have begun are answered."""
        notify_systemd(STOPPING=1)
        await super().shutdown(sockets)


def decoder_of(settings: Settings, cache_bytes: int = CACHE_BYTES) -> Decoder:
    """Return the decoder that a site's settings ask for."""
    limits = Limits.of(settings.worker_memory_mb, min(settings.worker_timeout_s, MAX_DECODING_S))
    processes = settings.workers or max(1, min(MAX_PROCESSES, (os.cpu_count() or 1) // 2))
    return Decoder(processes, limits, cache_bytes)


def _listen(settings: Settings) -> socket.socket:
    """Return a socket at the site's address. Raises `InputError` where it cannot be bound."""
    host, port = settings.web_host, settings.web_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be bound ({error.strerror}): is another hipedge serve running? "
            "Set web_host and web_port"
        ) from error


def is_loopback(host: str) -> bool:
    """Return whether an address or name can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host_name(host) == "localhost"


def _check_exposure(settings: Settings, *, is_local: bool, has_users: bool) -> None:
    certificate, key = settings.web_certificate, settings.web_key
    if (certificate is None) != (key is None):
        raise ConfigError("web_certificate and web_key belong together: set both or neither")
    for path in (certificate, key):
        if path is not None and not _is_readable(path):
            raise ConfigError(f"{path} cannot be read")
    if is_local:
        return
    if certificate is None:
        raise ConfigError(
            f"web_host = {settings.web_host!r} can be reached from other machines: set "
            "web_certificate and web_key, or a web_host on this machine"
        )
    if not has_users:
        raise ConfigError(
            f"web_host = {settings.web_host!r} can be reached from other machines, and there are "
            "no users: add them with `hipedge user add`"
        )


def _is_readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def _config(settings: Settings, app: object) -> uvicorn.Config:
    try:
        return uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=settings.web_host,
            port=settings.web_port,
            ssl_certfile=settings.web_certificate,
            ssl_keyfile=settings.web_key,
            ssl_ciphers=CIPHERS,
            http="h11",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_level="warning",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=16 << 10,
        )
    except OSError as error:
        raise InstallationError(f"the server cannot be set up: {error}") from error
