"""Promise 13: an outage of a channel delays messages and loses none, the most urgent first."""

import base64
import hashlib
import hmac
import json
import os
import socket
import socketserver
import ssl
import threading
import time
import urllib.request
from functools import partial

import pytest
import trustme

from hipedge.config import Settings
from hipedge.errors import ConfigError, StoreUnavailable
from hipedge.store.outbox import Outbox
from hipedge.store.store import Store
from hipedge.types import Category, Side
from hipedge.watch import notify
from hipedge.watch.notify import (
    DeliveryError,
    Dispatcher,
    Mail,
    Notifier,
    Spool,
    Webhook,
    channels_of,
)
from tests.builders import RULE, film, scored_hip, screened
from tests.loopback import Handler, LoopbackServer
from tests.store.test_store import start
from tests.watch.clinic import dicom

SECRET = b"a secret of the site"
URGENT, ROUTINE = Category.FEMORAL_NECK_FRACTURE, Category.OSTEOARTHRITIS


class Receiver(LoopbackServer):
    """A webhook on loopback with scripted behaviour, which recognises repetitions by their key."""

    def __init__(self):
        super().__init__(Answer, "/hook?site=1")
        self.behaviours = []
        self.refused = frozenset()  # cases that it takes no message of
        self.attempts, self.paths = [], []
        self.cases = {}


class Answer(Handler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        behaviour = server.behaviours.pop(0) if server.behaviours else 200
        if json.loads(body)["case"] in server.refused:
            behaviour = 409
        server.attempts.append((behaviour, dict(self.headers), body))
        server.paths.append(self.path)
        if behaviour == "hang":
            time.sleep(1.0)
            return
        if behaviour == "late":
            server.cases.setdefault(self.headers["Idempotency-Key"], json.loads(body))
            time.sleep(1.0)
            behaviour = 200
        elif behaviour == 200:
            server.cases.setdefault(self.headers["Idempotency-Key"], json.loads(body))
        self.send_response(behaviour)
        self.end_headers()


@pytest.fixture
def receiver():
    with Receiver() as server:
        yield server


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cases.db") as opened:
        yield opened


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def record(store, *categories, channels=("webhook",)):
    run = start(store)
    cases = [
        screened(film(f"{n}-{category.value}", uid=f"1.2.{n}"), scored_hip(category))
        for n, category in enumerate(categories)
    ]
    store.record(run, cases, RULE, channels)


def dispatcher(store, channel, clock):
    return Dispatcher(store, [channel], patient_data=False, clock=clock)


@pytest.mark.promise(13)
def test_an_hour_of_outage_delays_and_loses_nothing_and_the_most_urgent_comes_first(
    store, receiver
):
    record(store, ROUTINE, Category.NORMAL, ROUTINE, URGENT)
    channel, clock = Webhook(receiver.url, SECRET, timeout_s=0.3), Clock()
    notifier = dispatcher(store, channel, clock)
    receiver.behaviours = [500, 503, "hang", 404] * 1000
    while clock.now < 3600:
        notifier.dispatch()
        assert notifier.failing
        clock.now += 10
    assert len(receiver.attempts) < 200  # an endpoint that is down is not hammered
    assert receiver.cases == {}
    receiver.behaviours = ["late", "late", "late"]  # it arrives, and the answer comes too late
    while Outbox(store).waiting():
        notifier.dispatch()
        clock.now += 400
    arrived = [case["priority"] for case in receiver.cases.values()]
    assert arrived == ["urgent", "routine", "routine"]
    late = [headers["Idempotency-Key"] for way, headers, _ in receiver.attempts if way == "late"]
    again = [headers["Idempotency-Key"] for way, headers, _ in receiver.attempts if way == 200]
    assert sorted(late) == sorted(again)  # delivered twice, by keys that make it once
    assert not notifier.failing


@pytest.mark.promise(13)
def test_what_is_delivered_is_signed_and_names_no_patient(store, receiver):
    record(store, URGENT)
    dispatcher(store, Webhook(receiver.url, SECRET), Clock()).dispatch()
    ((_, headers, body),) = receiver.attempts
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert b"1.2.0" not in body
    assert b"/in/" not in body


def test_a_site_may_have_paths_and_uids_told(store, receiver):
    record(store, URGENT)
    Dispatcher(store, [Webhook(receiver.url, SECRET)], patient_data=True).dispatch()
    (case,) = receiver.cases.values()
    assert case["sop_instance_uid"] == "1.2.0"
    assert case["path"].startswith("/in/")


def test_a_redirect_is_a_failure_and_not_followed(store, receiver):
    record(store, URGENT)
    receiver.behaviours = [302]
    dispatcher(store, Webhook(receiver.url, SECRET), Clock()).dispatch()
    assert len(receiver.attempts) == 1
    assert Outbox(store).waiting() == {"webhook": 1}


@pytest.mark.parametrize(("path", "target"), [("", "/"), ("?a=1", "/?a=1"), ("/b?a=1", "/b?a=1")])
def test_a_webhook_is_called_by_its_path_and_query(store, receiver, path, target):
    record(store, URGENT)
    base = receiver.url.removesuffix("/hook?site=1")
    dispatcher(store, Webhook(base + path, SECRET), Clock()).dispatch()
    assert receiver.paths == [target]


def test_a_webhook_that_refuses_connections_is_named_by_its_error(store, free_port, caplog):
    record(store, URGENT)
    webhook = Webhook(f"http://127.0.0.1:{free_port}/", SECRET)
    dispatcher(store, webhook, Clock()).dispatch()
    (logged,) = caplog.records
    assert logged.fields == {"channel": "webhook", "reason": "ConnectionRefusedError"}


def test_a_channel_without_messages_does_not_fail(store, receiver):
    notifier = dispatcher(store, Webhook(receiver.url, SECRET), Clock())
    notifier.dispatch()
    assert not notifier.failing
    record(store, URGENT)
    notifier.dispatch()
    assert len(receiver.cases) == 1


@pytest.mark.parametrize(
    ("behaviours", "attempts"),
    [([500, 500, 200, 500], 4), ([200, 500] * 5, 10), ([500] * 10, 6), ([200] + [500] * 9, 7)],
)
def test_a_round_ends_after_three_failures_in_a_row_and_three_of_the_least_tried(
    store, receiver, behaviours, attempts
):
    record(store, *[ROUTINE] * len(behaviours))
    receiver.behaviours = list(behaviours)
    dispatcher(store, Webhook(receiver.url, SECRET), Clock()).dispatch()
    assert len(receiver.attempts) == attempts


def test_a_database_error_while_a_message_is_composed_is_no_failed_delivery(
    store, receiver, monkeypatch
):
    record(store, URGENT)

    def fail(*_):
        raise StoreUnavailable("disk I/O error")

    monkeypatch.setattr(store, "case", fail)
    notifier = dispatcher(store, Webhook(receiver.url, SECRET), Clock())
    with pytest.raises(StoreUnavailable):
        notifier.dispatch()
    assert not notifier.failing
    assert receiver.attempts == []
    assert Outbox(store).waiting() == {"webhook": 1}


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://localhost:9/x", True),
        ("http://127.0.0.1/x", True),
        ("http://[::1]/x", True),
        ("ftp://localhost/x", False),
        ("http://192.0.2.1/x", False),
        ("http://localhost.example.org/x", False),
    ],
)
def test_only_this_machine_is_called_without_encryption(tmp_path, url, allowed):
    secret = tmp_path / "secret"
    secret.write_text("a secret of the site")
    settings = Settings(webhook_url=url, webhook_secret_file=secret)
    if allowed:
        assert channels_of(settings) == [Webhook(url, b"a secret of the site")]
    else:
        with pytest.raises(ConfigError, match="https://"):
            channels_of(settings)


@pytest.mark.parametrize(("status", "waiting"), [(200, {}), (299, {}), (300, {"webhook": 1})])
def test_only_an_answer_of_success_is_a_delivery(store, receiver, status, waiting):
    record(store, URGENT)
    receiver.behaviours = [status]
    dispatcher(store, Webhook(receiver.url, SECRET), Clock()).dispatch()
    assert Outbox(store).waiting() == waiting


def test_a_channel_is_left_alone_twice_as_long_after_each_failure_until_it_works(store, receiver):
    clock = Clock()
    notifier = dispatcher(store, Webhook(receiver.url, SECRET), clock)
    moments = []

    def attempt(*behaviours):
        """Let time pass until each behaviour was met; return how long that took each time."""
        receiver.behaviours = list(behaviours)
        for _ in behaviours:
            so_far, begin = len(receiver.attempts), clock.now
            while len(receiver.attempts) == so_far:
                clock.now += 1
                notifier.dispatch()
            moments.append(clock.now - begin)

    record(store, URGENT)
    attempt(*[500] * 11)
    assert notifier.failing
    assert moments == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    attempt(200)
    assert not notifier.failing
    store.record(
        start(store), [screened(film("new", uid="1.9"), scored_hip(URGENT))], RULE, ["webhook"]
    )
    moments.clear()
    attempt(500, 500, 500)
    assert moments == [1, 2, 4]


@pytest.mark.parametrize(("name", "cases"), [("localhost", 1), ("other.example.org", 0)])
def test_a_webhook_by_https_must_have_a_certificate_of_its_name(
    store, receiver, monkeypatch, tmp_path, name, cases
):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    record(store, URGENT)
    url = receiver.url.replace("http://127.0.0.1", "https://localhost")
    dispatcher(store, Webhook(url, SECRET, timeout_s=5.0), Clock()).dispatch()
    assert len(receiver.cases) == cases


def test_a_message_that_is_always_refused_does_not_keep_the_others_back(store, receiver):
    record(store, URGENT, ROUTINE)
    receiver.behaviours = [400]
    dispatcher(store, Webhook(receiver.url, SECRET), Clock()).dispatch()
    assert [case["priority"] for case in receiver.cases.values()] == ["routine"]
    assert Outbox(store).waiting() == {"webhook": 1}


@pytest.mark.promise(13)
@pytest.mark.parametrize("refused", [3, 10, 60])
def test_messages_that_are_always_refused_keep_no_other_back(store, receiver, refused):
    record(store, *[URGENT] * refused, ROUTINE, ROUTINE, URGENT)
    receiver.refused = range(1, refused + 1)
    clock = Clock()
    notifier = dispatcher(store, Webhook(receiver.url, SECRET), clock)
    while len(receiver.cases) < 3:
        notifier.dispatch()
        clock.now += 10
        assert clock.now < 2 * 3600
    for _ in range(360):
        notifier.dispatch()
        clock.now += 10
    assert Outbox(store).waiting() == {"webhook": refused}
    so_far = len(receiver.attempts)
    for _ in range(360):
        notifier.dispatch()
        clock.now += 10
    assert len(receiver.attempts) - so_far < 100  # they are not hammered with
    assert notifier.failing


@pytest.mark.promise(13)
def test_a_new_urgent_message_goes_before_those_that_are_always_refused(store, receiver):
    record(store, *[URGENT] * 5)
    receiver.refused = range(1, 6)
    clock = Clock()
    notifier = dispatcher(store, Webhook(receiver.url, SECRET), clock)
    while clock.now < 3600:
        notifier.dispatch()
        clock.now += 10
    new = screened(film("new", uid="1.9"), scored_hip(URGENT))
    store.record(start(store), [new], RULE, ["webhook"])
    so_far = len(receiver.attempts)
    clock.now += notify.LAST_BACKOFF_S
    notifier.dispatch()
    assert receiver.attempts[so_far][0] == 200


def test_where_an_attempt_cannot_be_noted_nothing_is_sent(store, receiver):
    record(store, URGENT)
    notifier = dispatcher(store, Webhook(receiver.url, SECRET), Clock())
    with store.transaction():
        store.execute(
            "create trigger full before update on outbox"
            " begin select raise(abort, 'database or disk is full'); end"
        )
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            notifier.dispatch()
    assert receiver.attempts == []


class Overtaken(Webhook):
    """A channel during whose first delivery the other messages are removed."""

    def deliver(self, key, body):
        super().deliver(key, body)
        with Store(self.db) as other, other.transaction():
            other.execute("delete from outbox where key <> ?", [key])


def test_a_message_that_gave_way_is_not_sent(store, receiver):
    record(store, URGENT, URGENT)
    channel = Overtaken(receiver.url, SECRET)
    object.__setattr__(channel, "db", store.path)
    dispatcher(store, channel, Clock()).dispatch()
    assert len(receiver.attempts) == 1


def test_messages_are_committed_with_the_result_or_not_at_all(store):
    broken = screened(film("two", uid="1.3"), scored_hip(URGENT))
    object.__setattr__(broken, "findings", ())
    with pytest.raises(ValueError, match="zip"):
        store.record(
            start(store), [screened(film("one"), scored_hip(URGENT)), broken], RULE, ["spool"]
        )
    assert Outbox(store).waiting() == {}


def test_a_spooled_message_is_whole_and_twice_is_once(store, tmp_path):
    record(store, URGENT, channels=["spool"])
    channel = Spool(tmp_path)
    (message,) = Outbox(store).pending("spool", 10)
    for _ in range(2):
        channel.deliver(message.key, {"a": 1})
    assert [path.name for path in tmp_path.glob("*.json")] == [f"{message.key}.json"]
    assert json.loads((tmp_path / f"{message.key}.json").read_text()) == {"a": 1}
    with pytest.raises(DeliveryError, match="FileNotFoundError"):
        Spool(tmp_path / "none").deliver("key", {})


def test_a_message_of_two_flagged_hips_has_the_urgency_of_the_more_urgent_one(store, receiver):
    hips = scored_hip(ROUTINE, Side.LEFT), scored_hip(URGENT, Side.RIGHT)
    case = screened(film("both", uid="1.9"), *hips, scored_hip(Category.NORMAL))
    record(store, ROUTINE)
    store.record(start(store), [case], RULE, ["webhook"])
    dispatcher(store, Webhook(receiver.url, SECRET), Clock()).dispatch()
    first, second = receiver.cases.values()
    assert (first["priority"], second["priority"]) == ("urgent", "routine")
    assert [hip["priority"] for hip in first["hips"]] == ["routine", "urgent"]


class Broken(Spool):
    """Fails on one case in a way that no channel should."""

    def deliver(self, key, body):
        if body["case"] == 1:
            raise ZeroDivisionError
        super().deliver(key, body)


def test_a_message_that_cannot_be_delivered_for_a_fault_of_ours_keeps_no_other_back(
    store, tmp_path, caplog
):
    record(store, URGENT, ROUTINE, channels=["spool"])
    notifier = dispatcher(store, Broken(tmp_path), Clock())
    notifier.dispatch()
    assert Outbox(store).waiting() == {"spool": 1}
    assert not notifier.failing  # the last message was delivered
    (logged,) = caplog.records
    assert logged.fields == {"channel": "spool", "reason": "ZeroDivisionError"}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_spooled_message_can_be_read_by_the_folders_group_at_most(tmp_path, umask):
    before = os.umask(umask)
    try:
        Spool(tmp_path).deliver("key", {"case": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "key.json").stat().st_mode & 0o777 == 0o640 & ~umask


class Relay(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as one message needs, and of RFC 3207 where the server has a context."""

    def finish(self):
        super().finish()
        self.request.close()

    def handle(self):
        self.wfile.write(b"220 relay\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO" and getattr(self.server, "context", None):
                self.wfile.write(b"250-relay\r\n250 STARTTLS\r\n")
                continue
            if verb == b"STAR":
                self.wfile.write(b"220 go on\r\n")
                try:
                    self.request = self.server.context.wrap_socket(self.request, server_side=True)
                except ssl.SSLError:
                    return
                self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
                continue
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    text += line
                self.server.mails.append(text.decode())
                self.server.encrypted = isinstance(self.request, ssl.SSLSocket)
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


def test_an_e_mail_tells_of_the_case_and_names_no_patient(store):
    record(store, URGENT, channels=["email"])
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        relay.mails = []
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        port = relay.server_address[1]
        mail = Mail("127.0.0.1", port, "hipedge@example.org", "doctor@example.org")
        dispatcher(store, mail, Clock()).dispatch()
        relay.shutdown()
    (text,) = relay.mails
    assert "Subject: hipedge: urgent, case 1" in text
    assert "femoral_neck_fracture" in text
    assert "1.2.0" not in text
    assert Outbox(store).waiting() == {}


REMOTE = "relay.example.org"


@pytest.fixture
def remote_relay(monkeypatch, tmp_path):
    """A relay that is reached by a name of another machine, and a certificate authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **options: resolve("127.0.0.1", *rest, **options)
    )
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        relay.mails, relay.authority = [], authority
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield relay
        relay.shutdown()


def serve_tls(relay, name):
    relay.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    relay.authority.issue_cert(name).configure_cert(relay.context)


def send_to(relay, store):
    record(store, URGENT, channels=["email"])
    mail = Mail(REMOTE, relay.server_address[1], "hipedge@example.org", "doctor@example.org")
    dispatcher(store, mail, Clock()).dispatch()
    return Outbox(store).waiting()


def test_a_mail_to_a_relay_elsewhere_is_encrypted(store, remote_relay):
    serve_tls(remote_relay, REMOTE)
    assert send_to(remote_relay, store) == {}
    assert len(remote_relay.mails) == 1
    assert remote_relay.encrypted


@pytest.mark.parametrize("name", [None, "other.example.org"])
def test_a_relay_elsewhere_without_tls_or_with_a_wrong_name_gets_no_mail(store, remote_relay, name):
    if name is not None:
        serve_tls(remote_relay, name)
    assert send_to(remote_relay, store) == {"email": 1}
    assert remote_relay.mails == []


@pytest.mark.parametrize(
    "address", ["", "doctor", "@", "doctor@", "a@b.org\nBcc: c@d.org", "ä@b.org", "a b@c.org", "<>"]
)
@pytest.mark.parametrize("name", ["email_to", "email_from"])
def test_what_is_no_address_is_an_error_at_the_start(name, address):
    settings = {"email_to": "a@b.org", "email_from": "c@d.org"} | {name: address}
    with pytest.raises(ConfigError, match=f"{name} must be an e-mail address"):
        channels_of(Settings(**settings))


@pytest.mark.parametrize("address", ["a@b.org", "Dr. A <a@b.org>", "a@b.org, c@d.org", "a@b"])
def test_each_form_of_an_address_is_taken(address):
    (mail,) = channels_of(Settings(email_to=address, email_from="c@d.org", smtp="relay:2525"))
    assert mail == Mail("relay", 2525, "c@d.org", address)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"webhook_url": "http://example.org/hook"}, "https://"),
        ({"webhook_url": "https://example.org/hook"}, "webhook_secret_file"),
        ({"email_to": "a@example.org"}, "email_from"),
        ({"email_to": "a@b.org", "email_from": "c@d.org", "smtp": "relay"}, "host:port"),
        ({"email_to": "a@b.org", "email_from": "c@d.org", "smtp": ":25"}, "host:port"),
        ({"email_to": "a@b.org", "email_from": "c@d.org", "smtp": "relay:smtp"}, "host:port"),
        ({"spool_dir": "/nowhere/at/all"}, "spool_dir"),
    ],
)
def test_half_a_channel_is_an_error_at_the_start(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        channels_of(Settings(**settings))


def test_a_short_secret_is_refused_and_a_standard_one_is_decoded(tmp_path):
    file = tmp_path / "secret"
    url = "https://example.org/hook"
    file.write_text("short\n")
    with pytest.raises(ConfigError, match="at least 16"):
        channels_of(Settings(webhook_url=url, webhook_secret_file=file))
    file.write_bytes(b"not only ASCII: \xe4\xe4\xe4\xe4")
    with pytest.raises(ConfigError, match="secret cannot be read: UnicodeDecodeError"):
        channels_of(Settings(webhook_url=url, webhook_secret_file=file))
    with pytest.raises(ConfigError, match="none cannot be read: FileNotFoundError"):
        channels_of(Settings(webhook_url=url, webhook_secret_file=tmp_path / "none"))
    file.write_text("sixteen letters.\n")
    assert channels_of(Settings(webhook_url=url, webhook_secret_file=file))
    file.write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
    (webhook,) = channels_of(Settings(webhook_url=url, webhook_secret_file=file))
    assert webhook.secret == SECRET


def test_a_database_that_cannot_be_used_for_a_while_does_not_end_the_notifier(tmp_path, caplog):
    sound, db, told = tmp_path / "sound.db", tmp_path / "cases.db", []
    with Store(sound) as store:
        record(store, URGENT, channels=["spool"])
    db.write_bytes(b"this is no database" * 100)
    spool = Spool(tmp_path)
    notifier = Notifier(db, [spool], patient_data=False, on_change=told.append)
    notifier.start()
    try:
        wait(lambda: told)
        assert told[-1]  # nothing is delivered: that is an alarm
        assert notifier.is_alive()
        sound.replace(db)
        wait(lambda: list(tmp_path.glob("*.json")))
        wait(lambda: not told[-1])
    finally:
        notifier.stop()
    assert told[-1] is False
    assert {record.fields["error"] for record in caplog.records} == {"StoreError"}


def test_a_notifier_delivers_when_it_is_woken_and_reports_its_failures(
    tmp_path, receiver, monkeypatch
):
    monkeypatch.setattr(notify, "POLL_S", 60.0)
    db, reports = tmp_path / "cases.db", []
    receiver.behaviours = [500]
    with Store(db) as store:
        notifier = Notifier(
            db, [Webhook(receiver.url, SECRET)], patient_data=False, on_change=reports.append
        )
        notifier.start()
        wait(lambda: reports == [False])
        record(store, URGENT)
        time.sleep(0.2)
        assert receiver.attempts == []
        notifier.wake()
        wait(lambda: reports == [False, True])
        begin = time.monotonic()
        notifier.stop()
        assert time.monotonic() - begin < 20
    assert not notifier.is_alive()
    assert reports == [False, True, False]
    assert len(receiver.attempts) == 1


def wait(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_webhook_that_hangs_delays_no_film(new_clinic, receiver, monkeypatch):
    secret = receiver.server_address  # any text will do
    clinic = new_clinic()
    file = clinic.folder / "secret"
    file.write_text(f"a secret of the site {secret}")
    receiver.behaviours = ["hang"] * 3
    object.__setattr__(clinic.settings, "webhook_url", receiver.url)
    object.__setattr__(clinic.settings, "webhook_secret_file", file)
    for number in range(3):
        clinic.drop(f"{number}.dcm", dicom(number, URGENT))
    with clinic.service(short_timeout):
        clinic.wait_for(3)
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("notification",)])
        clinic.wait(lambda: len(receiver.cases) == 3)
        clinic.wait(lambda: clinic.rows("select count(*) from alarms") == [(0,)])


def test_what_waits_while_a_channel_is_down_is_on_the_metrics_page(
    new_clinic, receiver, free_port, tmp_path
):
    secret = tmp_path / "secret"
    secret.write_text("a secret of the site")
    receiver.refused = range(1, 3)
    clinic = new_clinic(
        metrics_port=free_port, webhook_url=receiver.url, webhook_secret_file=secret
    )
    for number in range(2):
        clinic.drop(f"{number}.dcm", dicom(number, URGENT))
    with clinic.service():
        clinic.wait_for(2)
        clinic.wait(lambda: "hipedge_notifications_waiting 2.0" in metrics(free_port))
        receiver.refused = ()
        clinic.wait(lambda: "hipedge_notifications_waiting 0.0" in metrics(free_port))


def metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return answer.read().decode()


def short_timeout():
    notify.TIMEOUT_S = 0.3
    notify.Webhook = partial(Webhook, timeout_s=0.3)
