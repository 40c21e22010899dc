"""Starting `hipedge serve`: what it may be exposed to, and its end."""

import re
import signal
import ssl
import subprocess
import sys
from dataclasses import replace

import httpx2
import pytest
import trustme

from hipedge.errors import ConfigError
from hipedge.store import Accounts
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


def started(place, *options):
    process = subprocess.Popen(
        [sys.executable, "-m", "hipedge", "serve", "--db", place.settings.db, "--port", "0",
         *options],
        cwd=place.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = process.stdout.readline()
    address = re.search(r"open (\S+)", line)
    assert address, process.stderr.read()
    return process, address[1]


def test_it_serves_by_tls_with_a_cookie_that_only_goes_there(place, certificate):
    options = ("--certificate", certificate, "--key", certificate)
    process, address = started(place, *options)
    try:
        trusted = ssl.create_default_context(cafile=certificate.with_name("authority.pem"))
        with httpx2.Client(base_url=address, verify=trusted) as client:
            response = client.post("/login", data={"user": "rita", "password": PASSWORD})
            cookie = response.headers["set-cookie"]
            assert cookie.startswith("__Host-hipedge=")
            assert "Secure" in cookie
            assert "max-age" in response.headers["strict-transport-security"]
            assert client.get("/").status_code == 200
        old = ssl.create_default_context(cafile=certificate.with_name("authority.pem"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert httpx2.get(f"{address}healthz", verify=old).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_without_users_it_prints_a_link_and_ends_when_asked(place):
    place.settings.web_database.unlink()
    process, address = started(place)
    try:
        assert "/login?token=" in address
        with httpx2.Client() as client:
            assert client.get(address).status_code == 303
            root = address.partition("login")[0]
            assert client.get(root).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=30)
    assert "Traceback" not in printed
