"""Which machines the unit's sandbox lets the service connect to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hipedge.config import Settings
from hipedge.deploy import render_peers
from hipedge.errors import ConfigError
from tests.deploy.test_service import SETTINGS, UNITS, needs_root, service

PEERS = f"{UNITS}/hipedge-watch.service.d/peers.conf"


def allowed(settings, resolver=Path("/nowhere")):
    text = (render_peers(settings, resolver) or b"").decode()
    return [line.split("=")[1] for line in text.splitlines() if line.startswith("IPAddressAllow=")]


def test_without_peers_elsewhere_there_is_nothing_to_allow():
    local = Settings(
        pacs_host="localhost", webhook_url="http://127.0.0.1/x", fhir_url="http://[::1]:8080/fhir"
    )
    assert render_peers(Settings()) is None
    assert render_peers(local) is None


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"pacs_host": "192.0.2.1"}, "192.0.2.1"),
        ({"pacs_stow_url": "https://192.0.2.2:8443/dicom-web"}, "192.0.2.2"),
        ({"pacs_qido_url": "https://192.0.2.3/dicom-web"}, "192.0.2.3"),
        ({"webhook_url": "https://192.0.2.4/hook"}, "192.0.2.4"),
        ({"fhir_url": "https://[2001:db8::5]/fhir"}, "2001:db8::5"),
        ({"email_to": "a@b.org", "smtp": "192.0.2.6:25"}, "192.0.2.6"),
        ({"email_to": "a@b.org", "smtp": "[2001:db8::7]:25"}, "2001:db8::7"),
    ],
)
def test_each_machine_that_the_settings_name_is_allowed(settings, address):
    assert allowed(Settings(**settings)) == [address]


def test_a_mail_relay_that_is_not_used_is_not_allowed():
    assert render_peers(Settings(smtp="192.0.2.6:25")) is None


def test_a_name_is_looked_up_and_the_servers_of_names_are_allowed_too(tmp_path):
    name = os.uname().nodename  # a name that this machine knows, whatever its address
    (tmp_path / "resolv.conf").write_text(
        "# of the site\nnameserver 192.0.2.53\nnameserver 127.0.0.53\nnameserver\nsearch a.org\n"
    )
    known = subprocess.run(["getent", "ahosts", name], capture_output=True, text=True, check=False)
    elsewhere = {
        line.split()[0]
        for line in known.stdout.splitlines()
        if not line.startswith(("127.", "::1 "))
    }
    found = allowed(Settings(pacs_host=name), tmp_path / "resolv.conf")
    assert set(found) == (elsewhere | {"192.0.2.53"} if elsewhere else set())


def test_a_name_that_is_not_known_is_an_error():
    with pytest.raises(ConfigError, match=r"no address is known for pacs\.invalid"):
        render_peers(Settings(pacs_host="pacs.invalid"))


@needs_root
def test_installing_again_after_a_change_of_settings_opens_the_sandbox_and_closes_it(
    tmp_path, capsys
):
    service("install", "--root", tmp_path)
    assert not (tmp_path / PEERS).exists()
    settings = tmp_path / SETTINGS
    before = settings.read_text()
    settings.write_text(before + 'pacs_host = "192.0.2.1"\n')
    assert service("install", "--root", tmp_path) == 0
    assert f"create  {tmp_path / PEERS}" in capsys.readouterr().out
    assert "\nIPAddressAllow=192.0.2.1\n" in (tmp_path / PEERS).read_text()
    settings.write_text(before)
    assert service("install", "--root", tmp_path) == 0
    assert f"remove  {tmp_path / PEERS}  (the settings name no other machine)" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / PEERS).parent.exists()


@needs_root
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_drop_in_verifies_with_the_unit(tmp_path):
    service("install", "--root", tmp_path)
    with (tmp_path / SETTINGS).open("a") as settings:
        settings.write('pacs_host = "192.0.2.1"\nfhir_url = "https://[2001:db8::5]/fhir"\n')
    service("install", "--root", tmp_path)
    unit = tmp_path / UNITS / "hipedge-watch.service"
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
