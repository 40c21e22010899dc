"""docs/install.md: its commands, run in order on a machine that boots for the test."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.machine import Machine, skip_unless_possible
from tests.deploy.test_package import BUILD
from tests.deploy.test_service import needs_root, service

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/install.md").read_text("utf-8")
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "hipedge")


def block(name):
    """The code block of the page that follows the comment with this name."""
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)[1]


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


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_newcomer_who_follows_the_page_has_a_service_and_can_remove_it(
    wheels, tmp_path, shared_data
):
    skip_unless_possible()
    with Machine(tmp_path) as machine:
        machine.check("mkdir", "-p", "/root/hipedge", "/root/wheels")
        for source, target in (
            *((ROOT / name, f"/root/hipedge/{name}") for name in SOURCE),
            *((wheel, f"/root/wheels/{wheel.name}") for wheel in wheels.iterdir()),
        ):
            subprocess.run(["cp", "-r", source, machine.path(target)], check=True)

        def follow(name):
            sudo = 'sudo() { if [ "$1" = -u ]; then runuser -u "$2" -- "${@:3}"; else "$@"; fi; }'
            offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/wheels PIP_CONFIG_FILE=/dev/null"
            script = f"{sudo}\n{offline}\ncd /root/hipedge\n{block(name)}"
            return machine.check("bash", "-ec", script)

        printed = follow("install")
        for line in block("output: install").splitlines():
            assert f"{line}\n" in printed
        film = machine.path("/srv/hipedge/incoming/film.dcm")
        film.write_bytes((shared_data / "wg04/RG2_RLE.dcm").read_bytes())
        status = ("hipedge", "status", "--json", "--config", "/etc/hipedge/hipedge.toml")
        machine.wait(lambda: '"screened": 1' in machine.run(*status).stdout)
        shown = follow("check")
        assert "HIPEDGE at 127.0.0.1, port 11112 answers" in shown
        assert "files screened" in shown
        assert "active (running)" in shown
        assert "started unfinished=0" in shown
        assert "restart hipedge-watch.service" in follow("restart")
        assert "leave   /srv/hipedge  (the films)" in follow("remove")
        assert machine.run("systemctl", "is-active", "hipedge-watch").stdout != "active\n"
        assert film.exists()


def test_the_commands_of_the_package_are_those_of_its_test():
    assert f"{BUILD.relative_to(ROOT)} ." in block("package")
