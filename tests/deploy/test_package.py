"""The Debian package: built, and installed on a machine that boots for the test."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.deploy.machine import Machine, skip_unless_possible

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "systemd/debian/build.sh"
CONFIG = "/etc/hipedge/hipedge.toml"
INCOMING = "/srv/hipedge/incoming"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package, as the script builds it."""
    if not shutil.which("dpkg-deb") or not Path("/usr/bin/python3").exists():
        pytest.skip("needs Debian's dpkg-deb and python3-venv")
    folder = tmp_path_factory.mktemp("package")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([BUILD, folder], env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    (built,) = folder.glob("hipedge_*.deb")
    return built


@pytest.fixture(scope="module")
def machine(package, tmp_path_factory):
    """A machine on which the package is installed."""
    skip_unless_possible()
    with Machine(tmp_path_factory.mktemp("booted")) as booted:
        shutil.copy(package, booted.path("/mnt/hipedge.deb"))
        booted.check("dpkg", "--install", "/mnt/hipedge.deb")
        yield booted


def status(machine):
    done = machine.run("hipedge", "status", "--json", "--config", CONFIG)
    return json.loads(done.stdout) if done.returncode == 0 else {"paths": {}}


def drop(machine, film, name):
    """Let a film arrive as the archive's user would write it."""
    target = machine.path(f"{INCOMING}/{name}")
    shutil.copyfile(film, target.with_name(f".{name}"))
    target.with_name(f".{name}").rename(target)


def doctor(machine, *user):
    done = machine.run(*user, "hipedge", "doctor", "--config", CONFIG)
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    return done.returncode, {row[1]: row[2:4] for row in rows if len(row) == 6 and row[1]}


AS_HIPEDGE = ("runuser", "-u", "hipedge", "--")


def test_the_package_has_nothing_but_its_folder_and_names_no_place_of_its_build(package, tmp_path):
    listed = subprocess.run(
        ["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    owners, paths = {line.split()[1] for line in listed}, [line.split()[5] for line in listed]
    assert owners == {"root/root"}
    files = {path.lstrip(".") for path in paths if not path.endswith("/")}
    elsewhere = {path for path in files if not path.startswith("/opt/hipedge/")}
    assert elsewhere == {"/usr/bin/hipedge", "/usr/share/doc/hipedge/copyright"}
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    command = (tmp_path / "opt/hipedge/bin/hipedge").read_text()
    assert command.startswith("#!/opt/hipedge/bin/python")
    assert (tmp_path / "usr/bin/hipedge").readlink() == Path("/opt/hipedge/bin/hipedge")
    interpreter = (tmp_path / "opt/hipedge/bin/python3").readlink()
    assert interpreter == Path("/usr/bin/python3")
    named = ["grep", "-rlI", "-e", str(ROOT), "-e", "/tmp/tmp[.]", tmp_path / "opt"]
    assert subprocess.run(named, capture_output=True, text=True).stdout == ""


def test_the_services_run_once_the_package_is_installed(machine):
    for unit in ("hipedge-watch.service", "hipedge-health.timer"):
        assert machine.check("systemctl", "is-active", unit) == "active\n"
        assert machine.check("systemctl", "is-enabled", unit) == "enabled\n"
    assert machine.check("hipedge", "--version").startswith("hipedge ")


def test_a_film_that_arrives_is_screened_in_the_sandbox(machine, shared_data):
    drop(machine, shared_data / "wg04/RG2_RLE.dcm", "first.dcm")
    machine.wait(lambda: status(machine)["paths"].get("screened") == 1)
    machine.check("systemctl", "start", "hipedge-health.service")
    owner = machine.check("stat", "--format=%U %a", "/var/lib/hipedge/cases.db")
    assert owner == "hipedge 600\n"
    film = machine.check("hipedge", "screen", f"{INCOMING}/first.dcm", "--db", "/tmp/other.db")
    assert "screened" in film


SEND = """
import sys
from pydicom import dcmread
from pynetdicom import AE
film = dcmread(sys.argv[1])
entity = AE("MODALITY")
entity.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
association = entity.associate("127.0.0.1", 11112, ae_title="HIPEDGE")
print(f"{association.send_c_store(film).Status:04X}")
association.release()
"""


def test_the_receiver_is_added_by_one_command_and_films_sent_to_it_are_screened(
    machine, shared_data
):
    machine.check("hipedge", "service", "install", "--receive")
    shutil.copy(shared_data / "radoss_ddh/331_DDH_1.dcm", machine.path("/mnt/film.dcm"))
    before = status(machine)["totals"]["last_hour"]
    answer = machine.check("/opt/hipedge/bin/python", "-c", SEND, "/mnt/film.dcm")
    assert answer == "0000\n"
    machine.wait(lambda: status(machine)["totals"]["last_hour"] == before + 1)


LOOK = """
import re, sys
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener
browser = build_opener(HTTPCookieProcessor())
def get(path, **form):
    data = urlencode(form).encode() if form else None
    return browser.open("http://127.0.0.1:8464" + path, data, timeout=60).read()
get("/login", user="rita", password=sys.argv[1])
case, = set(re.findall(rb'href="(/case/1)', get("/?list=all&answered=all")))
first = re.search(rb'"first": *(\\d+)', get(case.decode()))[1].decode()
print(len(get("/film/1/" + first)) > 100_000, b"Films a day" in get("/dashboard"))
"""


def test_the_worklist_is_added_by_one_command_and_shows_films_to_who_is_a_user(machine):
    machine.wait(lambda: status(machine)["totals"]["last_day"] > 0)
    printed = machine.check("hipedge", "service", "install", "--web")
    assert "hipedge user add NAME" in printed
    assert machine.check("systemctl", "is-active", "hipedge-serve.service") == "active\n"
    assert "token" not in machine.check("journalctl", "--unit=hipedge-serve.service")
    password = "gull ladder copper 7 window"
    add = f"printf '%s\\n%s\\n' '{password}' '{password}' | hipedge user add rita --config {CONFIG}"
    machine.check(*AS_HIPEDGE, "bash", "-c", add)
    assert machine.check("/opt/hipedge/bin/python", "-c", LOOK, password) == "True True\n"
    _, rows = doctor(machine, *AS_HIPEDGE)
    assert rows["service: hipedge-serve.service"] == ["yes", "active, enabled"]


def test_doctor_finds_all_well_as_the_user_of_the_service(machine):
    code, rows = doctor(machine, *AS_HIPEDGE)
    assert code == 0, rows
    for name in ("hipedge-watch.service", "hipedge-receive.service", "hipedge-health.timer"):
        assert rows[f"service: {name}"] == ["yes", "active, enabled"]
    works, found = rows["service: incoming films"]
    assert works == "yes"
    assert f"{INCOMING}, overlay, " in found
    assert rows["service: receiver"] == ["yes", "HIPEDGE at 127.0.0.1, port 11112 answers"]
    assert rows["service: sandbox"][0] == "yes"


def test_doctor_finds_what_is_wrong(machine):
    machine.check("systemctl", "stop", "hipedge-receive.service")
    settings = machine.path(CONFIG)
    before = settings.read_text()
    settings.write_text(before + 'pacs_host = "192.0.2.1"\n')
    try:
        code, rows = doctor(machine, *AS_HIPEDGE)
        assert code == 1
        assert rows["service: hipedge-receive.service"] == ["no", "inactive, enabled"]
        assert rows["service: receiver"][0] == "no"
        assert rows["service: sandbox"][0] == "no"
        assert rows["peer: PACS"][0] == "no"
    finally:
        settings.write_text(before)
        machine.check("systemctl", "start", "hipedge-receive.service")


def test_the_sandbox_lets_results_out_to_the_pacs_of_the_settings_once_it_is_told(
    machine, shared_data, tmp_path
):
    if not shutil.which("storescp"):
        pytest.skip("no storescp")
    machine.check("ip", "address", "add", "192.0.2.1/32", "dev", "lo")  # as another machine's
    machine.check("mkdir", "/mnt/pacs")
    pacs = ("storescp", "--aetitle", "PACS", "--output-directory", "/mnt/pacs", "4242")
    machine.check("systemd-run", "--unit=pacs", *pacs)
    settings = machine.path(CONFIG)
    before = settings.read_text()
    peer = 'pacs_host = "192.0.2.1"\npacs_port = 4242\npacs_ae_title = "PACS"\n'
    settings.write_text(before + peer)
    machine.check("systemctl", "restart", "hipedge-watch.service")
    film = dcmread(shared_data / "wg04/RG2_RLE.dcm")
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.9999.1"
    film.save_as(tmp_path / "another.dcm")
    drop(machine, tmp_path / "another.dcm", "another.dcm")
    machine.wait(lambda: status(machine)["undelivered"].get("pacs"))
    machine.wait(lambda: "results" in status(machine)["problems"])  # refused by the sandbox alone:
    code, rows = doctor(machine, *AS_HIPEDGE)
    assert code == 1
    assert rows["peer: PACS"] == ["yes", "PACS at 192.0.2.1, port 4242 answers"]
    assert rows["service: sandbox"][0] == "no"
    assert list(machine.path("/mnt/pacs").iterdir()) == []
    machine.check("hipedge", "service", "install")
    machine.wait(lambda: not status(machine)["undelivered"])
    assert len(list(machine.path("/mnt/pacs").iterdir())) >= 2
    code, rows = doctor(machine, *AS_HIPEDGE)
    assert code == 0
    assert rows["service: sandbox"][0] == "yes"
    settings.write_text(before)
    assert "remove  /etc/systemd/system/hipedge-watch.service.d/peers.conf" in machine.check(
        "hipedge", "service", "install"
    )


def test_a_service_that_is_killed_is_back(machine, shared_data):
    for unit in ("hipedge-watch.service", "hipedge-receive.service"):
        show = ("systemctl", "show", "--property=MainPID", "--value", unit)
        before = machine.check(*show)
        machine.check("systemctl", "kill", "--signal=KILL", unit)
        machine.wait(lambda show=show, before=before: machine.check(*show) not in (before, "0\n"))
        is_active = ("systemctl", "is-active", unit)
        machine.wait(lambda unit=is_active: machine.run(*unit).stdout == "active\n")


def test_an_upgrade_keeps_settings_receiver_and_results(machine):
    settings = machine.path(CONFIG)
    settings.write_text(settings.read_text() + "settle_s = 2.0\n")
    before = status(machine)["totals"]["last_day"]
    shown = machine.check("dpkg", "--install", "/mnt/hipedge.deb")
    assert f"keep    {CONFIG}  (the site's settings)" in shown
    assert settings.read_text().endswith("settle_s = 2.0\n")
    assert machine.check("systemctl", "is-active", "hipedge-receive.service") == "active\n"
    assert status(machine)["totals"]["last_day"] == before


def test_another_environment_in_its_place_is_not_overwritten(package, tmp_path):
    skip_unless_possible()
    with Machine(tmp_path) as other:
        other.check("mkdir", "-p", "/opt/hipedge")
        other.path("/opt/hipedge/pyvenv.cfg").write_text("home = /usr/bin\n")
        shutil.copy(package, other.path("/mnt/hipedge.deb"))
        done = other.run("dpkg", "--install", "/mnt/hipedge.deb")
        assert done.returncode != 0
        assert "move it away first" in done.stderr
        assert not other.path("/opt/hipedge/bin").exists()


def test_removing_the_package_stops_the_services_and_leaves_database_films_and_settings(machine):
    shown = machine.check("dpkg", "--remove", "hipedge")
    assert "leave   /var/lib/hipedge  (the database and caches)" in shown
    units = machine.check("systemctl", "list-units", "--all", "--no-legend", "hipedge*")
    assert units == ""
    for path in ("/var/lib/hipedge/cases.db", f"{INCOMING}/first.dcm", CONFIG):
        assert machine.path(path).exists()
    assert not machine.path("/opt/hipedge").exists()
    machine.check("id", "hipedge")
