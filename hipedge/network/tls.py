"""TLS for DICOM: 1.2 at least, certificates always checked (PS3.15 B.9, BCP 195)."""

from __future__ import annotations

import ssl
from pathlib import Path

from hipedge.errors import ConfigError


def server_context(certificate: Path, key: Path | None, clients: Path | None) -> ssl.SSLContext:
    """Return the context of a server with this certificate chain and private key (PEM).

    `key` may lie in the file of the certificate. With `clients`, the certificates of authorities,
    a peer must show a certificate that one of them has signed. Raises `ConfigError`.
    """
    context = _context(ssl.Purpose.CLIENT_AUTH, clients)
    _load_chain(context, certificate, key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    authorities: Path | None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return the context of a client, which checks the server's certificate and host name.

    `authorities` are those of the site, instead of those of this machine. With `certificate`, the
    client shows it to a server that asks. Raises `ConfigError`.
    """
    context = _context(ssl.Purpose.SERVER_AUTH, authorities)
    if certificate is not None:
        _load_chain(context, certificate, key)
    return context


def _context(purpose: ssl.Purpose, authorities: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"no certificates can be read from {authorities}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    def refuse_password() -> str:
        raise ConfigError(
            f"the key of {certificate} is encrypted: a service cannot be asked for it"
        )

    try:
        context.load_cert_chain(certificate, key, password=refuse_password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{certificate} and its key cannot be used: {error}") from error
