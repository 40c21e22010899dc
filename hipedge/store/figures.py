"""What was recorded on each day, counted by indexes: a year of a large site in a moment."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from hipedge.errors import State
from hipedge.store.connection import placeholders, utc_text
from hipedge.store.store import Store, other_modality_codes

# Of a hip that is flagged because no category is certain enough.
UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class FilmCounts:
    """Files of one day by how they ended. `other` are neither radiographs nor pictures."""

    screened: int = 0
    not_read: int = 0
    duplicates: int = 0
    other: int = 0


@dataclass(frozen=True)
class Waits:
    """How long the screened films of one day waited, from arrival to result, in seconds.

    Each percentile is the time of a film: the nearest rank.
    """

    films: int
    median_s: float
    p95_s: float


@dataclass(frozen=True)
class Answers:
    """The judged hips of some days, and on how many of them the reader agreed."""

    judged: int = 0
    agreed: int = 0


@dataclass(frozen=True)
class Figures:
    """What was recorded from `first` to `last`, both included; days without anything are left out.

    `flags` are flagged hips by category, of which a hip may have several, and `refusals` files by
    code, both by the name in the database, which a newer version of hipedge may have written. A
    film that is read again, by another model, counts again. `later` is the number of files that
    were recorded after `last`: if that is today, the clock was wrong.
    """

    first: date
    last: date
    films: Mapping[date, FilmCounts]
    waits: Mapping[date, Waits]
    flags: Mapping[str, int]
    refusals: Mapping[str, int]
    answers: Mapping[date, Answers]
    later: int

    @property
    def days(self) -> list[date]:
        """All days of the period."""
        count = (self.last - self.first).days + 1
        return [self.first + timedelta(days=n) for n in range(count)]


def count_figures(store: Store, rule_ids: Collection[str], first: date, last: date) -> Figures:
    """Count what was recorded from `first` to `last`; flags are those under the present rules."""
    days = (first.isoformat(), last.isoformat())
    films, refusals = _films(store, days)
    return Figures(
        first=first,
        last=last,
        films=films,
        waits=_waits(store, days),
        flags=_flags(store, rule_ids, days),
        refusals=refusals,
        answers=_answers(store, first, last),
        later=store.query("select count(*) as n from files where day > ?", [days[1]])[0]["n"],
    )


def _films(store: Store, days: Sequence[str]) -> tuple[dict[date, FilmCounts], dict[str, int]]:
    counts: dict[date, Counter[str]] = {}
    refusals = Counter[str]()
    other = other_modality_codes()
    for row in store.query(
        "select day, state, code, count(*) as n from files indexed by files_by_day"
        " where day between ? and ? group by day, state, code",
        days,
    ):
        kind = _kind(State(row["state"]), row["code"], other)
        counts.setdefault(date.fromisoformat(row["day"]), Counter())[kind] += row["n"]
        if row["code"] is not None and kind != "duplicates":
            refusals[row["code"]] += row["n"]
    return {day: FilmCounts(**each) for day, each in counts.items()}, dict(refusals.most_common())


def _kind(state: State, code: str | None, other: Collection[str]) -> str:
    """Return the field of `FilmCounts` that a file belongs to."""
    if state is State.SCREENED:
        return "screened"
    if state is State.DUPLICATE:
        return "duplicates"
    return "other" if code in other else "not_read"


def _waits(store: Store, days: Sequence[str]) -> dict[date, Waits]:
    """Return the percentiles of each day, which its part of the index has in order."""
    waiting = "from files indexed by files_by_wait where waited_s is not null"
    found = {}
    for row in store.query(
        f"select day, count(*) as n {waiting} and day between ? and ? group by day", days
    ):
        day, films = row["day"], row["n"]
        # From the nearer end of the day: the films before are passed one by one.
        (median, p95) = store.query(
            f"select * from (select waited_s {waiting} and day = ?1 order by waited_s"
            " limit 1 offset ?2) union all select * from (select waited_s"
            f" {waiting} and day = ?1 order by waited_s desc limit 1 offset ?3)",
            [day, math.ceil(0.5 * films) - 1, films - math.ceil(0.95 * films)],
        )
        found[date.fromisoformat(day)] = Waits(films, median["waited_s"], p95["waited_s"])
    return found


def _flags(store: Store, rule_ids: Collection[str], days: Sequence[str]) -> dict[str, int]:
    flags = Counter[str]()
    if not rule_ids:  # before the first film, where SQLite has no use for the index either
        return {}
    for row in store.query(
        "select flagged_for, count(*) as n from decisions indexed by decisions_by_day"
        f" where rule_id in ({placeholders(rule_ids)}) and day between ? and ? and flagged"
        " group by flagged_for",
        [*rule_ids, *days],
    ):
        for category in json.loads(row["flagged_for"]) or [UNCERTAIN]:
            flags[category] += row["n"]
    return dict(flags.most_common())


def _answers(store: Store, first: date, last: date) -> dict[date, Answers]:
    """Count the present answers about the category of a hip by the day on which they were given."""
    rows = store.query(
        "select date(answered_at, 'localtime') as day, count(*) as judged,"
        " sum(verdict = 'right') as agreed from feedback where answered_at >= ? and answered_at < ?"
        " and verdict in ('right', 'wrong') and not exists"
        " (select 1 from feedback later where later.corrects = feedback.id) group by day",
        [utc_text(_midnight(first)), utc_text(_midnight(last + timedelta(days=1)))],
    )
    return {date.fromisoformat(row["day"]): Answers(row["judged"], row["agreed"]) for row in rows}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time()).astimezone()
