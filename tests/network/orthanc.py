"""Orthanc on this machine alone, with DICOMweb, as the PACS of a test."""

import contextlib
import json
import socket
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.network.loopback import on_loopback
from tests.network.node import need

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    """An Orthanc with its storage in a folder; its ports are on the loopback address only."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.program = need("Orthanc")
        if not PLUGIN.exists():
            pytest.skip("not installed: orthanc-dicomweb")
        folder.mkdir()
        self.http, self.dicom = free_port(), free_port()
        self.settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomServerEnabled": True,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **settings,
        }

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http}"

    @property
    def dicomweb(self):
        return f"{self.url}/dicom-web"

    @contextlib.contextmanager
    def running(self):
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(self.settings))
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [self.program, config], stdout=log, stderr=log, env=on_loopback()
            )
        try:
            self._wait_until_up(process)
            yield self
        finally:
            process.terminate()
            process.wait(20)

    def _wait_until_up(self, process):
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{self.url}/system", timeout=5).raise_for_status()
                return
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def add(self, data):
        """Put a file into the archive."""
        requests.post(f"{self.url}/instances", data=data, timeout=20).raise_for_status()

    def get(self, path):
        answer = requests.get(f"{self.url}{path}", timeout=20)
        answer.raise_for_status()
        return answer.json()

    def remove(self, sop_instance_uid):
        """Remove an instance from the archive."""
        found = requests.post(f"{self.url}/tools/lookup", data=sop_instance_uid, timeout=20).json()
        for one in found:
            requests.delete(self.url + one["Path"], timeout=20).raise_for_status()
