"""Starting `hipedge serve`: what it may be exposed to, and its end."""

import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import httpx2
import pytest
import trustme

from hipedge.errors import ConfigError, InputError
from hipedge.store.accounts import Accounts, Role
from hipedge.web.passwords import hash_password
from hipedge.web.server import is_loopback, serve

from .conftest import PASSWORD


def nothing(_):
    raise AssertionError("the server was started")


@pytest.fixture
def certificate(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return tmp_path / "both.pem"


def test_other_machines_are_served_only_with_a_certificate(place):
    with pytest.raises(ConfigError, match="web_certificate"):
        serve(replace(place.settings, web_host="0.0.0.0"), nothing)


def test_other_machines_are_served_only_with_users(place, certificate):
    with Accounts(place.settings.web_database) as accounts:
        for user in accounts.users():
            accounts.set_disabled(user.name, disabled=True)
    with pytest.raises(ConfigError, match="hipedge user add"):
        serve(
            replace(
                place.settings, web_host="::", web_certificate=certificate, web_key=certificate
            ),
            nothing,
        )


@pytest.mark.parametrize("changes", [{"web_certificate": "x"}, {"web_key": "x"}])
def test_a_certificate_needs_its_key(place, certificate, changes):
    with pytest.raises(ConfigError, match="belong together"):
        serve(replace(place.settings, **dict.fromkeys(changes, certificate)), nothing)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.1.2.3", False), ("hospital.example", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine_alone(host, local):
    assert is_loopback(host) is local


@contextmanager
def started(place, *options):
    """Start the server as a process; yield its address, and check how it ends when asked to."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hipedge", "serve", "--db", place.settings.db, "--port", "0",
         *options],
        cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = re.search(r"open (\S+)", process.stdout.readline())
        assert address
        yield address[1]
    finally:
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=30)
    assert printed == ""


def test_it_serves_by_tls_with_a_cookie_that_only_goes_there(place, certificate):
    options = ("--certificate", certificate, "--key", certificate)
    trusted = ssl.create_default_context(cafile=certificate.with_name("authority.pem"))
    with started(place, *options) as address, httpx2.Client(verify=trusted) as client:
        response = client.post(f"{address}login", data={"user": "rita", "password": PASSWORD})
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-hipedge=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "max-age" in response.headers["strict-transport-security"]
        assert client.get(address).status_code == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_versions_and_weak_ciphers_of_tls_are_refused(place, certificate):
    offers = {
        (ssl.TLSVersion.TLSv1_3, None): True,
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM"): True,
        (ssl.TLSVersion.TLSv1_2, "ECDHE+SHA:AES128-SHA"): False,
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"): False,
    }
    with started(place, "--certificate", certificate, "--key", certificate) as address:
        found = {offer: is_accepted(address, certificate, *offer) for offer in offers}
    assert found == offers


def is_accepted(address, certificate, version, ciphers):
    """Whether the server accepts what a client offers."""
    client = ssl.create_default_context(cafile=certificate.with_name("authority.pem"))
    client.minimum_version = client.maximum_version = version
    if ciphers:
        client.set_ciphers(ciphers)
    url = urlsplit(address)
    with socket.create_connection((url.hostname, url.port)) as plain:
        try:
            client.wrap_socket(plain, server_hostname=url.hostname).close()
        except ssl.SSLError:
            return False
    return True


def test_without_users_it_prints_a_link_for_who_started_it(place):
    place.settings.web_database.unlink()
    with started(place) as address, httpx2.Client() as client:
        assert "/login?token=" in address
        assert client.get(address).status_code == 303
        assert client.get(address.partition("login")[0]).status_code == 200


def test_as_a_service_it_says_when_it_is_ready_and_prints_no_link(place, monkeypatch):
    place.settings.web_database.unlink()
    said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    # A path of its own: that of the test's folder may be too long for a socket.
    with tempfile.TemporaryDirectory() as folder, said:
        said.bind(f"{folder}/notify")
        said.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        with started(place) as address, httpx2.Client() as client:
            assert "token" not in address
            assert said.recv(100) == b"READY=1"
            assert said.recv(100) == b"WATCHDOG=1"
            page = client.get(f"{address}login")
            assert 'name="password"' in page.text
            assert client.get(f"{address}login?token=").headers.get("set-cookie") is None
            with Accounts(place.settings.web_database) as accounts:
                accounts.add_user("rita", Role.READER, hash_password(PASSWORD, "rita"))
            form = {"user": "rita", "password": PASSWORD}
            assert client.post(f"{address}login", data=form).status_code == 303
        while (word := said.recv(100)) == b"WATCHDOG=1":
            pass
        assert word == b"STOPPING=1"


def test_a_port_that_is_taken_is_named(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=str(port)):
            serve(replace(place.settings, web_port=port), nothing)
