"""Which cases have a result in the outbox, on which occasion."""

from dataclasses import replace

import pytest

from hipedge.errors import Code
from hipedge.store.outbox import Outbox, ResultPolicy
from hipedge.store.store import Store
from hipedge.types import ABNORMAL, Category, Refusal
from tests.builders import RULE, film, scored_hip, screened
from tests.store.test_store import start

URGENT, ROUTINE, NORMAL = (
    Category.FEMORAL_NECK_FRACTURE,
    Category.OSTEOARTHRITIS,
    Category.NORMAL,
)
FLAGGED = ResultPolicy(("pacs",))
ALL = ResultPolicy(("pacs", "pacs-web"), unflagged=True, not_read=True)
STRICT = replace(RULE, thresholds=dict.fromkeys(ABNORMAL, 1.0))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cases.db") as opened:
        yield opened


def record(store, name, *categories, policy, rule=RULE):
    hips = [scored_hip(category) for category in categories]
    outcome = screened(film(name, uid=f"1.2.{len(name)}"), *hips, rule=rule)
    store.record(start(store), [outcome], rule, results=policy)


def refuse(store, name, code, policy):
    outcome = Refusal(
        film(name).source, code, content_hash=film(name).content_hash, film=film(name)
    )
    store.record(start(store), [outcome], RULE, results=policy)


def queued(store, channel="pacs"):
    return [message.file_id for message in Outbox(store).pending(channel, 99)]


def test_without_the_sites_wish_only_flagged_films_have_a_result(store):
    record(store, "a", NORMAL, policy=FLAGGED)
    record(store, "bb", URGENT, policy=FLAGGED)
    refuse(store, "ccc", Code.DECODE_FAILED, FLAGGED)
    assert queued(store) == [2]


def test_at_the_sites_wish_all_films_have_one_on_each_channel_the_urgent_first(store):
    record(store, "a", NORMAL, policy=ALL)
    refuse(store, "bb", Code.DECODE_FAILED, ALL)
    record(store, "ccc", NORMAL, URGENT, policy=ALL)
    assert queued(store) == queued(store, "pacs-web") == [3, 2, 1]


@pytest.mark.parametrize(
    ("code", "reported"),
    [
        (Code.NO_HIP_FOUND, True),
        (Code.TRUNCATED, True),
        (Code.SCORES_NOT_FINITE, True),
        (Code.WRONG_BODY_PART, False),
        (Code.OWN_RESULT, False),
        (Code.SECONDARY_CAPTURE, False),
        (Code.EMPTY_FILE, False),
        (Code.SAME_PIXELS, False),
    ],
)
def test_a_film_that_should_have_been_screened_and_was_not_is_reported(store, code, reported):
    refuse(store, "a", code, ALL)
    assert queued(store) == [1] * reported


def test_a_film_that_is_read_after_all_has_one_result_and_no_report_of_its_refusal(store):
    refuse(store, "a", Code.TOO_LARGE, ALL)
    record(store, "a", NORMAL, policy=ALL)
    assert queued(store) == [1]
    (row,) = store.query("select state from outbox where channel = 'pacs'")
    assert row["state"] == "screened"


def test_the_same_content_again_has_no_second_result(store):
    for _ in range(2):
        record(store, "a", URGENT, policy=ALL)
    assert queued(store) == [1]


def test_a_rule_that_makes_a_film_more_urgent_sends_its_result_again(store):
    record(store, "a", URGENT, policy=ALL, rule=STRICT)
    (message,) = Outbox(store).pending("pacs", 9)
    Outbox(store).mark_delivered(message)
    assert queued(store) == []
    store.apply_rule("model", RULE, results=ALL)
    assert queued(store) == [1]
    (again,) = Outbox(store).pending("pacs", 9)
    assert again.key != message.key
    store.apply_rule("model", STRICT, results=ALL)
    assert queued(store) == [1]


def test_films_from_before_the_pacs_was_configured_are_not_sent_to_it(store):
    record(store, "a", URGENT, policy=ResultPolicy(), rule=STRICT)
    store.apply_rule("model", RULE, results=FLAGGED)
    assert queued(store) == []
    record(store, "bb", URGENT, policy=FLAGGED)
    store.apply_rule("model", replace(RULE, temperature=1.1), results=FLAGGED)
    assert queued(store) == [2]


def test_results_asked_for_by_hand_are_sent_once_unless_again(store):
    record(store, "a", NORMAL, policy=ResultPolicy())
    cases = list(store.all_cases({"model": RULE}))
    for expected in ([1], []):
        (key,) = store.request_results(cases, {"model": RULE}, ["pacs"])
        assert queued(store) == expected
        assert Outbox(store).undelivered([key]) == len(expected)
        for message in Outbox(store).pending("pacs", 9):
            Outbox(store).mark_delivered(message)
    store.request_results(cases, {"model": RULE}, ["pacs"], again=True)
    assert queued(store) == [1]


def test_of_two_processes_only_one_sends_a_message(store, tmp_path):
    from datetime import datetime, timedelta, timezone

    record(store, "a", URGENT, policy=FLAGGED)
    now = datetime(2026, 11, 30, tzinfo=timezone.utc)
    with Store(tmp_path / "cases.db") as other:
        mine, theirs = Outbox(store), Outbox(other)
        (message,) = mine.due("pacs", now, 9)
        assert theirs.due("pacs", now, 9) == [message]
        assert mine.claim(message, now, now + timedelta(seconds=10))
        assert not theirs.claim(message, now, now + timedelta(seconds=10))
        assert theirs.due("pacs", now, 9) == []
        assert theirs.due("pacs", now + timedelta(seconds=10), 9) == [message]
