"""Nothing is lost and nothing arrives twice, whatever the receiver of results does."""

import contextlib
import multiprocessing
import os
import signal
import ssl
import time
from datetime import datetime, timedelta, timezone

import pytest
import trustme
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

from hipedge.config import Settings
from hipedge.errors import Code, ConfigError
from hipedge.network.sending import Interrupted, Rejected, Unreachable
from hipedge.network.stow import QidoServer, StowServer, authorization_of
from hipedge.store.deliveries import Deliveries
from hipedge.store.outbox import Outbox, ResultPolicy
from hipedge.store.store import Store
from hipedge.types import Category
from hipedge.watch.results import ResultDispatcher, read_back_of, receivers_of, result_policy
from hipedge.watch.sender import ResultSender
from tests.dicom.dicom_films import JPEG_2000_LOSSLESS
from tests.pacs import AE_TITLE, free_port, need, running
from tests.results.recorded import RULES, record, record_refusal, scored
from tests.store.test_store import start

# pynetdicom leaves a socket that could not connect to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning",
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
)

URGENT, ROUTINE, NORMAL = (
    Category.FEMORAL_NECK_FRACTURE,
    Category.OSTEOARTHRITIS,
    Category.NORMAL,
)
SC, SR_3D, SR, GSPS, KOS = (
    SecondaryCaptureImageStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cases.db") as opened:
        yield opened


class Clock:
    def __init__(self):
        self.now = datetime(2026, 11, 30, tzinfo=timezone.utc)

    def __call__(self):
        return self.now

    def pass_s(self, seconds):
        self.now += timedelta(seconds=seconds)


class Pacs:
    """A DICOM server with scripted answers; it keeps what it has said to have stored."""

    def __init__(self, port, classes=(SC, SR_3D, SR, GSPS, KOS), tls=None):
        self.answers = []
        self.stored = []
        entity = AE(AE_TITLE)
        for sop_class in classes:
            entity.add_supported_context(sop_class, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
        self.server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)],
            ssl_context=tls,
        )  # fmt: skip

    def _store(self, event):
        answer = self.answers.pop(0) if self.answers else 0x0000
        if answer == "drop":
            event.assoc.abort()
            return 0x0110
        if callable(answer):
            answer = answer(event)
        has_it = answer in (0x0000, "lose the answer") or answer & 0xF000 == 0xB000
        if has_it:
            request = event.request
            self.stored.append(
                (UID(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
            )
        if answer == "lose the answer":
            event.assoc.abort()
            return 0x0000
        return answer

    @property
    def classes(self):
        return [sop_class for sop_class, _ in self.stored]

    @property
    def uids(self):
        return [uid for _, uid in self.stored]


@contextlib.contextmanager
def pacs(port, *args, **options):
    server = Pacs(port, *args, **options)
    try:
        yield server
    finally:
        server.server.shutdown()


@pytest.fixture
def port():
    return free_port()


def settings_for(port, **others):
    return Settings(pacs_host="127.0.0.1", pacs_port=port, pacs_ae_title=AE_TITLE, **others)


def dispatcher(store, settings, clock=None):
    (receiver,) = receivers_of(settings)
    return ResultDispatcher(
        store, receiver, settings, read_back=read_back_of(settings), clock=clock or Clock()
    )


def waiting(store):
    return sum(Outbox(store).waiting().values())


@pytest.mark.promise(21)
def test_an_hour_of_outage_delays_and_loses_nothing_and_the_most_urgent_comes_first(
    store, tmp_path, port
):
    run = start(store)
    for number, category in enumerate([NORMAL, ROUTINE, URGENT]):
        record(store, tmp_path, scored(category), number=number, run=run)
    clock = Clock()
    sender = dispatcher(store, settings_for(port), clock)
    for _ in range(360):
        sender.dispatch()
        assert sender.failing
        clock.pass_s(10)
    assert waiting(store) == 3
    with pacs(port) as server:
        clock.pass_s(300)
        sender.dispatch()
        assert server.classes == [SC, SR_3D] * 3
        assert waiting(store) == 0
        assert not sender.failing
        order = [
            row["file_id"] for row in store.query("select file_id from deliveries order by id")
        ]
        assert order == [3, 3, 2, 2, 1, 1]
        clock.pass_s(10)
        sender.dispatch()
        assert len(server.uids) == len(set(server.uids)) == 6


def test_dcmtk_takes_each_object_once(store, tmp_path, on_loopback):
    need("/usr/bin/storescp")  # pynetdicom has a program of that name too
    record(store, tmp_path)
    folder, port = tmp_path / "received", free_port()
    folder.mkdir()
    command = [
        "/usr/bin/storescp",
        "--unique-filenames",
        "-od",
        str(folder),
        "-aet",
        AE_TITLE,
        str(port),
    ]
    everything = settings_for(port, results=("sc", "sr", "gsps", "kos"))
    with running(command, on_loopback, port):
        sender = dispatcher(store, everything)
        sender.dispatch()
        sender.dispatch()
    assert waiting(store) == 0
    assert len(list(folder.iterdir())) == 4


def test_who_does_not_take_3d_reports_gets_comprehensive_ones(store, tmp_path, port):
    record(store, tmp_path)
    with pacs(port, (SC, SR)) as server:
        dispatcher(store, settings_for(port)).dispatch()
        assert server.classes == [SC, SR]
        assert waiting(store) == 0


@pytest.mark.parametrize("status", [0x0122, 0xA900, 0xC000, 0x0110])
def test_who_negotiates_3d_reports_and_then_refuses_them_gets_comprehensive_ones(
    store, tmp_path, port, status
):
    record(store, tmp_path)
    with pacs(port) as server:
        server.answers = [0x0000, status, 0x0000]
        dispatcher(store, settings_for(port)).dispatch()
        assert server.classes == [SC, SR]
        assert waiting(store) == 0


@pytest.mark.promise(21)
def test_a_class_that_is_refused_waits_while_the_others_and_other_films_are_delivered(
    store, tmp_path, port
):
    for number in range(2):
        record(store, tmp_path, number=number)
    clock = Clock()
    sender = dispatcher(store, settings_for(port, results=("sc", "sr", "gsps")), clock)
    with pacs(port, (SC, SR)) as server:
        sender.dispatch()
        assert server.classes == [SC, SR] * 2
        for _ in range(60):
            clock.pass_s(60)
            sender.dispatch()
        assert server.classes == [SC, SR] * 2
        assert waiting(store) == 2
        assert sender.failing
        assert set(sender.faults.values()) == {
            "gsps: its class was not accepted in the negotiation"
        }
    with pacs(port, (SC, SR, GSPS)) as server:
        clock.pass_s(6 * 3600)
        sender.dispatch()
        assert server.classes == [GSPS] * 2
        assert waiting(store) == 0
        assert not sender.failing


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0111, 0x0107])
@pytest.mark.promise(21)
def test_a_warning_and_a_duplicate_count_as_delivered_and_are_logged(
    store, tmp_path, port, status, caplog
):
    record(store, tmp_path)
    with pacs(port) as server:
        server.answers = [status]
        sender = dispatcher(store, settings_for(port))
        sender.dispatch()
        sender.dispatch()
        assert server.answers == []
    assert waiting(store) == 0
    assert [entry.fields["status"] for entry in caplog.records] == [status]
    assert [row["status"] for row in store.query("select status from deliveries")] == [status, 0]


@pytest.mark.promise(21)
def test_after_an_association_that_was_dropped_half_way_only_the_rest_is_sent(
    store, tmp_path, port
):
    for number in range(3):
        record(store, tmp_path, number=number)
    clock = Clock()
    sender = dispatcher(store, settings_for(port), clock)
    with pacs(port) as server:
        server.answers = [0x0000, 0x0000, 0x0000, "drop"]
        sender.dispatch()
        assert len(server.uids) == 3
        for _ in range(4):
            clock.pass_s(15)
            sender.dispatch()
        assert len(server.uids) == len(set(server.uids)) == 6
    assert waiting(store) == 0


@pytest.mark.promise(21)
def test_an_object_whose_acknowledgement_is_lost_is_sent_again_under_the_same_uid(
    store, tmp_path, port
):
    record(store, tmp_path)
    clock = Clock()
    sender = dispatcher(store, settings_for(port), clock)
    with pacs(port) as server:
        server.answers = ["lose the answer"]
        sender.dispatch()
        clock.pass_s(15)
        sender.dispatch()
        first, again, report = server.uids
        assert first == again != report
    assert waiting(store) == 0


@pytest.mark.promise(21)
def test_a_film_that_ends_each_association_keeps_back_no_other(store, tmp_path, port):
    for number in range(3):
        record(store, tmp_path, number=number)
    clock = Clock()
    sender = dispatcher(store, settings_for(port, results=("sc",)), clock)
    with pacs(port) as server:
        server.answers = ["drop"]
        sender.dispatch()
        clock.pass_s(2)
        sender.dispatch()
        assert len(server.uids) == 2
        assert waiting(store) == 1


def test_a_receiver_without_space_is_asked_again_later_and_the_order_is_kept(store, tmp_path, port):
    run = start(store)
    for number, category in enumerate([ROUTINE, URGENT]):
        record(store, tmp_path, scored(category), number=number, run=run)
    clock = Clock()
    sender = dispatcher(store, settings_for(port, results=("sc",)), clock)
    with pacs(port) as server:
        server.answers = [0xA700] * 3
        for _ in range(3):
            sender.dispatch()
            assert sender.failing
            clock.pass_s(5)
        sender.dispatch()
        assert len(server.uids) == 2
        order = [
            row["file_id"] for row in store.query("select file_id from deliveries order by id")
        ]
        assert order == [2, 1]


def test_a_film_that_has_gone_keeps_back_no_other_and_is_delivered_when_it_is_back(
    store, tmp_path, port
):
    gone = record(store, tmp_path, number=1)
    record(store, tmp_path, number=2)
    hidden = gone.path.rename(tmp_path / "hidden")
    clock = Clock()
    sender = dispatcher(store, settings_for(port), clock)
    with pacs(port) as server:
        sender.dispatch()
        assert len(server.uids) == 2
        assert list(sender.faults.values()) == ["the film is no longer where it was screened"]
        hidden.rename(gone.path)
        clock.pass_s(15)
        sender.dispatch()
        assert len(server.uids) == 4
    assert waiting(store) == 0


def test_of_a_film_that_cannot_be_decoded_the_report_is_sent_and_the_log_names_no_path(
    store, tmp_path, port, caplog
):
    record(store, tmp_path, syntax=JPEG_2000_LOSSLESS, fragments=[b"no codestream"])
    sender = dispatcher(store, settings_for(port))
    with pacs(port) as server:
        sender.dispatch()
        assert server.classes == [SR_3D]
    assert list(sender.faults.values()) == ["the film can no longer be read"]
    fields = [str(entry.fields) for entry in caplog.records if entry.name == "hipedge.service"]
    assert len(fields) == 1
    assert str(tmp_path) not in fields[0]
    assert waiting(store) == 1


def test_a_film_without_a_study_is_no_result_and_does_not_wait_for_ever(store, tmp_path, port):
    record(store, tmp_path, StudyInstanceUID="")
    with pacs(port) as server:
        dispatcher(store, settings_for(port)).dispatch()
        assert server.uids == []
    assert waiting(store) == 0


def test_who_rejects_the_association_is_unreachable_and_the_reason_says_so(store, tmp_path):
    record(store, tmp_path)
    port = free_port()
    entity = AE("OTHER")
    entity.require_called_aet = True
    entity.add_supported_context(SC)
    server = entity.start_server(("127.0.0.1", port), block=False)
    try:
        sender = dispatcher(store, settings_for(port))
        sender.dispatch()
    finally:
        server.shutdown()
    assert "AE titles" in sender.faults[""]
    assert waiting(store) == 1


def test_who_takes_none_of_the_classes_is_unreachable_and_the_reason_says_so(store, tmp_path, port):
    record(store, tmp_path)
    sender = dispatcher(store, settings_for(port))
    with pacs(port, (KOS,)):
        sender.dispatch()
    assert "classes" in sender.faults[""]
    assert waiting(store) == 1


def test_results_travel_over_tls_to_a_receiver_with_a_known_certificate(store, tmp_path, port):
    record(store, tmp_path)
    authority = trustme.CA()
    known, unknown = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(known)
    trustme.CA().cert_pem.write_to_path(unknown)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with pacs(port, tls=context) as server:
        for authorities, delivered in ((unknown, 0), (known, 2)):
            tls = {"pacs_tls": True, "pacs_tls_authorities": authorities}
            dispatcher(store, settings_for(port, **tls)).dispatch()
            assert len(server.uids) == delivered


@pytest.mark.promise(21)
def test_orthanc_has_each_object_once_by_both_ways_and_what_it_loses_is_sent_again(
    store, tmp_path, orthanc
):
    policy = ResultPolicy(("pacs-web",), unflagged=True, not_read=True)
    case = record(store, tmp_path, policy=policy)
    record_refusal(store, tmp_path, Code.NO_HIP_FOUND, number=2, policy=policy)
    clock = Clock()
    settings = Settings(
        results=("sc", "sr", "gsps", "kos"),
        pacs_stow_url=orthanc.web,
        pacs_qido_url=orthanc.web,
        pacs_confirm_s=60.0,
    )
    sender = dispatcher(store, settings, clock)
    sender.dispatch()
    assert orthanc.classes() == sorted([SC, SR_3D, GSPS, KOS, SR_3D])
    assert waiting(store) == 2  # to be confirmed
    (message, _) = Outbox(store).pending("pacs-web", 2)
    lost = Deliveries(store).of("pacs-web", message)["sr"].sop_instance_uid
    orthanc.delete(lost)
    for _ in range(2):
        clock.pass_s(61)
        sender.dispatch()
    assert waiting(store) == 0
    assert lost in {instance["SOPInstanceUID"] for instance in orthanc.instances()}
    assert len(orthanc.instances()) == 5
    studies = {instance["StudyInstanceUID"] for instance in orthanc.instances()}
    assert studies == {case.study_instance_uid}
    # The same by hand, by C-STORE this time: the same objects, which Orthanc has already.
    store.request_results([case], RULES, ["pacs"])
    other = settings_for(orthanc.dicom_port, results=("sc", "sr", "gsps", "kos"))
    dispatcher(store, other).dispatch()
    assert waiting(store) == 0
    assert len(orthanc.instances()) == 5


def test_a_read_back_that_is_down_keeps_back_no_result_and_repeats_none(store, tmp_path, port):
    for number in range(2):
        record(store, tmp_path, number=number)
    clock = Clock()
    qido = f"http://127.0.0.1:{free_port()}/web"
    sender = dispatcher(store, settings_for(port, pacs_qido_url=qido), clock)
    with pacs(port) as server:
        sender.dispatch()
        assert len(server.uids) == 4
        record(store, tmp_path, scored(ROUTINE), number=3)
        for _ in range(3):
            clock.pass_s(61)
            sender.dispatch()
        assert len(server.uids) == 6
    assert waiting(store) == 3
    assert sender.failing


def test_a_server_that_is_down_or_answers_nonsense_loses_nothing(store, tmp_path):
    server = StowServer(f"http://127.0.0.1:{free_port()}/dicom-web")
    with pytest.raises(Unreachable), server.session():
        pass
    with pytest.raises(Unreachable):
        QidoServer(server.url).has("1.2", "1.3", "1.4")


def test_a_password_is_not_sent_in_the_clear(tmp_path):
    file = tmp_path / "authorization"
    file.write_text("Bearer token\n")
    assert authorization_of(file, "https://pacs.example/web") == "Bearer token"
    assert authorization_of(file, "http://127.0.0.1:1/web") == "Bearer token"
    assert authorization_of(None, "http://pacs.example/web") is None
    with pytest.raises(ConfigError, match="https"):
        authorization_of(file, "http://pacs.example/web")
    file.write_text("")
    with pytest.raises(ConfigError, match="one line"):
        authorization_of(file, "https://pacs.example/web")


def test_without_a_pacs_nothing_is_queued_and_sending_is_an_error(store, tmp_path):
    assert result_policy(Settings()) == ResultPolicy((), False, True)
    record(store, tmp_path, policy=result_policy(Settings()))
    assert waiting(store) == 0
    with pytest.raises(ConfigError, match="pacs_host"):
        receivers_of(Settings())
    with pytest.raises(ConfigError, match="no kind of results"):
        receivers_of(Settings(pacs_host="localhost", results=()))


@pytest.mark.promise(21)
def test_a_sender_that_is_killed_is_replaced_and_each_object_arrives_once(tmp_path, port):
    db, reports = tmp_path / "cases.db", []
    settings = settings_for(port, db=db)
    with Store(db) as store:
        run = start(store)
        for number in range(6):
            record(store, tmp_path, number=number, run=run)
        with pacs(port) as server:
            sender = ResultSender(settings, on_change=reports.append)
            server.answers = [kill_sender]
            sender.start()
            try:
                deadline = time.monotonic() + 90
                while waiting(store) > 1:  # the one that killed it waits for its retry
                    assert time.monotonic() < deadline, reports
                    time.sleep(0.1)
            finally:
                sender.stop()
            assert not sender.is_alive()
            assert True in reports
            clock = Clock()
            clock.now = datetime.now(timezone.utc) + timedelta(minutes=2)
            dispatcher(store, settings, clock).dispatch()
            assert waiting(store) == 0
            assert len(set(server.uids)) == 12


def kill_sender(event):
    """Store an object, and kill its sender before that can record it."""
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    return 0x0000


@pytest.mark.parametrize(
    ("answer", "error"), [(0xC123, Rejected), (0xA701, Unreachable), ("drop", Interrupted)]
)
def test_each_answer_has_its_error(tmp_path, store, port, answer, error):
    from tests.results.test_objects import Kind, build

    result = build(record(store, tmp_path), Kind.KEY_OBJECTS)
    (receiver,) = receivers_of(settings_for(port, results=("kos",)))
    with pacs(port) as server:
        server.answers = [answer]
        with receiver.session() as session, pytest.raises(error):
            session.store(result)
