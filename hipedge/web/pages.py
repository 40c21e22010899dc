"""The pages: the worklist, a case, the agreement with readers, and the log."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from hipedge.review.agreement import ALARM_AT, BASELINE, agreement_of
from hipedge.review.worklist import describe_model
from hipedge.rules.decide import HARDWARE_NOTE
from hipedge.store.feedback import Answer, Feedback, Verdict, without_corrected
from hipedge.store.pages import COUNT_LIMIT, CaseFilter, CaseList
from hipedge.store.rows import Case
from hipedge.store.studies import NONE_RESERVED, Reserved
from hipedge.types import ABNORMAL, CATEGORIES, HARDWARE, Finding, ScoredHip
from hipedge.web.decoder import Busy
from hipedge.web.levels import first_halvings, level_request
from hipedge.web.render import page
from hipedge.web.site import Review, Site
from hipedge.web.viewer import viewer_data, viewer_hip
from hipedge.web.visit import ListView, Visit

LOG_ROWS = 200


@dataclass(frozen=True, eq=False)
class Entry:
    """A line of a list: a case, whether its findings are shown, and the address of its page."""

    case: Case
    shown: bool
    address: str
    readers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class HipView:
    """A hip on the page of its case.

    `mine` is this reader's present answer; `answers` are those of all readers, the corrected ones
    too. Both are about this hip under the model that read the film.
    """

    number: int
    scored: ScoredHip
    finding: Finding
    shown: bool
    mine: Answer | None
    answers: tuple[Answer, ...]

    @property
    def note(self) -> str:
        """What is not assessed about the hip."""
        return HARDWARE_NOTE if self.finding.category in HARDWARE else ""


def worklist(site: Site, visit: Visit) -> Response:
    """Show a list of cases, with its filters."""
    hidden = site.hides_findings(visit.login.role)
    view = ListView.of(visit, hidden=hidden)
    with site.review() as review:
        view.check_folder(review.folders())
        reserved = site.reserved(visit.login.user)
        reader = visit.login.user if hidden else None
        counted = CaseFilter(answered=False, reader=reader, reserved=reserved)
        lists = [one for one in CaseList if not (hidden and one is CaseList.FLAGGED)]
        counts = {one: review.pages.count(one, counted) for one in lists if one is not CaseList.ALL}
        return page(
            "worklist.html",
            login=visit.login,
            view=view,
            lists=lists,
            counts=counts,
            count_limit=COUNT_LIMIT,
            folders=review.folders(),
            categories=ABNORMAL,
            blind=hidden,
            reserved=reserved != NONE_RESERVED,
            **_rows(site, visit, review, view),
        )


def rows(site: Site, visit: Visit) -> Response:
    """Answer with the rows of a list alone, which an open page asks for again and again."""
    view = ListView.of(visit, hidden=site.hides_findings(visit.login.role))
    with site.review() as review:
        view.check_folder(review.folders())
        response = page("rows.html", login=visit.login, view=view,
                        **_rows(site, visit, review, view))  # fmt: skip
    tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache, no-store"}
    if visit.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def search(site: Site, visit: Visit) -> Response:
    """Show the cases that a UID, path, hash or row number names."""
    key = visit.parameter("q").strip()[:1000]
    with site.review() as review:
        reserved = site.reserved(visit.login.user)
        found = _not_reserved(review.pages.search(key), reserved) if key else []
        entries = _entries(site, visit, review, found, [""] * len(found))
    site.log(visit.login.user, visit.address, "search", None, f"{len(found)} found")
    return page("search.html", login=visit.login, key=key, entries=entries)


def case(site: Site, visit: Visit) -> Response:
    """Show a film with its findings, and the form for answers."""
    hidden = site.hides_findings(visit.login.role)
    view = ListView.of(visit, hidden=hidden)
    with site.review() as review:
        reserved = site.reserved(visit.login.user)
        shown = visit.case(review, reserved)
        answers = Feedback(review.store).of_film(shown.content_hash) if shown.content_hash else []
        hips = _hips(shown, answers, visit.login.user, hidden=hidden)
        following = None
        if visit.parameter("list"):
            wanted = view.filter(visit.login.user, reserved, blind=site.blind)
            after = review.pages.page(view.name, wanted, view.cursor, rows=1)
            for one, cursor in zip(after.cases, after.cursors, strict=True):
                following = f"/case/{one.file_id}?{view.query(after=str(cursor))}"
        study = _not_reserved(review.pages.of_study(shown), reserved)
        others = _not_reserved(review.pages.of_patient(shown), reserved)
    _decode_ahead(site, shown)
    site.log(visit.login.user, visit.address, "case", shown.content_hash)
    return page(
        "case.html",
        login=visit.login,
        case=shown,
        model=describe_model(shown),
        hips=hips,
        hidden=hidden,
        missed=[a for a in without_corrected(answers) if a.verdict is Verdict.HIP_MISSED],
        data=_viewer_data(shown, hips, _earlier(shown, others)),
        others=others,
        query=visit.request.url.query,
        back=view.query() if visit.parameter("list") else "",
        following=following,
        study=study,
        categories=CATEGORIES,
    )


def _not_reserved(cases: Sequence[Case], reserved: Reserved) -> list[Case]:
    """Return the cases without the films that the reader sees in a study only."""
    return [one for one in cases if not reserved.holds(one.content_hash, one.sop_instance_uid)]


def _decode_ahead(site: Site, one: Case) -> None:
    """Begin to decode what the viewer will ask for first, while its page is on the way."""
    if one.shape is None or one.content_hash is None:
        return
    request = level_request(one.path, one.content_hash, one.marks, first_halvings(one.shape))
    with suppress(Busy):
        site.decoder.submit(request)


def agreement(site: Site, visit: Visit) -> Response:
    """Show how readers agree with the findings, and whether that has changed."""
    with site.review() as review:
        found = agreement_of(Feedback(review.store).present())

    def height(value: float) -> float:
        return 150 - 140 * value / (2 * ALARM_AT)

    step = 600 / max(1, len(found.chart) - 1)
    line = (f"{10 + step * i:.1f},{height(value):.1f}" for i, value in enumerate(found.chart))
    return page(
        "agreement.html",
        login=visit.login,
        agreement=found,
        baseline=BASELINE,
        alarm_at=ALARM_AT,
        points=" ".join(line),
        y=height,
    )


def password(site: Site, visit: Visit) -> Response:
    """Show the form for a new password."""
    return page("password.html", login=visit.login, by_link=site.sessions.has_link)


def log(site: Site, visit: Visit) -> Response:
    """Show who did what, newest first."""
    text = visit.parameter("before")
    before = int(text) if text.isdecimal() and len(text) <= 18 else None
    with site.accounts() as accounts:
        lines = accounts.audit(before, LOG_ROWS)
    older = lines[-1][0] if len(lines) == LOG_ROWS else None
    return page("log.html", login=visit.login, lines=[entry for _, entry in lines], older=older)


def _rows(site: Site, visit: Visit, review: Review, view: ListView) -> dict[str, Any]:
    """Return the values of the template of a list's rows."""
    wanted = view.filter(visit.login.user, site.reserved(visit.login.user), blind=site.blind)
    found = review.pages.page(view.name, wanted, view.cursor)
    queries = [view.query(after=str(cursor)) for cursor in found.cursors]
    entries = _entries(site, visit, review, found.cases, queries)
    following = found.following and view.query(after=str(found.following))
    return {"entries": entries, "following": following, "complete": review.complete}


def _entries(
    site: Site, visit: Visit, review: Review, cases: Sequence[Case], queries: Sequence[str]
) -> list[Entry]:
    """Return the lines of some cases; each links to its page with a query."""
    answers = Feedback(review.store).of_films(
        [one.content_hash for one in cases if one.content_hash]
    )
    hidden = site.hides_findings(visit.login.role)
    entries = []
    for one, query in zip(cases, queries, strict=True):
        present = without_corrected(answers.get(one.content_hash or "", []))
        address = f"/case/{one.file_id}" + (f"?{query}" if query else "")
        readers = tuple(dict.fromkeys(answer.reader for answer in present))
        shown = not hidden or _has_answered_all(one, present, visit.login.user)
        entries.append(Entry(one, shown, address, readers))
    return entries


def _has_answered_all(one: Case, answers: Sequence[Answer], reader: str) -> bool:
    mine = {
        answer.shown.hip
        for answer in answers
        if answer.reader == reader and answer.shown.model_id == one.model_id
    }
    return set(range(len(one.hips))) <= mine


def _hips(one: Case, answers: Sequence[Answer], reader: str, *, hidden: bool) -> list[HipView]:
    present = {answer.answer_id for answer in without_corrected(list(answers))}
    views = []
    for number, (scored, finding) in enumerate(zip(one.hips, one.findings, strict=True)):
        about = tuple(
            answer
            for answer in answers
            if answer.shown.hip == number and answer.shown.model_id == one.model_id
        )
        mine = next((a for a in about if a.reader == reader and a.answer_id in present), None)
        # Nor are the answers of others shown to a reader who has not answered yet.
        shown = not hidden or mine is not None
        views.append(HipView(number, scored, finding, shown, mine, about if shown else ()))
    return views


def _earlier(one: Case, others: Sequence[Case]) -> Case | None:
    """Return the newest film that can be shown of those that were made before this one."""
    before = one.studied_on or ""
    return next(
        (
            other
            for other in others
            if other.shape and other.content_hash and other.studied_on and other.studied_on < before
        ),
        None,
    )


def _viewer_data(one: Case, hips: Sequence[HipView], earlier: Case | None) -> dict[str, Any] | None:
    """Return what the viewer needs to know of a film and an earlier one.

    None where there is no film to show. Of the earlier one it shows no findings.
    """
    if one.shape is None or one.content_hash is None:
        return None
    return viewer_data(
        f"/film/{one.file_id}",
        one.shape,
        one.spacing_mm,
        one.marks,
        [viewer_hip(hip.scored, hip.finding if hip.shown else None) for hip in hips],
        date=one.studied_on,
        earlier=_viewer_data(earlier, (), None) if earlier else None,
    )
