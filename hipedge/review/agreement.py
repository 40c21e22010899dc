"""How readers agree with the findings, lately and over time: a rolling window and a CUSUM chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hipedge.store.feedback import JUDGED, Answer, Verdict

# The newest answers that make up the present agreement.
WINDOW = 200
# The first answers, from which the expected rate of disagreement comes; no alarm before.
BASELINE = 100
# The chart looks for twice the odds of disagreement, and is an alarm at this value: Steiner et al.
# 2000, Biostatistics 1:441–452.
ODDS_RATIO = 2.0
ALARM_AT = 4.5
# The quantile of the normal distribution for an interval of 95 %.
_Z = 1.959964


@dataclass(frozen=True)
class Agreement:
    """Agreement of readers with findings, in judged answers.

    `agreed` of `judged` answers are the newest `WINDOW`; `interval` is Wilson's of 95 %, None
    without answers. `blind` is how many of them were given before the finding was shown: only these
    are free of automation bias. `chart` (N,) is the CUSUM after each answer since the baseline,
    `expected` the baseline's rate of disagreement, None before it is complete.
    """

    judged: int
    agreed: int
    blind: int
    interval: tuple[float, float] | None
    expected: float | None
    chart: tuple[float, ...]
    other_verdicts: dict[Verdict, int]

    @property
    def alarm(self) -> bool:
        """Whether readers have come to disagree more often than at first."""
        return bool(self.chart) and self.chart[-1] >= ALARM_AT


def agreement_of(answers: Sequence[Answer]) -> Agreement:
    """Return the agreement in the present answers, oldest first, of any readers."""
    judged = [answer for answer in answers if answer.verdict in JUDGED]
    window = judged[-WINDOW:]
    agreed = sum(answer.verdict is Verdict.RIGHT for answer in window)
    expected = None
    chart: tuple[float, ...] = ()
    if len(judged) >= BASELINE:
        wrong = sum(answer.verdict is Verdict.WRONG for answer in judged[:BASELINE])
        # A rate of 0 would make the first disagreement an alarm.
        expected = (wrong + 0.5) / (BASELINE + 1)
        chart = cusum([a.verdict is Verdict.WRONG for a in judged[BASELINE:]], expected)
    return Agreement(
        judged=len(window),
        agreed=agreed,
        blind=sum(answer.blind for answer in window),
        interval=wilson(agreed, len(window)) if window else None,
        expected=expected,
        chart=chart,
        other_verdicts={
            verdict: sum(answer.verdict is verdict for answer in answers)
            for verdict in Verdict
            if verdict not in JUDGED
        },
    )


def cusum(events: Sequence[bool], expected: float) -> tuple[float, ...]:
    """Return the upper CUSUM of events after each of them, for a rate with `ODDS_RATIO`.

    It is the sum of log-likelihood ratios, never below 0. An alarm does not reset it, but lasts
    until agreement has been as expected for a while; at twice the alarm the sum grows no further,
    so that it can end.
    """
    denominator = 1 - expected + ODDS_RATIO * expected
    for_event, for_none = math.log(ODDS_RATIO / denominator), math.log(1 / denominator)
    value, chart = 0.0, []
    for event in events:
        value = min(2 * ALARM_AT, max(0.0, value + (for_event if event else for_none)))
        chart.append(value)
    return tuple(chart)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's score interval of 95 % (1927, J Am Stat Assoc 22:209–212), for n > 0."""
    p, z2 = successes / n, _Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
