"""Promise 17: hipedge contacts nobody, and writes only where its documentation says."""

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.watch.clinic import ROOT_UID, SIZE_PX, dicom

TIMEOUT_S = 90
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
LOOPBACK = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"')
# Calls that may create or change a file, and the calls that reach a network.
FILE_CALLS = (
    "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"
)
NETWORK_CALLS = "connect,sendto,sendmsg,sendmmsg"


class Trace:
    """What a command and all its child processes did, as strace(1) has recorded it."""

    def __init__(self, folder):
        texts = [path.read_text(errors="replace") for path in folder.glob("calls.*")]
        self.calls = [line for text in texts for line in text.splitlines()]
        self.folder = folder

    @property
    def contacts(self):
        """Calls to an address that is neither of this machine nor of a socket file."""
        sent = [c for c in self.calls if c.split("(")[0] in NETWORK_CALLS.split(",")]
        return [c for c in sent if "sa_family=AF_INET" in c and not LOOPBACK.search(c)]

    @property
    def name_lookups(self):
        """The C library reads resolv.conf before it looks a name up, even where that then fails."""
        return [c for c in self.calls if '"/etc/resolv.conf"' in c or "sin_port=htons(53)" in c]

    @property
    def written(self):
        """The files that were opened for writing, made or renamed."""
        paths = set()
        for call in self.calls:
            name, _, rest = call.partition("(")
            is_open = name in ("open", "openat")
            if name not in FILE_CALLS.split(",") or " = -1 " in call:
                continue
            if not is_open or WRITES.search(rest):
                paths.update(re.findall(r'"([^"]+)"', rest))
        return {self.folder / path for path in paths}


@pytest.fixture
def tmp_path(tmp_path_factory):
    """A folder with a short name: the path of a socket in it has at most 107 bytes."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def traced(tmp_path):
    """Start commands under strace, in an empty home folder, and a temporary folder."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here: apt install strace")
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    unset = ("XDG_", "CI", "ORT_", "HF_", "DO_NOT_TRACK", "OMP_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
    environment |= {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def start(*command, **variables):
        calls = f"trace={FILE_CALLS},{NETWORK_CALLS}"
        tracer = ["strace", "-ff", "-qq", "-s4096", "-e", calls, "-o", tmp_path / "calls"]
        return subprocess.Popen(
            [*tracer, sys.executable, *map(str, command)],
            cwd=tmp_path,
            env=environment | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def incoming(tmp_path):
    """One film whose hip is given in hips.csv, and one whose hips the locator must look for."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.dcm").write_bytes(dicom(number))
    (tmp_path / "hips.csv").write_text(
        f"sop_instance_uid,side,x0,y0,x1,y1\n{ROOT_UID}.1,right,0,0,{SIZE_PX},{SIZE_PX}\n"
    )
    return folder


def assert_nothing_left(folder, database):
    trace = Trace(folder)
    assert any("incoming/1.dcm" in call for call in trace.calls), "nothing was traced"
    assert trace.contacts == []
    assert trace.name_lookups == []
    home = folder / "home"
    allowed = (database.parent, folder / "tmp", home / ".cache" / "hipedge")
    strangers = {
        path
        for path in trace.written
        if not any(path.is_relative_to(one) for one in allowed)
        and path not in (Path("/dev/null"), home / ".cache")
    }
    assert strangers == set()
    found = {path.relative_to(home).parts[:2] for path in home.rglob("*") if path.is_file()}
    assert found <= {(".cache", "hipedge")}


@pytest.mark.promise(17)
@pytest.mark.parametrize(
    "backend", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_screen_contacts_nobody_and_writes_only_where_documented(
    tmp_path, traced, incoming, backend
):
    pytest.importorskip(backend)
    database = tmp_path / "results" / "cases.db"
    database.parent.mkdir()
    screen = ("-m", "hipedge", "screen", incoming, "--db", database, "--backend", backend)
    process = traced(*screen, "--hips", tmp_path / "hips.csv", "--workers", 1)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    assert states(database) == ["not_applicable", "screened"]
    assert_nothing_left(tmp_path, database)


@pytest.mark.promise(17)
@pytest.mark.parametrize(
    "backend", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_watch_contacts_nobody_and_writes_only_where_documented(
    tmp_path, traced, incoming, free_port, backend
):
    pytest.importorskip(backend)
    database = tmp_path / "results" / "cases.db"
    database.parent.mkdir()
    process = traced(
        *("-m", "hipedge", "watch", incoming, "--db", database, "--hips", tmp_path / "hips.csv"),
        HIPEDGE_BACKEND=backend,
        HIPEDGE_METRICS_PORT=str(free_port),
        HIPEDGE_SETTLE_S="0.1",
        HIPEDGE_WORKERS="1",
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while states(database) != ["not_applicable", "screened"] and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.2)
        (service,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(service), signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.wait()
    assert states(database) == ["not_applicable", "screened"]
    assert_nothing_left(tmp_path, database)


def states(database):
    """The states of the files that have come to an end, in alphabetical order."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            return [row[0] for row in opened.execute("select state from paths order by state")]
    except sqlite3.OperationalError:  # not made yet
        return []


def test_the_trace_shows_contacts_look_ups_and_files(tmp_path, traced):
    """The checks above can fail: a program that does all of it is caught."""
    program = (
        "import pathlib, socket\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
        "pathlib.Path.home().joinpath('identifier').touch()\n"
        "try: socket.getaddrinfo('host.invalid', 80)\n"
        "except socket.gaierror: pass\n"
    )
    process = traced("-c", program)
    assert process.wait(TIMEOUT_S) == 0
    process.stderr.close()
    trace = Trace(tmp_path)
    assert any("192.0.2.1" in contact for contact in trace.contacts)
    assert not any("127.0.0.1" in contact for contact in trace.contacts)
    assert trace.name_lookups
    assert tmp_path / "home" / "identifier" in trace.written


@pytest.mark.promise(17)
def test_the_opt_out_holds_in_a_process_that_asked_for_telemetry(tmp_path):
    """Also where the environment says otherwise, and in processes that are started from there."""
    program = (
        "import os, hipedge, subprocess, sys\n"
        "said = 'import os; print(os.environ[\"ORT_DISABLE_TELEMETRY\"])'\n"
        "subprocess.run([sys.executable, '-c', said], check=True)\n"
    )
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


@pytest.mark.promise(17)
def test_the_metrics_page_is_served_without_a_look_up_of_the_host_name(free_port, monkeypatch):
    pytest.importorskip("prometheus_client")
    from hipedge.watch.alarms import Alarms
    from hipedge.watch.metrics import ServiceCounters, metrics_server

    def refuse(*_):
        raise AssertionError("the name of the host was looked up")

    monkeypatch.setattr(socket, "getfqdn", refuse)
    monkeypatch.setattr(socket, "gethostbyaddr", refuse)
    with metrics_server(ServiceCounters(Alarms(), 60.0), free_port) as server:
        assert server.port == free_port
