"""`hipedge receive` as a process, the programs that talk to it, and PDUs made by hand."""

import contextlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hipedge.config import Settings
from hipedge.network.contexts import VERIFICATION
from hipedge.network.receive import receive
from hipedge.service_log import configure_logging
from tests.dicom.dicom_films import DX, EXPLICIT, IMPLICIT, after_file_meta

AE_TITLE = "HIPEDGE"
LINE = re.compile(r'[a-z_]+( [a-z_]+=("[\w.]*"|[\d.]+|true|false|null))*')


# pynetdicom installs programs of the names of dcmtk's beside Python's.
PATH = os.pathsep.join(
    folder for folder in os.get_exec_path() if not Path(folder).is_relative_to(sys.prefix)
)


def need(program):
    """Return the path of a program of the system; skip a test where it is not installed."""
    path = shutil.which(program, path=PATH)
    if path is None:
        pytest.skip(f"not installed: {program}")
    return path


class Node:
    """`hipedge receive` in a process of its own, with its spool and its log."""

    def __init__(self, folder, **settings):
        self.spool, self.log = folder / "spool", folder / "receive.log"
        self.spool.mkdir(exist_ok=True)
        self.settings = Settings(
            **{"receive_port": 0, "reserve_mb": 0, "receive_connections_per_s": 500.0, **settings}
        )

    @contextlib.contextmanager
    def running(self, fault=None, *arguments, ends=True):
        """Run it, with a fault injected before it starts, and end it by SIGTERM."""
        process = self.start(fault, *arguments)
        try:
            yield process
            if ends:
                os.kill(process.pid, signal.SIGTERM)
                process.join(40)
                assert process.exitcode == 0, self.log.read_text()
        finally:
            process.kill()
            process.join()

    def start(self, fault=None, *arguments):
        self.log.write_text("")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["hipedge.pipeline.screen", "hipedge.network.receive"])
        target = (self.spool, self.settings, self.log, fault, arguments)
        process = context.Process(target=serve, args=target)
        process.start()
        self.process = process
        self.wait(lambda: "listening" in self.log.read_text() or not process.is_alive())
        assert process.is_alive(), self.log.read_text()
        self.port = int(re.search(r"port=(\d+)", self.log.read_text())[1])
        return process

    def wait(self, condition, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    @property
    def films(self):
        return sorted(self.spool.glob("*.dcm"))

    @property
    def arriving(self):
        return [path for path in (self.spool / ".arriving").iterdir() if path.name != "lock"]

    def echo(self, *options):
        return dcmtk("echoscu", "-to", 10, *options, "-aec", AE_TITLE, "localhost", self.port)

    def store(self, *files, options=(), called=AE_TITLE):
        """Send files with storescu; return what it printed and its exit status."""
        return dcmtk("storescu", "-v", *options, "-aec", called, "localhost", self.port, *files)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def associate(self, **contexts):
        """Return a connection with an association of our own making; `contexts` as in `request`."""
        connection = self.connect()
        connection.sendall(request(**contexts))
        assert read_pdu(connection)[0] == ACCEPTED
        return connection

    def memory_kb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1])

    def threads(self):
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


def serve(spool, settings, log, fault, arguments):
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    configure_logging(10)
    if fault is not None:
        fault(*arguments)
    receive(spool, settings)


def limit_file_size(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def dcmtk(program, *arguments):
    command = [need(program), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=60, check=False
    )


# PDUs, PS3.8 9.3.

ASSOCIATE, ACCEPTED, REJECTED, DATA, RELEASE, RELEASED, ABORT = 1, 2, 3, 4, 5, 6, 7
LAST, COMMAND = 2, 1


def pdu(kind, body):
    return struct.pack(">BxI", kind, len(body)) + body


def item(kind, body):
    return struct.pack(">BxH", kind, len(body)) + body


def request(
    called=AE_TITLE, calling="STORESCU", contexts=((VERIFICATION, IMPLICIT), (DX, EXPLICIT))
):
    """Return an A-ASSOCIATE-RQ; the identifiers of its presentation contexts are 1, 3, …."""
    items = item(0x10, b"1.2.840.10008.3.1.1.1")
    for index, (abstract, transfer) in enumerate(contexts):
        syntaxes = item(0x30, abstract.encode()) + item(0x40, transfer.encode())
        items += item(0x20, bytes([2 * index + 1, 0, 0, 0]) + syntaxes)
    items += item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4"))
    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    return pdu(ASSOCIATE, struct.pack(">Hxx", 1) + titles + bytes(32) + items)


def fragment(context, flags, data):
    return pdu(DATA, struct.pack(">IBB", len(data) + 2, context, flags) + data)


def element(number, value):
    """Return an element of group 0000 in implicit little endian."""
    return struct.pack("<HHI", 0, number, len(value)) + value


def us(number, value):
    return element(number, struct.pack("<H", value))


def uid(number, value):
    data = value.encode()
    return element(number, data + b"\0" * (len(data) % 2))


def command(*elements):
    body = b"".join(elements)
    return element(0, struct.pack("<I", len(body))) + body


def store_command(instance, sop_class=DX, message=1):
    return command(
        uid(0x0002, sop_class),
        us(0x0100, 0x0001),
        us(0x0110, message),
        us(0x0700, 0),
        us(0x0800, 0x0001),
        uid(0x1000, instance),
    )


def echo_command(message=1):
    return command(
        uid(0x0002, VERIFICATION), us(0x0100, 0x0030), us(0x0110, message), us(0x0800, 0x0101)
    )


def store_pdus(film, instance, sop_class=DX, piece=16_000):
    """Return the PDUs of a C-STORE request on context 3."""
    data = film[after_file_meta(film) :]
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    pdus = [fragment(3, LAST | COMMAND, store_command(instance, sop_class))]
    pdus += [fragment(3, 0, one) for one in pieces[:-1]]
    return [*pdus, fragment(3, LAST, pieces[-1])]


def read_pdu(connection):
    """Return the kind and the body of the next PDU; (None, b"") where the connection ends."""
    try:
        head = connection.recv(6, socket.MSG_WAITALL)
        if len(head) < 6:
            return None, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, connection.recv(length, socket.MSG_WAITALL)
    except ConnectionError:
        return None, b""


def read_status(connection):
    """Return the status of the next response."""
    kind, body = read_pdu(connection)
    assert kind == DATA, kind
    at = body.index(struct.pack("<HHI", 0, 0x0900, 2))
    return struct.unpack_from("<H", body, at + 8)[0]
