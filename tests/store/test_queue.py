"""The queue of paths and the outbox of messages, step by step."""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from hipedge.errors import Code
from hipedge.store.outbox import Outbox
from hipedge.store.queue import Finished, Queue
from hipedge.store.service import Service, Totals
from hipedge.store.states import PathState
from hipedge.store.store import Store
from hipedge.types import Category, Known, Refusal
from tests.builders import RULE, content, film, scored_hip, screened
from tests.store.test_store import start

A, B, C, D = (Path(f"/in/{name}") for name in "abcd")
URGENT, ROUTINE = Category.FEMORAL_NECK_FRACTURE, Category.OSTEOARTHRITIS


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cases.db") as opened:
        yield opened


@pytest.fixture
def queue(store):
    return Queue(store)


def paths_of(store):
    rows = store.query("select path, state, signature, attempts from paths order by rowid")
    return {Path(row.pop("path")): tuple(row.values()) for row in rows}


def finish(store, *paths, code=Code.DECODE_FAILED):
    store.claim(paths, dict.fromkeys(paths, "1"))
    outcomes = [Refusal(path, code, content_hash=content(path.name)) for path in paths]
    store.record(start(store), outcomes, RULE)


def test_a_scan_adds_new_paths_in_its_order_and_changes_no_unfinished_one(store, queue):
    queue.observe({B: "1", A: "1"})
    queue.mark_settling([B])
    store.claim([A], {A: "1"})
    queue.observe({B: "2", A: "2", C: "1"})
    assert paths_of(store) == {
        B: ("settling", "1", 0),
        A: ("claimed", "1", 1),
        C: ("seen", "1", 0),
    }
    assert queue.unfinished() == {B: 0, A: 1, C: 0}
    assert list(queue.unfinished()) == [B, A, C]


def test_a_finished_path_is_queued_again_only_for_another_signature(store, queue):
    found = {A: "1", B: "1"}
    queue.observe(found)
    finish(store, A, B)
    queue.record_moves({A: D})
    queue.observe({A: "1", B: "1"})
    assert queue.unfinished() == {}
    queue.observe({A: "2", B: "1"})
    assert paths_of(store)[A] == ("seen", "2", 0)
    assert paths_of(store)[B][0] == "quarantined"
    rows = store.query("select file_id, moved_to from paths where path = '/in/a'")
    assert rows == [{"file_id": None, "moved_to": None}]


def test_only_paths_that_were_just_seen_start_to_settle(store, queue):
    queue.observe({A: "1", B: "1"})
    store.claim([B], {B: "1"})
    queue.mark_settling([A, B, C])
    assert queue.counts() == {PathState.SETTLING: 1, PathState.CLAIMED: 1}


def test_a_released_claim_counts_no_attempt_and_settles_again(store, queue):
    queue.observe({A: "1", B: "1", C: "1"})
    for _ in range(2):
        store.claim([A, B], {A: "1", B: "1"})
    queue.release([A, C])
    assert paths_of(store) == {
        A: ("settling", "1", 1),
        B: ("claimed", "1", 2),
        C: ("seen", "1", 0),
    }
    with store.transaction():
        store.execute("update paths set attempts = 0 where path = '/in/b'")
    queue.release([B])
    assert paths_of(store)[B] == ("settling", "1", 0)


def test_an_unfinished_path_vanishes_and_is_new_when_it_comes_back(store, queue):
    queue.observe({A: "1", B: "1", C: "1"})
    finish(store, C)
    store.claim([A], {A: "1"})
    queue.mark_vanished([A, C])
    assert {path: row[0] for path, row in paths_of(store).items()} == {
        A: "vanished",
        B: "seen",
        C: "quarantined",
    }
    queue.observe({A: "1"})
    assert queue.unfinished() == {A: 0, B: 0}


def test_finished_are_the_unchanged_paths_of_the_last_scan_that_have_a_result(store, queue):
    found = dict.fromkeys((A, B, C, D), "1")
    queue.observe(found)
    finish(store, A, B, C)
    queue.mark_vanished([D])
    queue.record_moves({B: Path("/done/b")})
    queue.observe({A: "1", B: "1", D: "1"})
    assert queue.finished({}) == [Finished(A, "1", None), Finished(B, "1", Path("/done/b"))]
    queue.observe({A: "2", B: "1"})
    assert queue.finished({}) == [Finished(B, "1", Path("/done/b"))]


def test_a_pruned_result_is_no_longer_finished_so_that_its_film_stays_where_it_is(store, queue):
    found = {A: "1", B: "1"}
    queue.observe(found)
    finish(store, A)
    queue.prune(datetime.now(timezone.utc) + timedelta(days=1))
    queue.observe(found)
    assert queue.finished(found) == []
    assert paths_of(store)[A][0] == "quarantined"


def test_a_film_that_could_not_be_read_is_moved_too(store, queue):
    store.record(start(store), [Refusal(A, Code.EMPTY_FILE)], RULE)
    with store.transaction():
        store.execute("delete from paths")  # as after a vanished path was forgotten
    queue.record_moves({A: C})
    assert store.query("select path from files") == [{"path": "/in/c"}]


def test_a_move_changes_where_a_file_is_and_no_other_file(store, queue):
    queue.observe({A: "1", B: "1"})
    finish(store, A, B)
    store.record(start(store), [Refusal(D, Code.UNREADABLE)], RULE)
    queue.record_moves({A: C})
    assert [row["path"] for row in store.query("select path from files order by id")] == [
        "/in/c",
        "/in/b",
        "/in/d",
    ]
    assert [row["moved_to"] for row in store.query("select moved_to from paths")] == [
        "/in/c",
        None,
        None,
    ]


def test_a_path_is_known_when_a_film_is_there_or_was_or_is_to_go_there(store, queue):
    queue.observe({A: "1"})
    finish(store, B)
    queue.record_moves({B: C})
    assert [queue.has_path(path) for path in (A, B, C, D)] == [True, True, True, False]


def test_quarantined_files_are_found_by_id_and_by_code(store, queue):
    finish(store, A)
    finish(store, B, code=Code.TRUNCATED)
    store.record(start(store), [screened(film("c"))], RULE)
    assert queue.quarantined() == {1: {A: None}, 2: {B: None}}
    assert queue.quarantined([2, 3]) == {2: {B: None}}
    assert queue.quarantined(code=Code.TRUNCATED) == {2: {B: None}}
    assert queue.quarantined([1], Code.TRUNCATED) == {}
    queue.record_moves({A: D})
    assert queue.quarantined([1]) == {1: {A: D}}


def test_a_content_that_another_model_has_screened_is_not_quarantined(store, queue):
    refusal = Refusal(film("a").source, Code.TOO_LARGE, content_hash=content("a"))
    store.record(start(store, "small"), [refusal], RULE)
    store.claim([refusal.source])
    store.record(start(store, "large"), [screened(film("a"))], RULE)
    assert queue.quarantined() == {}


def test_a_requeued_file_keeps_its_id_and_starts_at_its_present_path(store, queue):
    queue.observe({A: "1", B: "1"})
    finish(store, A, B)
    queue.record_moves({A: C})
    queue.requeue({1: {A: C}})
    rows = store.query("select path, state, signature, attempts, file_id, moved_to from paths")
    assert [tuple(row.values()) for row in rows] == [
        ("/in/c", "seen", None, 0, 1, None),
        ("/in/b", "quarantined", "1", 0, 2, None),
    ]
    assert store.query("select path from files where id = 1") == [{"path": "/in/c"}]


def test_of_a_file_with_two_paths_only_that_which_exists_is_requeued(store, queue):
    run = start(store)
    finish(store, A, C)
    store.claim([B])
    store.link(run, [Known(B, content("a"))])
    queue.requeue({1: {B: B}})
    states = {path: row[0] for path, row in paths_of(store).items()}
    assert states == {A: "quarantined", B: "seen", C: "quarantined"}
    assert [row["path"] for row in store.query("select path from files order by id")] == [
        "/in/b",
        "/in/c",
    ]


def test_a_file_that_vanished_on_its_way_starts_again_from_no_attempt(store, queue):
    finish(store, A)
    queue.requeue({1: {A: A}})
    store.claim([A], {A: "1"})
    queue.mark_vanished([A])
    queue.requeue({1: {A: A}})
    assert queue.unfinished() == {A: 0}


def test_a_file_whose_path_was_forgotten_is_requeued_too(store, queue):
    finish(store, A)
    with store.transaction():
        store.execute("delete from paths")
    queue.requeue({1: {A: A}})
    assert queue.unfinished() == {A: 0}
    assert store.query("select file_id from paths") == [{"file_id": 1}]


def test_a_withdrawn_folder_leaves_no_trace_and_other_refusals_stay(store, queue):
    folders = [Refusal(path, Code.UNREADABLE) for path in (B, A)]
    store.record(start(store), folders, RULE)
    finish(store, C)
    assert queue.unread() == [B, A]
    queue.withdraw([A, C, D])
    assert queue.unread() == [B]
    assert set(paths_of(store)) == {B, C}
    assert [row["path"] for row in store.query("select path from files")] == ["/in/b", "/in/c"]


def test_what_was_never_read_but_does_not_wait_for_a_human_is_not_unread(store, queue):
    store.record(start(store), [Refusal(A, Code.WRONG_OBJECT)], RULE)
    assert queue.unread() == []


def test_results_are_pruned_by_the_time_of_their_recording(store, queue):
    finish(store, A)
    between = datetime.now(timezone.utc)
    finish(store, B)
    (recorded,) = store.query("select recorded_at from files where id = 2")
    moment = datetime.fromisoformat(recorded["recorded_at"].replace("Z", "+00:00"))
    assert queue.prune(between) == 1
    assert queue.prune(moment) == 0
    assert [row["path"] for row in store.query("select path from files")] == ["/in/b"]
    assert set(paths_of(store)) == {A, B}
    queue.requeue({2: {B: B}})
    assert queue.prune(between + timedelta(days=1)) == 0


@pytest.mark.parametrize("states", ["seen", "settling", "claimed"])
def test_contents_that_are_queued_again_are_not_known(store, queue, states):
    finish(store, A)
    queue.requeue({1: {A: A}})
    if states == "settling":
        queue.mark_settling([A])
    if states == "claimed":
        store.claim([A])
    assert queue.counts() == {PathState(states): 1}
    assert store.contents("model") == frozenset()
    assert store.contents("other") == frozenset()


def messages(store, *categories):
    cases = [
        screened(film(f"{n}", uid=f"1.{n}"), scored_hip(category))
        for n, category in enumerate(categories)
    ]
    store.record(start(store), cases, RULE, ["spool", "other"])
    return Outbox(store)


def test_messages_are_ordered_by_urgency_or_by_attempts_then_by_age(store):
    outbox = messages(store, ROUTINE, URGENT, ROUTINE, URGENT)
    for message in outbox.pending("spool", 2):
        assert outbox.start_attempt(message)
    first_urgent = outbox.pending("spool", 1)[0]
    assert outbox.start_attempt(first_urgent)
    assert [m.file_id for m in outbox.pending("spool", 9)] == [4, 2, 1, 3]
    assert [m.file_id for m in outbox.least_tried("spool", 9)] == [1, 3, 4, 2]
    assert [m.file_id for m in outbox.least_tried("spool", 3)] == [1, 3, 4]
    rows = store.query("select file_id, attempts from outbox where channel = 'spool'")
    assert {row["file_id"]: row["attempts"] for row in rows} == {1: 0, 2: 2, 3: 0, 4: 1}
    assert [m.file_id for m in outbox.pending("other", 9)] == [2, 4, 1, 3]


def test_a_delivered_message_is_pending_no_more_on_its_channel_alone(store):
    outbox = messages(store, ROUTINE, ROUTINE)
    outbox.mark_delivered(outbox.pending("spool", 1)[0])
    assert [m.file_id for m in outbox.pending("spool", 9)] == [2]
    assert [m.file_id for m in outbox.least_tried("spool", 9)] == [2]
    assert outbox.waiting() == {"spool": 1, "other": 2}
    rows = store.query("select delivered_at from outbox where delivered_at is not null")
    assert datetime.fromisoformat(rows[0]["delivered_at"].replace("Z", "+00:00"))


def test_a_message_whose_id_was_reused_is_neither_tried_nor_delivered(store):
    outbox = messages(store, ROUTINE)
    (message,) = outbox.pending("spool", 9)
    with store.transaction():
        store.execute(
            "update outbox set key = 'of another case' where id = ?", [message.message_id]
        )
    assert not outbox.start_attempt(message)
    outbox.mark_delivered(message)
    assert store.query("select attempts, delivered_at from outbox where channel = 'spool'") == [
        {"attempts": 0, "delivered_at": None}
    ]


def test_the_heartbeat_is_the_last_one_and_names_its_run(store):
    service = Service(store)
    assert service.heartbeat() is None
    first, second = start(store), start(store, "better")
    service.beat(first.run_id)
    service.beat(second.run_id)
    heartbeat = service.heartbeat()
    assert (heartbeat.pid, heartbeat.model, heartbeat.backend) == (os.getpid(), "test", "fake")
    assert heartbeat.scanned_at >= heartbeat.started_at
    assert store.query("select run_id from service") == [{"run_id": second.run_id}]


def test_an_alarm_keeps_the_time_of_its_start_until_it_ends(store):
    service = Service(store)
    service.set_alarms(frozenset({"a", "b"}))
    since = service.alarms()
    assert list(since) == ["a", "b"]
    service.set_alarms(frozenset({"b", "c"}))
    assert service.alarms()["b"] == since["b"]
    assert list(service.alarms()) == ["b", "c"]
    service.set_alarms(frozenset())
    assert service.alarms() == {}


def test_the_mount_point_of_the_first_time_is_kept_for_each_folder(store):
    service = Service(store)
    assert service.mount_point(A, Path("/")) == Path("/")
    assert service.mount_point(A, Path("/in")) == Path("/")
    folder = Path(os.fsdecode(b"/m\xfcnt"))
    assert service.mount_point(B, folder) == folder


def test_the_totals_of_an_empty_database_are_nothing(store):
    now = datetime.now(timezone.utc)
    assert Service(store).totals(now, now) == Totals({}, 0, 0, None)


def test_totals_count_the_last_hour_and_day_and_each_refused_content_once(store):
    now = datetime.now(timezone.utc)
    finish(store, A, B)
    finish(store, C, code=Code.TRUNCATED)
    store.record(start(store), [screened(film("x", uid="1.1"))], RULE)
    with store.transaction():
        for file_id, age in ((1, timedelta(minutes=90)), (4, timedelta(days=3))):
            moment = (now - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            store.execute("update files set recorded_at = ? where id = ?", [moment, file_id])
    # The content of B is read by another model.
    store.record(start(store, "better"), [screened(film("y"))], RULE)
    with store.transaction():
        store.execute("update files set content_hash = ? where id = 5", [content("b")])
        last = "1.day"
        store.execute("update files set recorded_at = ? where id = 5", [last])
    totals = Service(store).totals(now - timedelta(hours=1), now - timedelta(days=1))
    assert totals.refused == {"decode_failed": 1, "truncated": 1}
    assert (totals.last_hour, totals.last_day) == (2, 3)
    assert totals.last_screened_at == (now - timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
