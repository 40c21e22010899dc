"""`hipedge service`, into another root folder, by systemd's own commands."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from hipedge.cli import main
from hipedge.config import load_settings
from hipedge.deploy import Environment, perform, plan_install
from hipedge.errors import InstallationError

ROOT = Path(__file__).parents[2]
COMMANDS = ("systemd-sysusers", "systemd-tmpfiles", "systemctl")
UNITS = "etc/systemd/system"
SETTINGS = "etc/hipedge/hipedge.toml"

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, COMMANDS)), reason="needs root, and systemd"
)


def service(*arguments):
    """Run the command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["service", *map(str, arguments)])
    return ended.value.code or 0


def contents(root):
    """Return the files below a folder with their content, without systemd's own lock."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".pwd.lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@needs_root
def test_the_steps_are_shown_and_a_dry_run_does_none(tmp_path, capsys):
    assert service("install", "--root", tmp_path, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert f"create  {tmp_path}/{UNITS}/hipedge-watch.service" in shown
    assert f"create  {tmp_path}/{SETTINGS}" in shown
    assert "run     systemd-sysusers" in shown
    assert "Nothing was changed" in shown
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_one_command_installs_units_user_folders_and_settings(tmp_path):
    assert service("install", "--root", tmp_path) == 0
    command = Path(sysconfig.get_path("scripts"), "hipedge")
    unit = (tmp_path / UNITS / "hipedge-watch.service").read_text()
    assert f"ExecStart={command} watch /srv/hipedge/incoming --config /{SETTINGS}" in unit
    users = (tmp_path / "etc/passwd").read_text()
    (identity,) = re.findall(r"^hipedge:x:(\d+):\1:", users, re.MULTILINE)
    for folder, owner, mode in (
        ("srv/hipedge/incoming", int(identity), 0o2770),
        ("var/lib/hipedge", int(identity), 0o750),
        ("etc/hipedge", 0, 0o750),
        (SETTINGS, 0, 0o640),
    ):
        status = (tmp_path / folder).stat()
        assert (status.st_uid, status.st_mode & 0o7777) == (owner, mode), folder
    assert (tmp_path / SETTINGS).stat().st_gid == int(identity)
    settings = load_settings({}, tmp_path / SETTINGS, {})
    assert settings.db == Path("/var/lib/hipedge/cases.db")
    assert (tmp_path / UNITS / "multi-user.target.wants/hipedge-watch.service").is_symlink()
    assert (tmp_path / UNITS / "timers.target.wants/hipedge-health.timer").is_symlink()
    assert not (tmp_path / UNITS / "hipedge-receive.service").exists()
    assert not (tmp_path / UNITS / "hipedge-watch.service.d").exists()


@needs_root
def test_repeated_it_changes_nothing_and_keeps_the_sites_settings(tmp_path, capsys):
    service("install", "--root", tmp_path)
    (tmp_path / SETTINGS).write_text('db = "/data/cases.db"\nsettle_s = 5.0\n')
    before = contents(tmp_path)
    capsys.readouterr()
    assert service("install", "--root", tmp_path) == 0
    shown = capsys.readouterr().out
    assert contents(tmp_path) == before
    assert re.findall("^(?:create|update) .*", shown, re.MULTILINE) == []
    assert f"keep    {tmp_path}/{SETTINGS}  (the site's settings)" in shown


@needs_root
def test_what_an_earlier_option_has_installed_stays_and_old_units_are_updated(tmp_path, capsys):
    service("install", "--root", tmp_path, "--receive", "--gpu")
    unit = tmp_path / UNITS / "hipedge-receive.service"
    drop_in = tmp_path / UNITS / "hipedge-watch.service.d/gpu.conf"
    wanted = unit.read_bytes()
    unit.write_bytes(b"[Unit]\nDescription=of an earlier version\n")
    capsys.readouterr()
    assert service("install", "--root", tmp_path) == 0
    assert f"update  {unit}" in capsys.readouterr().out
    assert unit.read_bytes() == wanted
    assert "DeviceAllow=/dev/nvidia0 rw" in drop_in.read_text()
    assert (tmp_path / UNITS / "multi-user.target.wants/hipedge-receive.service").is_symlink()


@needs_root
def test_uninstalling_leaves_what_is_the_sites_and_says_so(tmp_path, capsys):
    service("install", "--root", tmp_path, "--receive", "--gpu")
    kept = {
        "var/lib/hipedge/cases.db": b"the database",
        "srv/hipedge/incoming/film.dcm": b"a film",
        f"{UNITS}/hipedge-watch.service.d/override.conf": b"[Service]\nMemoryMax=50%\n",
        SETTINGS: (tmp_path / SETTINGS).read_bytes(),
    }
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)
    capsys.readouterr()
    assert service("uninstall", "--root", tmp_path) == 0
    shown = capsys.readouterr().out
    left = {name: data for name, data in contents(tmp_path).items() if "hipedge" in name}
    assert left == kept
    assert not [path for path in (tmp_path / UNITS).rglob("*") if path.is_symlink()]
    for name in ("var/lib/hipedge", "srv/hipedge", "etc/hipedge", *kept):
        if name.endswith(("hipedge", "override.conf")):
            assert f"leave   {tmp_path}/{name}  (" in shown
    assert "leave   user hipedge" in shown
    assert service("uninstall", "--root", tmp_path) == 0
    assert {name: data for name, data in contents(tmp_path).items() if "hipedge" in name} == kept


@needs_root
@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("settle_s = -1\n", "settle_s cannot be -1"),
        ('db = "cases.db"\n', "must name the database by its whole path"),
        ("settle_s = 1\n", "must name the database by its whole path"),
    ],
)
def test_with_settings_that_the_service_could_not_use_nothing_is_changed(
    tmp_path, capsys, settings, complaint
):
    (tmp_path / SETTINGS).parent.mkdir(parents=True)
    (tmp_path / SETTINGS).write_text(settings)
    assert service("install", "--root", tmp_path) == 2
    assert complaint in capsys.readouterr().err
    assert contents(tmp_path) == {SETTINGS: settings.encode()}


@pytest.mark.parametrize("folder", ["/home/clinic", "/root", "/tmp"])
def test_an_environment_that_the_sandbox_hides_is_refused_with_the_remedy(folder):
    programs = Path(folder, "venv", "bin")
    hidden = Environment(programs, (programs,))
    with pytest.raises(InstallationError, match=r"hidden.*python3 -m venv /opt/hipedge"):
        plan_install(hidden)


def test_an_environment_that_the_user_of_the_service_cannot_enter_is_refused():
    # Not in the folder for temporary files, which is hidden in any case.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        environment = Environment(Path(folder), (Path(folder),))
        assert "cannot be read by the user hipedge" in environment.obstacle()
        Path(folder).chmod(0o755)
        assert environment.obstacle() is None


@needs_root
def test_without_the_rights_it_says_who_may(tmp_path):
    steps = plan_install(Environment.present(), tmp_path)
    os.seteuid(65534)
    try:
        with pytest.raises(InstallationError, match="only root may do this"):
            perform(steps)
    finally:
        os.seteuid(0)
    assert contents(tmp_path) == {}


def test_without_systemd_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert service("install", "--root", tmp_path) == 2
    assert "apt install systemd" in capsys.readouterr().err


@needs_root
def test_in_an_image_without_systemctl_the_rest_is_done_and_the_lack_is_said(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "bin").mkdir()
    for name in ("systemd-sysusers", "systemd-tmpfiles"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert service("install", "--root", tmp_path / "root") == 0
    assert "the services are not enabled  (there is no systemctl here)" in capsys.readouterr().out
    assert (tmp_path / "root/srv/hipedge/incoming").is_dir()


@needs_root
def test_a_command_of_systemd_that_fails_is_quoted(tmp_path, monkeypatch, capsys):
    (tmp_path / "bin").mkdir()
    for name in COMMANDS:
        (tmp_path / "bin" / name).symlink_to(shutil.which("false"))
    broken = tmp_path / "bin/systemd-tmpfiles"
    broken.unlink()
    broken.write_text("#!/bin/sh\necho no such user >&2\nexit 1\n")
    broken.chmod(0o755)
    (tmp_path / "bin/systemd-sysusers").unlink()
    (tmp_path / "bin/systemd-sysusers").symlink_to(shutil.which("true"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    assert service("install", "--root", tmp_path / "root") == 2
    assert re.search(r"systemd-tmpfiles --create .* failed: no such user", capsys.readouterr().err)


def test_an_environment_at_a_path_that_no_unit_can_name_is_refused(tmp_path):
    folder = tmp_path / "a b"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    script = "from hipedge.deploy import Environment; Environment.present()"
    places = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    command = [folder / "bin/python", "-c", script]
    options = {"env": {"PYTHONPATH": ":".join(places)}, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **options)
    assert "there is no command hipedge in" in done.stderr
    (folder / "bin/hipedge").touch()
    done = subprocess.run(command, check=False, **options)
    assert "systemd cannot start commands in" in done.stderr
