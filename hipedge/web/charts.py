"""Scales and marks of charts over days, which a template draws as SVG.

Across, places are in percent of the plot's width, and down in pixels: a chart is then as wide as
the page, while its text and lines keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from hipedge.review.agreement import wilson
from hipedge.store.figures import Answers, FilmCounts, Waits

HEIGHT_PX = 190
MAX_DAY_LABELS = 5
# A period of more days is divided by quarters of the year.
LONG_DAYS = 92
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0
# The lines of a logarithmic axis of times; no screening is quicker than the first.
_TIMES_S = (0.1, 1.0, 10.0, _MINUTE_S, 10 * _MINUTE_S, _HOUR_S, 10 * _HOUR_S,
            *(_DAY_S * 10**power for power in range(7)))  # fmt: skip


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A part of a day's column, from `top` down, `height` pixels long."""

    kind: str
    top: float
    height: float


@dataclass(frozen=True)
class Column:
    """What is drawn of one day, or of some: bars, or a value with a range from `top` to `bottom`.

    `left` and `width` are its place across; `text` says it in words.
    """

    left: float
    width: float
    text: str
    bars: tuple[Bar, ...] = ()
    value: float | None = None
    top: float = 0.0
    bottom: float = 0.0

    @property
    def middle(self) -> float:
        """The middle of its place across."""
        return self.left + self.width / 2


@dataclass(frozen=True)
class Chart:
    """A chart over days; without columns there is nothing to draw."""

    columns: tuple[Column, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    height: int = HEIGHT_PX


def films_chart(days: Sequence[date], films: Mapping[date, FilmCounts]) -> Chart:
    """Return the screened films of each day as bars, with those that were not read on top."""
    most = max((one.screened + one.not_read for one in films.values()), default=0)
    steps = count_steps(most)
    scale = HEIGHT_PX / steps[-1]
    columns = []
    for number, day in enumerate(days):
        if (one := films.get(day)) is None:
            continue
        bars = (
            Bar("screened", HEIGHT_PX - scale * one.screened, scale * one.screened),
            Bar("notread", HEIGHT_PX - scale * (one.screened + one.not_read), scale * one.not_read),
        )
        text = f"{day}: {one.screened} screened, {one.not_read} not read"
        columns.append(_column(number, len(days), text, bars=bars))
    ticks = tuple(Tick(HEIGHT_PX - scale * step, f"{step:,}") for step in steps)
    return Chart(tuple(columns), day_ticks(days), ticks)


def waits_chart(days: Sequence[date], waits: Mapping[date, Waits]) -> Chart:
    """Return each day's median and the range up to its 95th percentile, on a logarithmic axis."""
    if not waits:
        return Chart((), (), ())
    lowest = min(one.median_s for one in waits.values())
    highest = max(one.p95_s for one in waits.values())
    steps = time_steps(lowest, highest)
    low, high = math.log(steps[0]), math.log(steps[-1])

    def place(time_s: float) -> float:
        return HEIGHT_PX * (1 - (math.log(max(time_s, steps[0])) - low) / (high - low))

    columns = []
    for number, day in enumerate(days):
        if (one := waits.get(day)) is None:
            continue
        text = (
            f"{day}: median {duration(one.median_s)}, 95th percentile {duration(one.p95_s)},"
            f" {one.films} films"
        )
        median = place(one.median_s)
        columns.append(
            _column(number, len(days), text, value=median, top=place(one.p95_s), bottom=median)
        )
    ticks = tuple(Tick(place(step), duration(step)) for step in steps)
    return Chart(tuple(columns), day_ticks(days), ticks)


def agreement_chart(days: Sequence[date], answers: Mapping[date, Answers], each: int) -> Chart:
    """Return the share of judged hips on which readers agree, with Wilson's interval of 95 %.

    `each` is the number of days that make up a point, counted back from the last one.
    """
    groups = [days[max(0, end - each) : end] for end in range(len(days), 0, -each)][::-1]
    columns = []
    for number, group in enumerate(groups):
        judged = sum(answers[day].judged for day in group if day in answers)
        agreed = sum(answers[day].agreed for day in group if day in answers)
        if not judged:
            continue
        low, high = wilson(agreed, judged)
        when = str(group[0]) if each == 1 else f"{group[0]} to {group[-1]}"
        text = (
            f"{when}: {100 * agreed / judged:.0f} % of {judged}"
            f" (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
        )
        value, top, bottom = (HEIGHT_PX * (1 - share) for share in (agreed / judged, high, low))
        columns.append(_column(number, len(groups), text, value=value, top=top, bottom=bottom))
    ticks = tuple(Tick(HEIGHT_PX * (1 - share), f"{100 * share:.0f} %") for share in (0, 0.5, 1))
    return Chart(tuple(columns), day_ticks(days), ticks)


def count_steps(most: int) -> list[int]:
    """Return the lines of an axis of counts: from 0, by 1, 2 or 5 times a power of ten."""
    step = 1
    while most > 4 * step:
        step = next(n for n in _round_numbers(step) if n > step)
    return list(range(0, max(most, 1) + step, step))


def _round_numbers(start: int) -> Iterable[int]:
    power = 10 ** int(math.log10(start))
    return (power, 2 * power, 5 * power, 10 * power)


def time_steps(lowest_s: float, highest_s: float) -> list[float]:
    """Return the lines of a logarithmic axis on which both times lie."""
    first = max((n for n, step in enumerate(_TIMES_S[:-1]) if step <= lowest_s), default=0)
    last = next((n for n, step in enumerate(_TIMES_S) if step >= highest_s), len(_TIMES_S) - 1)
    return list(_TIMES_S[first : max(last, first + 1) + 1])


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it, with two digits."""
    for unit_s, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{_two_digits(seconds / unit_s)} {name}"
    return f"{_two_digits(seconds)} s"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{float(f'{value:.2g}'):g}"


def day_ticks(days: Sequence[date]) -> tuple[Tick, ...]:
    """Return labels of a few days at the middle of their columns.

    These are the first days of quarters in a long period, else regular ones up to the last.
    """
    if len(days) > LONG_DAYS:
        labels = {
            n: f"{day:%b %Y}" for n, day in enumerate(days) if (day.month % 3, day.day) == (1, 1)
        }
    else:
        step = math.ceil(len(days) / MAX_DAY_LABELS)
        labels = {n: f"{days[n].day} {days[n]:%b}" for n in range(len(days) - 1, -1, -step)}
    return tuple(Tick(100 * (n + 0.5) / len(days), text) for n, text in labels.items())


def period(last: date, days: int) -> tuple[date, date]:
    """Return the first and last of so many days."""
    return last - timedelta(days=days - 1), last


def _column(
    number: int,
    count: int,
    text: str,
    bars: tuple[Bar, ...] = (),
    value: float | None = None,
    top: float = 0.0,
    bottom: float = 0.0,
) -> Column:
    width = 100 / count
    return Column(width * number, width, text, bars, value, top, bottom)
