"""Agreement of readers, its interval and its drift."""

import random

import pytest

from hipedge.review.agreement import ALARM_AT, BASELINE, WINDOW, agreement_of, cusum, wilson
from hipedge.store.feedback import Answer, Shown, Verdict
from hipedge.types import Category, Side
from tests.builders import content


def answers(*verdicts, blind=False):
    shown = Shown(content("film"), "m", "r", 0, Side.RIGHT, Category.NORMAL, False)
    return [
        Answer(n, shown, verdict, None, blind, "rita", "2026", "", None)
        for n, verdict in enumerate(verdicts)
    ]


def drawn(rate, count, seed=1):
    rng = random.Random(seed)
    return [Verdict.WRONG if rng.random() < rate else Verdict.RIGHT for _ in range(count)]


def test_the_interval_is_wilsons():
    proportion_confint = pytest.importorskip("statsmodels.stats.proportion").proportion_confint
    for successes, n in [(0, 1), (1, 1), (7, 10), (190, 200), (200, 200)]:
        expected = proportion_confint(successes, n, method="wilson")
        assert wilson(successes, n) == pytest.approx(expected, abs=1e-6)


def test_without_answers_there_is_no_agreement():
    found = agreement_of([])
    assert (found.judged, found.interval, found.alarm) == (0, None, False)


def test_only_judged_hips_of_the_newest_answers_count():
    many = [Verdict.WRONG] * 50 + [Verdict.RIGHT] * WINDOW
    found = agreement_of(answers(*many, Verdict.NOT_JUDGED, Verdict.IMAGE_UNFIT))
    assert (found.judged, found.agreed) == (WINDOW, WINDOW)
    assert found.other_verdicts[Verdict.IMAGE_UNFIT] == 1


def test_there_is_no_drift_before_the_baseline_is_complete():
    found = agreement_of(answers(*[Verdict.WRONG] * (BASELINE - 1)))
    assert (found.expected, found.chart, found.alarm) == (None, (), False)


def test_a_doubled_rate_of_disagreement_is_an_alarm_and_an_unchanged_one_is_not():
    unchanged = drawn(0.1, BASELINE) + drawn(0.1, 300, seed=2)
    doubled = drawn(0.1, BASELINE) + drawn(0.3, 300, seed=2)
    assert not agreement_of(answers(*unchanged)).alarm
    assert agreement_of(answers(*doubled)).alarm


def test_an_alarm_ends_when_agreement_is_back():
    chart = cusum([True] * 50 + [False] * 400, 0.1)
    assert max(chart) >= ALARM_AT
    assert chart[-1] == 0


def test_false_alarms_are_rare():
    """Of 40 unchanged sites with 500 answers each after the baseline, few are given an alarm."""
    alarms = sum(
        max(cusum([v is Verdict.WRONG for v in drawn(0.1, 500, seed)], 0.1)) >= ALARM_AT
        for seed in range(40)
    )
    assert alarms <= 4
