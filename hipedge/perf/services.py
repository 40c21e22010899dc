"""Checks of the services on this machine: units, incoming films, the receiver, the clock."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hipedge.config import Settings, load_settings
from hipedge.deploy import INCOMING, PEERS_FILE, SETTINGS_FILE, UNIT_FOLDER, UNITS, render_peers
from hipedge.errors import HipedgeError
from hipedge.mounts import mount_of
from hipedge.network.echo import echo
from hipedge.perf.check import Check

SECTION = "service"
RECEIVER = "hipedge-receive.service"
# Exists while systemd is the system's init (sd_booted(3)).
_BOOTED = Path("/run/systemd/system")
# Addresses of a server that listens at all addresses of this machine.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def check_services(settings: Settings) -> Iterator[Check]:
    """Check what `hipedge service install` has installed."""
    installed = [unit for unit in UNITS if (UNIT_FOLDER / unit).exists()]
    if not installed:
        cure = "hipedge service install"
        yield Check(SECTION, "units", None, "not installed", cure, required=False)
        return
    for unit in installed:
        yield _unit(unit)
    yield _incoming(settings)
    if RECEIVER in installed:
        yield _receiver(settings)
    if PEERS_FILE.exists() or SETTINGS_FILE.exists():
        yield _sandbox()
    yield _clock()


def _unit(unit: str) -> Check:
    if not _BOOTED.is_dir():
        return Check(SECTION, unit, None, "installed; systemd does not run here", required=False)
    active = _answer("systemctl", "is-active", unit)
    enabled = _answer("systemctl", "is-enabled", unit)
    works = active == "active" and enabled == "enabled"
    cure = "" if works else f"systemctl enable --now {unit}; why it ended: journalctl -u {unit}"
    return Check(SECTION, unit, works, f"{active}, {enabled}", cure)


def _incoming(settings: Settings) -> Check:
    name = "incoming films"
    if not INCOMING.is_dir():
        return Check(SECTION, name, False, f"no folder {INCOMING}", "hipedge service install")
    free_mb = shutil.disk_usage(INCOMING).free >> 20
    found = f"{INCOMING}, {mount_of(INCOMING).type}, {free_mb} MiB free"
    if not os.access(INCOMING, os.W_OK):
        cure = "run this as the user hipedge; else hipedge service install"
        return Check(SECTION, name, False, f"{found}, cannot be written", cure)
    if free_mb < settings.reserve_mb:
        cure = f"make room: nothing is received below reserve_mb = {settings.reserve_mb}"
        return Check(SECTION, name, False, found, cure)
    return Check(SECTION, name, True, found)


def _receiver(settings: Settings) -> Check:
    """Ask the receiver on this machine for an answer, as one of those who may send."""
    host = _ANY.get(settings.receive_host, settings.receive_host)
    title, port = settings.receive_ae_title, settings.receive_port
    place = f"{title} at {settings.receive_host}, port {port}"
    if settings.receive_tls_clients is not None:
        found = f"{place}: only senders with a certificate can tell"
        return Check(SECTION, "receiver", None, found, required=False)
    caller = settings.receive_from[0] if settings.receive_from else title
    try:
        echo(host, port, title, caller, _unverified() if settings.receive_tls_certificate else None)
    except HipedgeError as error:
        return Check(SECTION, "receiver", False, f"{place}: {error}", f"journalctl -u {RECEIVER}")
    return Check(SECTION, "receiver", True, f"{place} answers")


def _unverified() -> ssl.SSLContext:
    """Return a context for this machine's own receiver, whose certificate names another host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _sandbox() -> Check:
    """Compare the peers that the installed unit may connect to with those of its settings."""
    name, cure = "sandbox", "hipedge service install"
    try:
        wanted = render_peers(load_settings({}, SETTINGS_FILE, {}))
        present = PEERS_FILE.read_bytes() if PEERS_FILE.exists() else None
    except OSError as error:
        found = f"{error.filename} cannot be read: {error.strerror}"
        return Check(SECTION, name, None, found, "run this as root or hipedge", required=False)
    except HipedgeError as error:
        return Check(SECTION, name, False, str(error), f"correct {SETTINGS_FILE}")
    if wanted != present:
        found = "the service may not connect to the machines that its settings name"
        return Check(SECTION, name, False, found, cure)
    return Check(SECTION, name, True, "the machines that the settings name are allowed")


def _clock() -> Check:
    if not _BOOTED.is_dir() or shutil.which("timedatectl") is None:
        found = "cannot be told: systemd does not run here"
        return Check(SECTION, "clock", None, found, required=False)
    answer = _answer("timedatectl", "show", "--property=NTPSynchronized", "--value")
    works = answer == "yes"
    cure = "" if works else "set up time synchronisation (chrony, systemd-timesyncd)"
    found = "synchronised by NTP" if works else "not synchronised by NTP"
    return Check(SECTION, "clock", works, found, cure, required=False)


def _answer(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
