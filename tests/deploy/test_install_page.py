"""The commands of docs/install.md and the walk of docs/clinic.md, on machines that boot for it."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.machine import Machine, skip_unless_possible
from tests.deploy.test_package import BUILD
from tests.deploy.test_service import needs_root, service

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/install.md").read_text("utf-8")
CLINIC = (ROOT / "docs/clinic.md").read_text("utf-8")
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "hipedge")


def block(name, page=PAGE):
    """The code block of a page that follows the comment with this name."""
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", page, re.DOTALL)[1]


@needs_root
def test_the_page_shows_the_steps_as_they_are_printed(tmp_path, capsys):
    service("install", "--root", tmp_path, "--receive")
    printed = capsys.readouterr().out.replace(f" --root={tmp_path}", "").replace(str(tmp_path), "")
    shown = block("output: install").splitlines()
    assert [line for line in shown if "systemctl" not in line] == [
        line for line in printed.splitlines() if line.startswith(("create", "run     systemd"))
    ]
    (enabled,) = (line for line in printed.splitlines() if line.startswith("run     systemctl"))
    assert enabled in shown


def test_the_readme_installs_the_service_by_the_pages_command():
    readme = (ROOT / "README.md").read_text("utf-8")
    (command,) = re.findall(r"^sudo /opt/hipedge/bin/(hipedge service .*)$", readme, re.MULTILINE)
    assert f"sudo {command}\n" in block("install")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """What `pip install` needs, since the machine has no network."""
    folder = tmp_path_factory.mktemp("wheels")
    (extras,) = re.findall(r"'\.(\[.*?\])'", block("install"))
    python = Path("/usr/bin/python3")  # the machine's, whose wheels may be others than ours
    tools = tmp_path_factory.mktemp("tools")
    subprocess.run([python, "-m", "venv", tools], check=True)
    pip = [tools / "bin/pip", "wheel", "--quiet", "--wheel-dir", folder]
    for packages in ([f"{ROOT}{extras}"], ["setuptools>=77"]):
        done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    for built in folder.glob("hipedge-*.whl"):
        built.unlink()
    return folder


@pytest.fixture
def machine(wheels, tmp_path):
    """A machine with a checkout in /mnt/hipedge, and nothing installed."""
    skip_unless_possible()
    with Machine(tmp_path) as booted:
        booted.check("mkdir", "-p", "/mnt/hipedge", "/mnt/wheels")
        for source, target in (
            *((ROOT / name, f"/mnt/hipedge/{name}") for name in SOURCE),
            *((wheel, f"/mnt/wheels/{wheel.name}") for wheel in wheels.iterdir()),
        ):
            subprocess.run(["cp", "-r", source, booted.path(target)], check=True)
        yield booted


def follow(machine, commands):
    """Run commands of a page in the checkout; return what they print."""
    sudo = 'sudo() { if [ "$1" = -u ]; then runuser -u "$2" -- "${@:3}"; else "$@"; fi; }'
    offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt/wheels PIP_CONFIG_FILE=/dev/null"
    return machine.check("bash", "-ec", f"{sudo}\n{offline}\ncd /mnt/hipedge\n{commands}")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_newcomer_who_follows_the_page_has_a_service_and_can_remove_it(machine, shared_data):
    printed = follow(machine, block("install"))
    for line in block("output: install").splitlines():
        assert f"{line}\n" in printed
    film = machine.path("/srv/hipedge/incoming/film.dcm")
    film.write_bytes((shared_data / "wg04/RG2_RLE.dcm").read_bytes())
    status = ("hipedge", "status", "--json", "--config", "/etc/hipedge/hipedge.toml")
    machine.wait(lambda: '"screened": 1' in machine.run(*status).stdout)
    shown = follow(machine, block("check"))
    assert "HIPEDGE at 127.0.0.1, port 11112 answers" in shown
    assert "files screened" in shown
    assert "active (running)" in shown
    assert "started unfinished=0" in shown
    assert "restart hipedge-watch.service" in follow(machine, block("restart"))
    assert "leave   /srv/hipedge  (the films)" in follow(machine, block("remove"))
    assert machine.run("systemctl", "is-active", "hipedge-watch").stdout != "active\n"
    assert film.exists()


def orthanc(machine, path):
    """Ask the machine's Orthanc."""
    asked = machine.run("curl", "--silent", "--fail", f"http://localhost:8042{path}")
    return json.loads(asked.stdout) if asked.returncode == 0 else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_minutes_from_nothing_to_results_in_the_study_of_the_film(machine, shared_data):
    for program in ("/usr/sbin/Orthanc", "/usr/bin/dcmsend", "/usr/bin/curl"):
        if not Path(program).exists():
            pytest.skip(f"no {program}")
    begin = time.monotonic()
    machine.check("systemctl", "start", "orthanc")
    machine.wait(lambda: orthanc(machine, "/system"))
    shutil.copy(shared_data / "wg04/RG2_RLE.dcm", machine.path("/mnt/hipedge/film.dcm"))
    shown = follow(machine, block("walk: install", CLINIC))
    assert "ORTHANC at 127.0.0.1, port 4242 answers" in shown
    assert "HIPEDGE at 127.0.0.1, port 11112 answers" in shown
    follow(machine, block("walk: send", CLINIC))
    machine.wait(lambda: len(orthanc(machine, "/instances")) == 3)
    assert time.monotonic() - begin < 600
    (study,) = orthanc(machine, "/studies?expand")
    series = [orthanc(machine, f"/series/{name}")["MainDicomTags"] for name in study["Series"]]
    results = [one["Modality"] for one in series if one.get("Manufacturer") == "hipedge"]
    assert len(series) == 3
    assert len(results) == 2
    assert "SR" in results
    shown = follow(machine, block("walk: look", CLINIC))
    assert "files screened" in shown
    assert "undelivered" not in shown
    assert ".dcm" in shown


def test_the_commands_of_the_package_are_those_of_its_test():
    assert f"{BUILD.relative_to(ROOT)} ." in block("package")
