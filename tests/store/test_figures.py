"""The figures of the dashboard are what a count of the rows one by one gives."""

import json
import random
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest

from hipedge.errors import CODES, Code
from hipedge.store.feedback import Feedback, Verdict
from hipedge.store.figures import UNCERTAIN, Answers, FilmCounts, count_figures
from hipedge.store.queue import Queue
from hipedge.store.store import Store
from hipedge.types import ABNORMAL, Category, Refusal, Side
from tests.builders import RULE, content, film, scored_hip, screened

from .test_pages import run_of, shown_of

TODAY = date(2026, 3, 30)  # two days after clocks are put forward in Europe
RULE_IDS = {RULE.rule_id}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "hipedge.db") as store:
        yield store


def change(store, sql, *parameters):
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute(sql, parameters)


def figures(store, days=30, last=TODAY, rule_ids=RULE_IDS):
    return count_figures(store, rule_ids, last - timedelta(days=days - 1), last)


def fill(store, count, rng):
    """Record films, spread over 40 days with a gap of ten, as if `watch` had found them."""
    outcomes = []
    for n in range(count):
        one = film(f"f{n}", pixels=f"p{n}")
        if rng.random() < 0.2:
            code = rng.choice([Code.DECODE_FAILED, Code.LATERAL_VIEW, Code.WRONG_MODALITY])
            outcomes.append(Refusal(one.source, code, content_hash=one.content_hash))
            continue
        hips = [
            scored_hip(rng.choice([Category.NORMAL, *ABNORMAL]), side, rng.choice([1.0, 5.0]))
            for side in (Side.RIGHT, Side.LEFT)
        ]
        outcomes.append(screened(one, *hips))
    store.record(run_of(store), outcomes, RULE)
    for (file_id,) in [tuple(row.values()) for row in store.query("select id from files")]:
        back = rng.choice([*range(15), *range(25, 40)])
        day = (TODAY - timedelta(days=back)).isoformat()
        change(store, "update files set day = ?, waited_s = iif(state = 'screened', ?, null)"
               " where id = ?", day, rng.lognormvariate(2, 1), file_id)  # fmt: skip
    change(store, "update decisions set day = (select files.day from hips join files"
           " on files.id = file_id where hips.id = hip_id)")  # fmt: skip


@pytest.mark.parametrize("days", [1, 7, 30, 365])
def test_they_equal_a_count_row_by_row(store, days):
    fill(store, 400, random.Random(5))
    found = figures(store, days)
    period = {(TODAY - timedelta(days=n)).isoformat() for n in range(days)}
    other = {code for code, info in CODES.items() if info.other_modality}
    kinds, refusals, waits, flags = Counter(), Counter(), {}, Counter()
    for row in store.query("select * from files"):
        if row["day"] not in period:
            continue
        day = date.fromisoformat(row["day"])
        if row["state"] == "screened":
            kinds[day, "screened"] += 1
            waits.setdefault(day, []).append(row["waited_s"])
        else:
            kinds[day, "other" if Code(row["code"]) in other else "not_read"] += 1
            refusals[row["code"]] += 1
    for row in store.query(
        "select * from decisions join hips on hips.id = hip_id join files on files.id = file_id"
    ):
        if row["day"] in period and row["flagged"]:
            flags.update(json.loads(row["flagged_for"]) or [UNCERTAIN])
    assert {
        (day, kind): getattr(counts, kind)
        for day, counts in found.films.items()
        for kind in ("screened", "not_read", "other")
        if getattr(counts, kind)
    } == kinds
    assert found.refusals == refusals
    assert found.flags == flags
    assert flags[UNCERTAIN] > 0 or days < 30
    assert set(found.waits) == set(waits)
    for day, each in waits.items():
        wait = found.waits[day]
        expected = np.percentile(each, [50, 95], method="inverted_cdf")
        assert (wait.films, wait.median_s, wait.p95_s) == (len(each), *expected)
    assert len(found.days) == days
    assert found.later == 0


def test_an_empty_database_has_no_figures(store):
    found = figures(store)
    assert (found.films, found.waits, found.flags, found.refusals) == ({}, {}, {}, {})
    assert (found.answers, found.later) == ({}, 0)


def test_duplicates_are_neither_films_nor_refusals(store):
    twice = [screened(film(name, uid="1.2.3")) for name in ("a", "b")]
    store.record(run_of(store), twice, RULE)
    (counts,) = figures(store, last=date.today()).films.values()
    assert counts == FilmCounts(screened=1, duplicates=1)
    assert figures(store, last=date.today()).refusals == {}


def test_a_film_that_watch_finds_is_timed_from_when_it_was_first_seen(store):
    queue, one = Queue(store), film("a")
    queue.observe({one.source: "1"})
    arrived = datetime.now(timezone.utc) - timedelta(minutes=5)
    change(store, "update paths set arrived_at = ?", arrived.isoformat().replace("+00:00", "Z"))
    store.claim([one.source], {one.source: "1"})
    queue.release([one.source])  # the service was stopped in between
    store.claim([one.source], {one.source: "1"})
    store.record(run_of(store), [screened(one)], RULE)
    (wait,) = figures(store, last=date.today()).waits.values()
    assert wait.films == 1
    assert wait.median_s == wait.p95_s == pytest.approx(300, abs=60)


def test_a_film_that_comes_again_with_other_content_has_arrived_again(store):
    queue, path = Queue(store), film("a").source
    for signature in ("1", "2"):
        queue.observe({path: signature})
        store.claim([path], {path: signature})
        one = replace(film(f"content {signature}", pixels=signature), source=path)
        store.record(run_of(store), [screened(one)], RULE)
        change(store, "update paths set arrived_at = '2020-01-01T00:00:00.000000Z'")
    (wait,) = figures(store, last=date.today()).waits.values()
    assert wait.films == 2
    assert wait.p95_s < 60


def test_films_that_no_service_found_or_that_are_read_again_later_are_not_timed(store):
    store.claim([film("folder").source])
    store.record(run_of(store), [screened(film("folder"))], RULE)
    queue, one = Queue(store), film("again", pixels="again")
    queue.observe({one.source: "1"})
    store.claim([one.source], {one.source: "1"})
    store.record(run_of(store), [screened(one)], RULE)
    store.claim([one.source])  # another model, a year later
    store.record(run_of(store, "newer"), [screened(one)], RULE)
    (wait,) = figures(store, last=date.today()).waits.values()
    assert wait.films == 1


def test_a_clock_that_was_set_back_gives_no_time_and_future_days_are_counted_apart(store):
    queue, one = Queue(store), film("a")
    queue.observe({one.source: "1"})
    change(store, "update paths set arrived_at = '2999-01-01T00:00:00.000000Z'")
    store.claim([one.source], {one.source: "1"})
    store.record(run_of(store), [screened(one)], RULE)
    found = figures(store, last=date.today())
    assert found.waits == {}
    assert sum(counts.screened for counts in found.films.values()) == 1
    change(store, "update files set day = '2999-01-01'")
    found = figures(store, last=date.today())
    assert (found.films, found.later) == ({}, 1)


def test_codes_and_categories_of_a_newer_version_keep_their_names(store):
    bad = Refusal(film("a").source, Code.DECODE_FAILED, content_hash=content("a"))
    store.record(run_of(store), [bad, screened(film("b"), scored_hip(ABNORMAL[0]))], RULE)
    change(store, "update files set code = 'new_code' where code is not null")
    change(store, "update decisions set flagged_for = '[\"impingement\"]'")
    found = figures(store, last=date.today())
    assert found.refusals == {"new_code": 1}
    assert found.flags == {"impingement": 1}
    assert next(iter(found.films.values())).not_read == 1  # until somebody knows better


def test_flags_are_those_of_the_rules_in_force(store):
    store.record(run_of(store), [screened(film("a"), scored_hip(ABNORMAL[0]))], RULE)
    never = replace(RULE, thresholds=dict.fromkeys(ABNORMAL, 1.0), min_confidence=0.0)
    store.apply_rule("model", never)
    today = date.today()
    assert sum(figures(store, last=today).flags.values()) == 1
    assert figures(store, last=today, rule_ids={never.rule_id}).flags == {}
    assert store.query("select distinct day from decisions") == [{"day": today.isoformat()}]


def test_of_an_answer_and_its_correction_the_correction_counts(store):
    store.record(run_of(store), [screened(film(n, pixels=n)) for n in "ab"], RULE)
    feedback = Feedback(store)
    for file_id, verdict in ((1, Verdict.RIGHT), (2, Verdict.NOT_JUDGED)):
        shown = shown_of(store.case(file_id, RULE.rule_id))
        category = Category.NORMAL if verdict is Verdict.RIGHT else None
        first = feedback.append(shown, verdict, category, reader="rita")
    assert list(figures(store, last=date.today()).answers.values()) == [Answers(1, 1)]
    feedback.append(shown, Verdict.WRONG, Category.OSTEOARTHRITIS, reader="rita", corrects=first)
    assert list(figures(store, last=date.today()).answers.values()) == [Answers(2, 1)]
    assert figures(store, last=date.today() - timedelta(days=1)).answers == {}


def test_what_is_pruned_is_no_longer_counted(store):
    store.record(run_of(store), [screened(film("a"), scored_hip(ABNORMAL[0]))], RULE)
    assert Queue(store).prune(datetime.now(timezone.utc) + timedelta(days=1)) == 1
    found = figures(store, last=date.today())
    assert (found.films, found.flags) == ({}, {})


def test_a_database_of_an_earlier_version_is_counted_by_the_days_of_its_rows(tmp_path):
    from sqlite_utils import Database

    from hipedge.store.schema import migrations

    path = tmp_path / "old.db"
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before="count_by_day")
        db.execute("insert into models values ('m', 'test', 'untrained', '{}')")
        db.execute("insert into runs values (1, '', null, 'm', 1, 'fake', '', '{}')")
        db.execute(
            "insert into files (id, path, run_id, model_id, pipeline_version, recorded_at, state,"
            " marks, attempts, timings_ms) values"
            " (7, '/in/b', 1, 'm', 1, '2026-03-20T12:00:00.000000Z', 'screened', '[]', 1, '{}')"
        )
        db.conn.commit()
    with Store(path) as store:
        found = figures(store)
    assert found.films == {date(2026, 3, 20): FilmCounts(screened=1)}
    assert found.waits == {}


def test_a_year_is_counted_by_indexes_alone(store):
    """Its time would else grow with all that was ever recorded."""
    fill(store, 30, random.Random(1))
    statements = []
    store._db.conn.set_trace_callback(statements.append)
    figures(store, 365)
    store._db.conn.set_trace_callback(None)
    queries = [sql for sql in statements if sql.startswith("select")]
    assert len(queries) > 5
    for sql in queries:
        plan = [row["detail"] for row in store.query(f"explain query plan {sql}")]
        assert any(step.startswith("SEARCH") for step in plan), sql
        assert not any(step.startswith(("SCAN files", "SCAN decisions")) for step in plan), sql
