"""`hipedge doctor` on the machines that the settings name, as servers on loopback."""

import json
import socket
import socketserver
import ssl
import threading
import time
from email.utils import formatdate

import pytest
import trustme
from pynetdicom import AE

from hipedge.config import Settings
from hipedge.perf.peers import check_peers
from tests.loopback import Handler, LoopbackServer
from tests.watch.test_notify import Relay

VERIFICATION = "1.2.840.10008.1.1"


def checks(**settings):
    return {check.name: check for check in check_peers(Settings(**settings))}


@pytest.fixture
def pacs():
    """A PACS that knows the AE titles PACS and HIPEDGE, and its port."""
    entity = AE("PACS")
    entity.require_called_aet = True
    entity.require_calling_aet = ["HIPEDGE"]
    entity.add_supported_context(VERIFICATION)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    yield server.socket.getsockname()[1]
    server.shutdown()


def test_without_peers_nothing_is_contacted():
    assert checks() == {}


def test_a_pacs_that_answers_works(pacs):
    found = checks(pacs_host="127.0.0.1", pacs_port=pacs, pacs_ae_title="PACS")["PACS"]
    assert found.works is True
    assert found.found == f"PACS at 127.0.0.1, port {pacs} answers"


@pytest.mark.parametrize(
    "titles", [{"pacs_ae_title": "OTHER"}, {"pacs_calling_ae_title": "STRANGER"}]
)
def test_a_pacs_that_does_not_know_the_titles_is_told_apart(pacs, titles):
    settings = {"pacs_host": "127.0.0.1", "pacs_port": pacs, "pacs_ae_title": "PACS", **titles}
    found = checks(**settings)["PACS"]
    assert found.works is False
    assert found.required
    assert "check both AE titles" in found.found


def test_a_pacs_that_is_down_is_no_connection(free_port):
    found = checks(pacs_host="127.0.0.1", pacs_port=free_port)["PACS"]
    assert found.works is False
    assert "no connection: Connection refused" in found.found


def test_a_pacs_without_tls_where_the_settings_ask_for_it_does_not_work(pacs):
    found = checks(pacs_host="127.0.0.1", pacs_port=pacs, pacs_ae_title="PACS", pacs_tls=True)
    assert found["PACS"].works is False


def test_a_pacs_with_tls_is_asked_under_its_certificate(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    entity = AE("PACS")
    entity.add_supported_context(VERIFICATION)
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context)
    port = server.socket.getsockname()[1]
    settings = {"pacs_port": port, "pacs_ae_title": "PACS", "pacs_tls": True}
    try:
        known = {"pacs_host": "localhost", "pacs_tls_authorities": tmp_path / "ca.pem"}
        assert checks(**settings, **known)["PACS"].works is True
        assert checks(**settings, pacs_host="localhost")["PACS"].works is False
    finally:
        server.shutdown()


def test_what_speaks_no_dicom_is_no_pacs(monkeypatch):
    monkeypatch.setattr("hipedge.network.echo.TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        found = checks(pacs_host="127.0.0.1", pacs_port=mute.getsockname()[1])["PACS"]
    assert found.works is False


class Web(LoopbackServer):
    """A web server with one answer."""

    def __init__(self):
        super().__init__(Answer, "/base")
        self.status, self.body, self.offset_s = 200, b"", 0.0
        self.asked = []


class Answer(Handler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response_only(self.server.status)
        if self.server.offset_s is not None:
            self.send_header("Date", formatdate(time.time() + self.server.offset_s, usegmt=True))
        self.end_headers()
        self.wfile.write(self.server.body)


@pytest.fixture
def web():
    with Web() as server:
        yield server


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_dicomweb_server_is_asked_with_its_authorization(web, tmp_path):
    (tmp_path / "authorization").write_text("Bearer secret\n")
    settings = {"pacs_qido_url": web.url, "pacs_authorization_file": tmp_path / "authorization"}
    assert checks(**settings)["PACS, QIDO-RS"].works is True
    assert web.asked == [("/base/studies?limit=1", "Bearer secret")]
    web.status = 401
    refused = checks(**settings)["PACS, QIDO-RS"]
    assert refused.works is False
    assert "HTTP 401" in refused.found
    assert "secret" not in refused.found + refused.cure


@pytest.mark.parametrize(
    ("offset_s", "works", "found"),
    [
        (0, True, "agrees"),
        (50, True, "agrees"),
        (-600, False, r"s behind that of this machine"),
        (600, False, r"s ahead of that of this machine"),
    ],
)
def test_a_clock_that_is_off_by_more_than_a_minute_is_found(web, offset_s, works, found):
    web.offset_s = offset_s
    clock = checks(pacs_qido_url=web.url)["PACS, QIDO-RS, clock"]
    assert clock.works is works
    assert found in clock.found


def test_a_server_that_tells_no_time_is_not_compared(web):
    web.offset_s = None
    assert list(checks(pacs_qido_url=web.url)) == ["PACS, QIDO-RS"]


@pytest.mark.parametrize(
    ("body", "works"),
    [
        (json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}), True),
        (json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "4.3.0"}), True),
        (json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}), False),
        ("<html>a page to log in</html>", False),
        ("[]", False),
        ("", False),
    ],
)
def test_a_fhir_server_must_be_one_of_r4(web, body, works):
    web.body = body.encode()
    found = checks(fhir_url=web.url)["FHIR server"]
    assert found.works is works
    assert bool(found.cure) is not works
    assert web.asked == [("/base/metadata", None)]


@pytest.mark.parametrize("setting", ["pacs_stow_url", "webhook_url"])
def test_where_only_posting_is_allowed_any_answer_will_do(web, setting):
    web.status = 405
    (found, clock) = checks(**{setting: web.url}).values()
    assert found.works is True
    assert clock.works is True


def test_a_mail_relay_is_greeted_and_sent_nothing(free_port):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        relay.mails = []
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        settings = {"email_to": "a@b.org", "smtp": f"127.0.0.1:{relay.server_address[1]}"}
        assert checks(**settings)["mail relay"].works is True
        relay.shutdown()
    assert relay.mails == []
    silent = checks(email_to="a@b.org", smtp=f"127.0.0.1:{free_port}")["mail relay"]
    assert silent.works is False
    assert "Connection refused" in silent.found


@pytest.mark.parametrize("setting", ["pacs_stow_url", "pacs_qido_url", "webhook_url", "fhir_url"])
def test_a_server_that_is_down_is_named_with_its_error(free_port, setting):
    (found,) = checks(**{setting: f"http://127.0.0.1:{free_port}/base"}).values()
    assert found.works is False
    assert "Connection refused" in found.found
