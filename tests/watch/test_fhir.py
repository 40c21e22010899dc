"""Promise 13 for FHIR: each message becomes one valid Communication, whatever the server does."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fhir.resources.R4B.communication import Communication

from hipedge.config import Settings
from hipedge.errors import ConfigError
from hipedge.rules.decide import HARDWARE_NOTE
from hipedge.store.outbox import Outbox
from hipedge.store.store import Store
from hipedge.types import CATEGORIES, HARDWARE, Category, Mark, Side
from hipedge.watch.fhir import communication
from hipedge.watch.notify import Dispatcher, Fhir, channels_of, compose
from tests.builders import RULE, film, scored_hip, screened
from tests.loopback import Handler, LoopbackServer
from tests.store.test_store import start
from tests.watch.clinic import dicom

NONE = Path("/no/such/file")
URGENT, ROUTINE = Category.FEMORAL_NECK_FRACTURE, Category.OSTEOARTHRITIS
# Value sets that bind as required in R4, and which the library does not check.
EVENT_STATUS = {"preparation", "in-progress", "not-done", "on-hold", "stopped", "completed"}
REQUEST_PRIORITY = {"routine", "urgent", "asap", "stat"}
DEVICE_NAME_TYPE = {"udi-label-name", "user-friendly-name", "model-name", "other"}


def validate(resource):
    """Fail if a resource is no Communication of FHIR R4, which in R4B is the same."""
    Communication.model_validate(resource)
    assert resource["status"] in EVENT_STATUS
    assert resource["priority"] in REQUEST_PRIORITY
    (device,) = resource["contained"]
    assert {name["type"] for name in device["deviceName"]} <= DEVICE_NAME_TYPE
    assert resource["sender"]["reference"] == f"#{device['id']}"


class FhirServer(LoopbackServer):
    """A FHIR server that takes Communications under their clients' ids, with scripted behaviour."""

    def __init__(self):
        super().__init__(Answer, "/fhir/r4")
        self.behaviours, self.attempts = [], []
        self.resources = {}


class Answer(Handler):
    def do_PUT(self):
        resource = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else None
        self.server.attempts.append((behaviour, dict(self.headers)))
        if behaviour == "drop":
            return
        if behaviour == "hang":
            time.sleep(1.0)
            return
        if behaviour in (None, "late"):
            assert self.headers["Content-Type"] == "application/fhir+json"
            assert self.path == f"/fhir/r4/Communication/{resource['id']}"
            validate(resource)
            known = self.server.resources.setdefault(resource["id"], resource)
            assert known == resource, "a repetition must change nothing"
            if behaviour == "late":
                time.sleep(1.0)
            behaviour = 201
        self.send_response(behaviour)
        self.end_headers()


@pytest.fixture
def server():
    with FhirServer() as opened:
        yield opened


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cases.db") as opened:
        yield opened


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def record(store, *cases, rule=RULE):
    store.record(start(store), cases, rule, ["fhir"])


def cases_of(*categories):
    return [
        screened(film(f"{n}-{category.value}", uid=f"1.2.{n}"), scored_hip(category))
        for n, category in enumerate(categories)
    ]


def dispatcher(store, channel, clock, *, patient_data=False):
    return Dispatcher(store, [channel], patient_data=patient_data, clock=clock)


@pytest.mark.promise(13)
def test_an_hour_of_outage_delays_and_loses_nothing_and_a_repetition_changes_nothing(store, server):
    record(store, *cases_of(ROUTINE, Category.NORMAL, ROUTINE, URGENT))
    channel, clock = Fhir(server.url, timeout_s=0.3), Clock()
    notifier = dispatcher(store, channel, clock)
    server.behaviours = [500, 503, "hang", 404, 422, 401, "drop", 302] * 1000
    while clock.now < 3600:
        notifier.dispatch()
        assert notifier.failing
        clock.now += 10
    assert len(server.attempts) < 200  # a server that is down is not hammered
    assert server.resources == {}
    server.behaviours = ["late", "late", "late"]  # it arrives, and the answer comes too late
    while Outbox(store).waiting():
        notifier.dispatch()
        clock.now += 400
    priorities = [resource["priority"] for resource in server.resources.values()]
    assert priorities == ["urgent", "routine", "routine"]
    assert [way for way, _ in server.attempts][-6:].count("late") == 3
    assert not notifier.failing


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("category", [c for c in CATEGORIES if c is not Category.NORMAL])
def test_a_message_of_any_finding_is_a_valid_resource_in_words(store, category, side):
    marks = [Mark.SIDE_UNCLEAR] if side is Side.UNKNOWN else []
    rule = replace(RULE, flag_hardware=True)
    case = screened(film(uid="1.2.3"), scored_hip(category, side), rule=rule, marks=marks)
    record(store, case, rule=rule)
    (message,) = Outbox(store).pending("fhir", 10)
    body = compose(store.case(message.file_id, message.rule_id), message, patient_data=False)
    resource = communication(message.key, body)
    validate(resource)
    assert resource["id"] == message.key
    texts = [part["contentString"] for part in resource["payload"]]
    assert texts[0].startswith("Research use only: not a medical device. Case 1, recorded 20")
    assert category.value.replace("_", " ") in texts[1]
    assert ("hip of unknown side" if side is Side.UNKNOWN else f"{side.value} hip") in texts[1]
    assert (texts[-1] == "marked: side unclear") == bool(marks)
    assert (resource["priority"] == "urgent") == category.is_acute_fracture
    assert (HARDWARE_NOTE in texts[1]) == (category in HARDWARE)


def test_a_hip_that_is_flagged_as_uncertain_is_described_so(store):
    record(store, screened(film(uid="1.2.3"), scored_hip(Category.NORMAL, sure=0.1)))
    (message,) = Outbox(store).pending("fhir", 10)
    body = compose(store.case(message.file_id, message.rule_id), message, patient_data=False)
    resource = communication(message.key, body)
    validate(resource)
    assert "uncertain, most likely normal" in resource["payload"][1]["contentString"]


def test_no_patient_and_no_film_is_named(store, server):
    record(store, *cases_of(URGENT))
    dispatcher(store, Fhir(server.url), Clock()).dispatch()
    (resource,) = server.resources.values()
    assert "about" not in resource
    assert "subject" not in resource
    assert "1.2.0" not in json.dumps(resource)
    assert "/in/" not in json.dumps(resource)


def test_a_site_may_have_the_uids_told(store, server):
    record(store, screened(film(uid="1.2.3", study_instance_uid="1.2.9"), scored_hip(URGENT)))
    dispatcher(store, Fhir(server.url), Clock(), patient_data=True).dispatch()
    (resource,) = server.resources.values()
    study, instance = resource["about"]
    assert study["type"] == "ImagingStudy"
    assert study["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.9"}
    assert instance["identifier"]["value"] == "urn:oid:1.2.3"
    assert "subject" not in resource


@pytest.mark.parametrize("uid", ["../../x", "1.2.03", "1", "9.2.3", "1.2.\n3", None])
def test_what_is_no_uid_is_not_told_as_one(store, server, uid):
    record(store, screened(film(uid=uid, study_instance_uid=uid), scored_hip(URGENT)))
    dispatcher(store, Fhir(server.url), Clock(), patient_data=True).dispatch()
    (resource,) = server.resources.values()
    assert "about" not in resource


def test_a_token_that_another_program_renews_is_read_anew(store, server, tmp_path, caplog):
    token = tmp_path / "token"
    token.write_text("first-token\n")
    (channel,) = channels_of(Settings(fhir_url=server.url, fhir_token_file=token))
    clock = Clock()
    notifier = dispatcher(store, channel, clock)
    server.behaviours = [401]
    record(store, *cases_of(URGENT))
    notifier.dispatch()
    token.unlink()
    clock.now += 10
    notifier.dispatch()
    assert len(server.attempts) == 1  # without a token nothing is sent
    token.write_text("second.token==")
    clock.now += 10
    notifier.dispatch()
    assert [headers.get("Authorization") for _, headers in server.attempts] == [
        "Bearer first-token",
        "Bearer second.token==",
    ]
    assert len(server.resources) == 1
    assert [entry.fields["reason"] for entry in caplog.records] == [
        "HTTP 401",
        "the token cannot be read",
    ]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"fhir_url": "http://fhir.example.org/r4"}, "fhir_url must begin with https://"),
        ({"fhir_url": "https://fhir.example.org/r4?a=1"}, "without \\? and #"),
        ({"fhir_url": "https://fhir.example.org/r4#a"}, "without \\? and #"),
        (
            {"fhir_url": "https://example.org", "fhir_token_file": Path("/no/such")},
            "cannot be read",
        ),
    ],
)
def test_half_a_channel_is_an_error_at_the_start(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        channels_of(Settings(**settings))


@pytest.mark.parametrize("text", ["", "two tokens", "a\nHost: b", "t=oken", "tokén"])
def test_what_is_no_token_is_an_error_at_the_start(tmp_path, text):
    (tmp_path / "token").write_text(text)
    settings = Settings(fhir_url="https://example.org", fhir_token_file=tmp_path / "token")
    with pytest.raises(ConfigError, match=r"bearer token|cannot be read"):
        channels_of(settings)


def test_a_slash_at_the_end_of_the_base_url_does_not_matter(store, server):
    record(store, *cases_of(URGENT))
    (channel,) = channels_of(Settings(fhir_url=f"{server.url}/"))
    dispatcher(store, channel, Clock()).dispatch()
    assert len(server.resources) == 1


def test_the_service_tells_a_fhir_server_of_a_flagged_film(new_clinic, server):
    clinic = new_clinic(fhir_url=server.url)
    server.behaviours = [503]
    clinic.drop("film.dcm", dicom(1, URGENT))
    with clinic.service():
        clinic.wait_for(1)
        clinic.wait(lambda: len(server.resources) == 1)
    (resource,) = server.resources.values()
    assert "femoral neck fracture" in resource["payload"][1]["contentString"]
