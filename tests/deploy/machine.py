"""A machine with systemd, booted in namespaces over this one's files, which stay as they are."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

TOOLS = ("unshare", "nsenter", "systemd-nspawn", "pgrep")
# As sudo(8) sets it.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The root of the machine is this one's, with all changes in memory. It has no network but its own
# loopback, so that nothing would ever come online.
BOOT = """
set -e
mount -t tmpfs -o size=8g none "$1"
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/merged"
rm -f "$1/merged/etc/machine-id"
for unit in systemd-networkd-wait-online NetworkManager-wait-online; do
    ln -sf /dev/null "$1/merged/etc/systemd/system/$unit.service"
done
# The units' firewall (IPAddressDeny=) is made of BPF programs of cgroups v2.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe \
    --system-call-filter=bpf --capability=CAP_BPF,CAP_NET_ADMIN \
    --directory="$1/merged" --boot -- --unit=basic.target
"""


def skip_unless_possible():
    """Skip where no machine can be booted: it takes root, and systemd's container tools."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and systemd-container; missing: {missing}")


class Machine:
    """A booted machine; used as a context."""

    def __init__(self, folder):
        self._folder = folder
        self._log = folder / "console"

    def __enter__(self):
        target = self._folder / "machine"
        target.mkdir()
        with self._log.open("wb") as console:
            self._container = subprocess.Popen(
                ["unshare", "--mount", "bash", "-c", BOOT, "boot", target],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._init = self._wait_for_init()
        self.wait(lambda: self.run("systemctl", "is-system-running").stdout.strip() in UP)
        return self

    def __exit__(self, *_):
        os.kill(self._init, signal.SIGRTMIN + 4)  # systemd(1): power off
        try:
            self._container.wait(60)
        except subprocess.TimeoutExpired:
            self._container.kill()
            self._container.wait()

    def run(self, *command, timeout_s=300):
        """Run a command in the machine."""
        enter = ["nsenter", f"--target={self._init}", "--all", "--", *map(str, command)]
        environment = {"PATH": PATH, "COLUMNS": "200", "HOME": "/root"}
        return subprocess.run(
            enter, capture_output=True, text=True, env=environment, timeout=timeout_s, check=False
        )

    def check(self, *command):
        """Run a command that must succeed; return what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def path(self, inside):
        """Return where a file of the machine can be reached from here."""
        return Path(f"/proc/{self._init}/root") / inside.removeprefix("/")

    def wait(self, condition, timeout_s=90):
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self._log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.2)

    def _wait_for_init(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            command = ["pgrep", "--parent", str(self._container.pid)]
            found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            if found.strip():
                return int(found.split()[0])
            if self._container.poll() is not None:
                break
            time.sleep(0.1)
        self._container.kill()
        pytest.skip(f"no machine can be booted here: {self._log.read_text()[-500:]}")


# What `systemctl is-system-running` says at the end of the boot, with other units failed or not.
UP = ("running", "degraded")
