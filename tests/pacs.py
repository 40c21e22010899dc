"""Receivers of DICOM for tests: Orthanc, and dcmtk's storescp, on the loopback interface alone."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

# Neither program can be told on which address to listen. This bind(2) says so in their place.
LOOPBACK_SOURCE = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

int bind(int fd, const struct sockaddr *address, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    struct sockaddr_in6 copy;
    if (length > sizeof copy) return next(fd, address, length);
    memcpy(&copy, address, length);
    if (address->sa_family == AF_INET)
        ((struct sockaddr_in *)&copy)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (address->sa_family == AF_INET6)
        inet_pton(AF_INET6, "::ffff:127.0.0.1", &copy.sin6_addr);
    return next(fd, (struct sockaddr *)&copy, length);
}
"""
AE_TITLE = "PACS"


def need(*programs):
    for program in programs:
        if shutil.which(program) is None and not Path("/usr/sbin", program).exists():
            pytest.skip(f"no {program}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def on_loopback(tmp_path_factory):
    """The environment in which a server listens on 127.0.0.1, whatever it asks for."""
    return loopback_environment(tmp_path_factory.mktemp("loopback"))


def loopback_environment(folder):
    """Return that environment, with what it needs in a folder."""
    need("cc")
    source, library = folder / "loopback.c", folder / "loopback.so"
    source.write_text(LOOPBACK_SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


@contextlib.contextmanager
def running(command, environment, port, **options):
    """Run a server until the end of the block; it is up once its port can be connected to."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, f"{command[0]} has ended"
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


class Orthanc:
    """An Orthanc with DICOMweb, whose folder outlives it."""

    def __init__(self, folder, environment):
        need("Orthanc")
        self.folder, self.environment = folder, environment
        self.dicom_port, self.http_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.web = f"{self.url}/dicom-web"

    @contextlib.contextmanager
    def up(self, **configuration):
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "orthanc.json"
        file.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(self.folder / "storage"),
                    "IndexDirectory": str(self.folder / "storage"),
                    "HttpPort": self.http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomAet": AE_TITLE,
                    "DicomPort": self.dicom_port,
                    "Plugins": ["/usr/share/orthanc/plugins"],
                    "DicomWeb": {"Enable": True},
                    **configuration,
                }
            )
        )
        need("/usr/share/orthanc/plugins")
        command = ["/usr/sbin/Orthanc", str(file)]
        with (
            running(command, self.environment, self.http_port) as process,
            contextlib.ExitStack() as stack,
        ):
            deadline = time.monotonic() + 60
            while not self._answers():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            stack.callback(process.terminate)
            yield self

    def _answers(self):
        with contextlib.suppress(OSError):
            self.get("/system")
            return True
        return False

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.loads(answer.read())

    def instances(self):
        """The header of every instance, by the names of its attributes."""
        found = self.get("/instances")
        return [self.get(f"/instances/{name}/simplified-tags") for name in found]

    def classes(self):
        """The SOP Classes of all instances, sorted."""
        return sorted(instance["SOPClassUID"] for instance in self.instances())

    def add(self, file):
        """Put a file's bytes into the archive."""
        urllib.request.urlopen(f"{self.url}/instances", data=file, timeout=30).close()

    def delete(self, sop_instance_uid):
        for name in self.get("/instances"):
            if self.get(f"/instances/{name}/simplified-tags")["SOPInstanceUID"] == sop_instance_uid:
                request = urllib.request.Request(f"{self.url}/instances/{name}", method="DELETE")
                urllib.request.urlopen(request, timeout=30).close()


@pytest.fixture
def orthanc(tmp_path, on_loopback):
    with Orthanc(tmp_path / "orthanc", on_loopback).up() as server:
        yield server
