"""Lists of cases page by page: the same cases as the worklist of `hipedge flagged` has."""

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from hipedge.errors import Code, InputError, StaleAnswer
from hipedge.store.feedback import Feedback, Shown, Verdict
from hipedge.store.pages import MAX_FILMS_OF_PATIENT, CaseFilter, CaseList, CasePages, Cursor
from hipedge.store.store import Store
from hipedge.types import ABNORMAL, Category, Mark, Refusal, Side
from tests.builders import RULE, content, film, scored_hip, screened

OTHER_RULE = replace(RULE, operating_point="specific")
RULES = {"model": RULE, "newer": OTHER_RULE}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "hipedge.db") as store:
        yield store


def run_of(store, model_id="model"):
    return store.start_run(
        model_id=model_id, model_name=model_id, model_status="research", card="{}",
        backend="b", backend_reason="r", versions={},
    )  # fmt: skip


def some_outcomes(rng, start, count, rule):
    for n in range(start, start + count):
        one = film(f"f{n}", pixels=f"p{n}")
        kind = rng.random()
        if kind < 0.1:
            code = rng.choice([Code.DECODE_FAILED, Code.LATERAL_VIEW, Code.WRONG_MODALITY])
            yield Refusal(one.source, code, content_hash=one.content_hash)
            continue
        hips = [
            scored_hip(rng.choice([Category.NORMAL, *ABNORMAL]), side)
            for side in (Side.RIGHT, Side.LEFT)
        ]
        marks = [Mark.SIDE_UNCLEAR] if kind < 0.2 else []
        yield screened(one, *hips, rule=rule, marks=marks)


@pytest.fixture
def filled(store):
    """Films of two models; some were read by both, of which the newer row counts."""
    rng = random.Random(7)
    for model_id, start, count in (("model", 0, 80), ("newer", 60, 60)):
        rule = RULES[model_id]
        store.claim(film(f"f{n}").source for n in range(start, start + count))
        outcomes = some_outcomes(rng, start, count, rule)
        store.record(run_of(store, model_id), outcomes, rule)
    return CasePages(store, RULES)


def every_case(pages, name, wanted=None, rows=7):
    found, after = [], Cursor()
    while after is not None:
        page = pages.page(name, wanted, after, rows)
        assert len(page.cases) <= rows
        found += page.cases
        after = page.following and Cursor.parse(str(page.following))
    return found


def numbers(cases):
    return [case.file_id for case in cases]


def test_the_pages_hold_each_case_of_the_worklist_once(store, filled):
    worklist = list(store.worklist(RULES))
    flagged = {case.file_id for case in worklist if any(f.flagged for f in case.findings)}
    not_read = {case.file_id for case in worklist if case.code is not None}
    marked = {case.file_id for case in worklist if case.marks and case.code is None}
    assert min(map(len, (flagged, not_read, marked))) > 3
    for name, expected in [
        (CaseList.FLAGGED, flagged),
        (CaseList.NOT_READ, not_read),
        (CaseList.MARKED, marked),
    ]:
        found = numbers(every_case(filled, name))
        assert len(found) == len(set(found))
        assert set(found) == expected
        assert filled.count(name) == len(expected)


def test_urgent_cases_come_before_routine_ones(filled):
    def is_urgent(case):
        return any(f.flagged and f.priority.value == "urgent" for f in case.findings)

    urgency = [is_urgent(case) for case in every_case(filled, CaseList.FLAGGED)]
    assert urgency == sorted(urgency, reverse=True)
    assert 0 < sum(urgency) < len(urgency)


def test_a_filter_by_category_finds_it_on_either_hip(filled):
    category = Category.OSTEOARTHRITIS
    everything = every_case(filled, CaseList.FLAGGED)
    expected = {
        case.file_id for case in everything if any(category in f.flagged_for for f in case.findings)
    }
    found = every_case(filled, CaseList.FLAGGED, CaseFilter(category=category))
    assert set(numbers(found)) == expected
    assert len(found) == len(expected) > 2


def test_a_filter_by_time(filled):
    day, now = timedelta(days=1), datetime.now(timezone.utc)
    everything = numbers(every_case(filled, CaseList.ALL))
    assert numbers(every_case(filled, CaseList.ALL, CaseFilter(since=now - day))) == everything
    assert every_case(filled, CaseList.ALL, CaseFilter(since=now + day)) == []
    assert every_case(filled, CaseList.ALL, CaseFilter(until=now - day)) == []


def shown_of(case):
    return Shown(case.content_hash, "model", RULE.rule_id, 0, Side.RIGHT, Category.NORMAL, False)


@pytest.mark.parametrize("name", [CaseList.FLAGGED, CaseList.MARKED, CaseList.ALL])
def test_a_filter_by_answer_and_by_reader(store, filled, name):
    everything = every_case(filled, name)
    answered = everything[2]
    Feedback(store).append(shown_of(answered), Verdict.NOT_JUDGED, None, reader="rita")

    def found(**values):
        return numbers(every_case(filled, name, CaseFilter(**values)))

    assert found(answered=True) == [answered.file_id]
    assert found(answered=False) == [n for n in numbers(everything) if n != answered.file_id]
    assert found(answered=True, reader="robert") == []
    assert found(answered=False, reader="robert") == numbers(everything)


def test_a_folder_is_no_beginning_of_another_ones_name(store):
    outcomes = [
        screened(film("a", folder=Path("/in/ward")), rule=RULE),
        screened(film("b", pixels="b", folder=Path("/in/ward2")), rule=RULE),
    ]
    store.record(run_of(store), outcomes, RULE)
    pages = CasePages(store, RULES)
    found = every_case(pages, CaseList.ALL, CaseFilter(folder=Path("/in/ward")))
    assert [case.path for case in found] == [Path("/in/ward/a.dcm")]


@pytest.mark.parametrize("text", ["x", "1", "1.", "1.x", "-1.2", "1.2.3", "1.9999999999999999999"])
def test_a_cursor_that_is_none_is_refused(text):
    with pytest.raises(InputError):
        Cursor.parse(text)


def test_a_hip_without_a_decision_is_noticed_once_it_is_there(store):
    store.record(run_of(store), [screened(film("a"), rule=RULE)], RULE)
    missing, newest = store.undecided_after(0, {"model": RULE})
    assert (missing, newest) == (False, 1)
    store.record(run_of(store), [screened(film("b", pixels="b"), rule=OTHER_RULE)], OTHER_RULE)
    assert store.undecided_after(newest, {"model": RULE}) == (True, 2)
    store.apply_rule("model", RULE)
    assert store.undecided_after(newest, {"model": RULE}) == (False, 2)


def test_an_answer_is_corrected_once_and_by_its_reader_alone(store):
    store.record(run_of(store), [screened(film("a"), rule=RULE)], RULE)
    feedback, shown = Feedback(store), shown_of(store.case(1, RULE.rule_id))
    first = feedback.append(shown, Verdict.NOT_JUDGED, None, reader="rita")
    for values in ({}, {"reader": "robert", "corrects": first}, {"corrects": 99}):
        with pytest.raises(StaleAnswer):
            feedback.append(shown, Verdict.RIGHT, Category.NORMAL, **{"reader": "rita"} | values)
    second = feedback.append(shown, Verdict.IMAGE_UNFIT, None, reader="rita", corrects=first)
    with pytest.raises(StaleAnswer):
        feedback.append(shown, Verdict.RIGHT, Category.NORMAL, reader="rita", corrects=first)
    assert [answer.answer_id for answer in feedback.present()] == [second]
    assert len(feedback.of_film(content("a"))) == 2


def test_answers_stay_when_results_are_removed(store):
    from hipedge.store.queue import Queue

    store.record(run_of(store), [screened(film("a"), rule=RULE)], RULE)
    feedback = Feedback(store)
    feedback.append(shown_of(store.case(1, RULE.rule_id)), Verdict.NOT_JUDGED, None, reader="rita")
    assert Queue(store).prune(datetime.now(timezone.utc) + timedelta(days=1)) == 1
    assert len(feedback.present()) == 1
    assert feedback.studies() == {}


def test_no_index_of_the_lists_is_used_to_look_for_duplicates(store):
    """With it, each new film would be compared with all screened ones."""
    store.record(run_of(store), [screened(film("a"), rule=RULE)], RULE)
    with closing(sqlite3.connect(store.path)) as db:
        plan = db.execute(
            "explain query plan select id from files where sop_instance_uid = 'x'"
            " and state = 'screened' and model_id = 'm' and pipeline_version = 1"
        ).fetchall()
    assert "files_by_instance" in str(plan)


def of_patient(name, day, patient="p1", **values):
    studied_on = date.fromisoformat(day)
    uid = values.pop("study_instance_uid", f"1.{name}")
    return screened(
        film(name, pixels=name, patient=patient, studied_on=studied_on, study_instance_uid=uid,
             **values)
    )  # fmt: skip


def test_other_studies_of_a_patient_are_found_the_newest_first(store):
    run = run_of(store)
    store.record(run, [
        of_patient("new", "2026-03-01"),
        of_patient("oldest", "2019-03-01"),
        of_patient("beside", "2026-03-01", study_instance_uid="1.new"),
        of_patient("middle", "2024-03-01"),
        of_patient("other", "2024-03-01", patient="p2"),
        screened(film("nobody", pixels="n")),
    ], RULE)  # fmt: skip
    newer = run_of(store, "newer")
    store.record(newer, [of_patient("middle", "2024-03-01")], OTHER_RULE)
    pages = CasePages(store, RULES)
    found = pages.of_patient(pages.case(1))
    assert [(one.path.stem, one.studied_on) for one in found] == [
        ("middle", "2024-03-01"), ("oldest", "2019-03-01"),
    ]  # fmt: skip
    assert found[0].model_id == "newer"  # of several rows of a content the newest
    assert pages.of_patient(pages.case(5)) == pages.of_patient(pages.case(6)) == ()


def test_an_identifier_that_very_many_films_bear_is_nobodys(store):
    films = [of_patient(f"f{n}", "2024-03-01") for n in range(MAX_FILMS_OF_PATIENT + 1)]
    store.record(run_of(store), films[:-1], RULE)
    pages = CasePages(store, RULES)
    assert len(pages.of_patient(pages.case(1))) == MAX_FILMS_OF_PATIENT - 1
    store.record(run_of(store), films[-1:], RULE)
    assert pages.of_patient(pages.case(1)) == ()


def test_films_of_a_patient_are_found_by_an_index(store):
    with closing(sqlite3.connect(store.path)) as db:
        plan = db.execute(
            "explain query plan select id from files where patient = 'x' order by studied_on"
        ).fetchall()
    assert "files_by_patient" in str(plan)
