"""The dashboard: what was screened, how soon, what was flagged and refused, and who agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from starlette.responses import Response

from hipedge.errors import CODES, Code, InputError
from hipedge.store.figures import UNCERTAIN, Figures, count_figures
from hipedge.types import ABNORMAL
from hipedge.web import charts
from hipedge.web.render import page, words
from hipedge.web.site import Site
from hipedge.web.visit import Visit

PERIODS = (7, 30, 365)
DEFAULT_DAYS = 30


@dataclass(frozen=True)
class Share:
    """A row of a bar chart: a name, what it means, a count, and the bar's length in percent."""

    name: str
    meaning: str
    count: int
    percent: float


def dashboard(site: Site, visit: Visit) -> Response:
    """Show the figures of some days. Where findings are hidden, so is what was flagged."""
    days = _days(visit)
    hidden = site.hides_findings(visit.login.role)
    with site.review() as review:
        rule_ids = {rule.rule_id for rule in review.rules.values()}
        figures = count_figures(review.store, rule_ids, *charts.period(date.today(), days))
        complete = review.complete
    screened = sum(one.screened for one in figures.films.values())
    each = 7 if days > charts.LONG_DAYS else 1  # answers are few
    return page(
        "dashboard.html",
        login=visit.login,
        periods=PERIODS,
        days=days,
        figures=figures,
        screened=screened,
        not_read=sum(one.not_read for one in figures.films.values()),
        films=charts.films_chart(figures.days, figures.films),
        waits=charts.waits_chart(figures.days, figures.waits),
        flags=None if hidden else _flags(figures.flags),
        flags_complete=complete,
        refusals=_refusals(figures.refusals),
        agreement=charts.agreement_chart(figures.days, figures.answers, each),
        answers_each=each,
        rows=_rows(figures),
    )


def _days(visit: Visit) -> int:
    text = visit.parameter("days") or str(DEFAULT_DAYS)
    if text not in map(str, PERIODS):
        raise InputError("there is no such period")
    return int(text)


def _flags(flags: Mapping[str, int]) -> list[Share]:
    """Return all categories in their own order, and those that this version does not know."""
    known = [*(category.value for category in ABNORMAL), UNCERTAIN]
    names = [*known, *(name for name in flags if name not in known)]
    most = max(flags.values(), default=0) or 1
    return [
        Share(words(name), "", flags.get(name, 0), 100 * flags.get(name, 0) / most)
        for name in names
    ]


def _refusals(refusals: Mapping[str, int]) -> list[Share]:
    most = max(refusals.values(), default=0) or 1
    return [
        Share(code, _meaning(code), count, 100 * count / most) for code, count in refusals.items()
    ]


def _meaning(code: str) -> str:
    try:
        return CODES[Code(code)].meaning
    except ValueError:
        return "a code of another version of hipedge"


def _rows(figures: Figures) -> list[tuple[date, object, object]]:
    """Return the days with anything to tell, newest first: their films and their waits."""
    days = sorted({*figures.films, *figures.waits}, reverse=True)
    return [(day, figures.films[day], figures.waits.get(day)) for day in days]
