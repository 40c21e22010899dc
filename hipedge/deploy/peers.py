"""The addresses that the settings tell the service to connect to, which its sandbox must allow."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from hipedge.config import Settings
from hipedge.errors import ConfigError

_RESOLVER = Path("/etc/resolv.conf")
HEAD = """\
# The machines that hipedge.toml names, written by `hipedge service install`: run it again after a
# change. Names were looked up then, and the servers of names are allowed with them.
[Service]
"""


def render_peers(settings: Settings, resolver: Path = _RESOLVER) -> bytes | None:
    """Return a drop-in that allows connections to the settings' peers, or None for none elsewhere.

    Raises `ConfigError` for a host name that is not known.
    """
    lines = list[str]()
    uses_names = False
    for host in dict.fromkeys(_hosts(settings)):
        addresses = [found for found in _addresses(host) if not found.is_loopback]
        uses_names = uses_names or (bool(addresses) and not _is_address(host))
        lines += [f"IPAddressAllow={address}" for address in addresses]
    if not lines:
        return None
    if uses_names:
        lines += [f"IPAddressAllow={address}" for address in _name_servers(resolver)]
    return (HEAD + "\n".join(dict.fromkeys(lines)) + "\n").encode()


def _hosts(settings: Settings) -> Iterator[str]:
    if settings.pacs_host is not None:
        yield settings.pacs_host
    for url in (
        settings.pacs_stow_url,
        settings.pacs_qido_url,
        settings.webhook_url,
        settings.fhir_url,
    ):
        if url is not None and (host := urlsplit(url).hostname):
            yield host
    if settings.email_to is not None:
        yield settings.smtp.rpartition(":")[0].strip("[]")


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"no address is known for {host}: {error.strerror}") from error
    # An address on a link has its interface behind a %, which IPAddressAllow= does not take.
    texts = (str(address[0]).partition("%")[0] for *_, address in found)
    return [ipaddress.ip_address(text) for text in sorted(set(texts))]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _name_servers(resolver: Path) -> Iterator[str]:
    """Yield the name servers of resolv.conf(5) on other machines."""
    if not resolver.exists():
        return
    for line in resolver.read_text("utf-8", "replace").splitlines():
        match line.split():
            case ["nameserver", address, *_] if _is_address(address):
                if not ipaddress.ip_address(address).is_loopback:
                    yield address
