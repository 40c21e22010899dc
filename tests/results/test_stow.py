"""What a STOW-RS or QIDO-RS service may answer, and what follows from it."""

import json
import ssl
import time

import pytest
import trustme

from hipedge.config import Settings
from hipedge.network.sending import Interrupted, Rejected, Unreachable
from hipedge.network.stow import QidoServer, StowServer
from hipedge.store.outbox import Outbox, ResultPolicy
from hipedge.store.store import Store
from hipedge.types import Category
from tests.loopback import Handler, LoopbackServer
from tests.results.recorded import record, scored
from tests.results.test_delivery import Clock, dispatcher
from tests.results.test_objects import Kind, build

JSON = "application/dicom+json"
UID = {"00081155": {"vr": "UI", "Value": ["1.2.3"]}}


def failed(reason):
    return {
        "00081198": {"vr": "SQ", "Value": [{**UID, "00081197": {"vr": "US", "Value": [reason]}}]}
    }


def stored(warning=None):
    item = dict(UID)
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    return {"00081199": {"vr": "SQ", "Value": [item]}}


class Service(LoopbackServer):
    """A service on loopback with one scripted answer: (status, body, content type)."""

    def __init__(self):
        super().__init__(Answer, "/web")
        self.answers, self.requests, self.headers = [], [], []


class Answer(Handler):
    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.server.requests.append(self.path)
        self.server.headers.append(dict(self.headers))
        status, body, content_type = self.server.answers.pop(0)
        if status == "hang":
            time.sleep(1.5)
            return
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET = answer


@pytest.fixture
def service():
    with Service() as server:
        yield server


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cases.db") as opened:
        yield opened


@pytest.fixture
def result(store, tmp_path):
    return build(record(store, tmp_path), Kind.KEY_OBJECTS)


def send(service, result, *answer):
    service.answers = [answer]
    server = StowServer(service.url, "Bearer token", answer_timeout_s=0.5)
    with server.session() as session:
        assert session.accepts("1.2.3")
        return session.store(result)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((200, stored(), JSON), 0),
        ((202, stored(0xB000), JSON), 0xB000),
        ((409, failed(0x0111), JSON), 0x0111),
        ((200, b"", JSON), 0),
        ((200, stored(), f"{JSON}; charset=utf-8"), 0),
    ],
)
def test_an_object_that_is_stored_is_accepted(service, result, answer, status):
    assert send(service, result, *answer) == status
    (headers,) = service.headers
    assert headers["Authorization"] == "Bearer token"
    assert "chunked" not in headers.values()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((409, failed(0x0122), JSON), Rejected),
        ((409, failed(0xA900), JSON), Rejected),
        ((200, failed(0xC122), JSON), Rejected),
        ((409, b"what?", "text/plain"), Rejected),
        ((400, b"", JSON), Rejected),
        ((415, b"", JSON), Rejected),
        ((409, failed(0xA700), JSON), Unreachable),
        ((401, b"", JSON), Unreachable),
        ((404, b"", JSON), Unreachable),
        ((500, b"", JSON), Unreachable),
        ((503, b"", JSON), Unreachable),
        ((200, b"what?", JSON), Interrupted),
        (("hang", b"", JSON), Interrupted),
    ],
)
def test_each_failure_is_told_apart(service, result, answer, error):
    with pytest.raises(error):
        send(service, result, *answer)
    assert len(service.requests) == 1  # it is repeated by the outbox alone


@pytest.mark.parametrize(
    ("answer", "there"),
    [
        ((200, [{"00080018": {"vr": "UI", "Value": ["1.4"]}}], JSON), True),
        ((200, [], JSON), False),
        ((204, b"", JSON), False),
        ((404, b"", JSON), False),
    ],
)
def test_what_the_receiver_has_is_asked_by_instance(service, answer, there):
    service.answers = [answer]
    assert QidoServer(service.url).has("1.2", "1.3", "1.4") is there
    (path,) = service.requests
    assert path.startswith("/web/studies/1.2/series/1.3/instances?")
    assert "1.4" in path


@pytest.mark.parametrize("answer", [(500, b"", JSON), (200, b"what?", JSON), (401, b"", JSON)])
def test_no_answer_is_not_a_loss(service, answer):
    service.answers = [answer]
    with pytest.raises(Unreachable):
        QidoServer(service.url).has("1.2", "1.3", "1.4")


def test_a_service_that_refuses_3d_reports_gets_comprehensive_ones(service, store, tmp_path):
    record(store, tmp_path, scored(Category.NORMAL), policy=ResultPolicy(("pacs-web",), True))
    service.answers = [(409, failed(0x0122), JSON), (200, stored(), JSON)]
    dispatcher(store, Settings(results=("sr",), pacs_stow_url=service.url), Clock()).dispatch()
    assert Outbox(store).waiting() == {}
    (row,) = store.query("select sop_class_uid from deliveries")
    assert row["sop_class_uid"] == Kind.STRUCTURED_REPORT.classes[1]


def test_a_service_of_the_sites_own_authority_is_trusted_and_no_other(result, tmp_path):
    authority = trustme.CA()
    known, unknown = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(known)
    trustme.CA().cert_pem.write_to_path(unknown)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with Service() as service:
        service.socket = context.wrap_socket(service.socket, server_side=True)
        service.answers = [(200, stored(), JSON)]
        url = service.url.replace("http://127.0.0.1", "https://localhost")
        with StowServer(url, authorities=unknown).session() as s, pytest.raises(Unreachable):
            s.store(result)
        with StowServer(url, authorities=known).session() as s:
            assert s.store(result) == 0
