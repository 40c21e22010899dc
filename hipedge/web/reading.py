"""A reader's way through a study: its page, one hip after the other, their times and answers.

A page names neither file nor patient: a name can tell the truth. What a reader has answered in one
phase is not shown in the other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from hipedge.csv_input import finite_number
from hipedge.errors import InputError
from hipedge.store.readings import CONFIDENCES, OF_PAGE, Event, Opening, Readings, Standing
from hipedge.store.studies import Phase, Studies, Study, StudyHip
from hipedge.types import CATEGORIES, Category
from hipedge.web.decoder import Busy
from hipedge.web.films import check_halvings, level_response
from hipedge.web.levels import Level, LevelRequest, first_halvings, level_request
from hipedge.web.render import page
from hipedge.web.site import Site
from hipedge.web.viewer import viewer_data, viewer_hip
from hipedge.web.visit import NotFound, Visit

CONFIDENCE_WORDS = dict(
    zip(CONFIDENCES, ("a guess", "unsure", "fairly sure", "sure", "certain"), strict=True)
)
# What the page shows instead of the film; it then offers to skip the hip.
FILM_MISSING = "This film cannot be shown now."
# A day: no hip is on the screen for longer.
MAX_MS = 86_400_000.0


def studies(site: Site, visit: Visit) -> Response:
    """Show the studies that a reader takes part in."""
    user = visit.login.user
    entries: list[tuple[Study, Standing]] = []
    if site.settings.study_database.exists():
        with site.studies() as opened:
            readings = Readings(opened)
            entries = [(one, readings.standing(one, user)) for one in opened.of_reader(user)]
    return page("studies.html", login=visit.login, entries=entries)


def study(site: Site, visit: Visit) -> Response:
    """Show what a study asks of its reader, and how far that reader is."""
    with site.studies() as opened:
        one = _study(opened, visit)
        standing = Readings(opened).standing(one, visit.login.user)
    return page(
        "study.html",
        login=visit.login,
        study=one,
        standing=standing,
        phases=[phase for phase in (Phase.TRAINING, *one.plan.phases) if _hips_in(one, phase)],
        hips_in=_hips_in,
        categories=CATEGORIES,
        confidences=CONFIDENCE_WORDS,
    )


def hip(site: Site, visit: Visit) -> Response:
    """Put a hip on the reader's screen: the next one, or the one that the address names."""
    user = visit.login.user
    position = _whole_number(visit.parameter("number"))
    with site.studies() as opened:
        one, readings = _study(opened, visit), Readings(opened)
        standing = readings.standing(one, user)
        if one.closed_at is not None or not standing.is_open:
            return RedirectResponse(f"/study/{one.study_id}", 303)
        opening = readings.open(one, user, None if position is None else position - 1)
        shown, given = readings.hip_of(opening), readings.given(opening)
    request = _level_request(shown, first_halvings(shown.shape))
    with suppress(Busy):
        site.decoder.submit(request)
    place = f"{one.plan.name}: {opening.phase.value} {opening.position + 1}"
    site.log(user, visit.address, "study_hip", shown.content_hash, place)
    finding = shown.finding if opening.phase is Phase.ASSISTED else None
    address = f"/study/{one.study_id}/film/{opening.opening_id}"
    drawn = [viewer_hip(shown.scored, finding)]
    return page(
        "reading.html",
        login=visit.login,
        study=one,
        opening=opening,
        total=standing.total,
        done=standing.done,
        shown=shown,
        side=shown.scored.hip.side.value,
        finding=finding,
        given=given,
        data=viewer_data(address, shown.shape, shown.spacing_mm, shown.marks, drawn),
        categories=CATEGORIES,
        confidences=CONFIDENCE_WORDS,
        may_return=one.plan.may_return(opening.phase),
        film_missing=FILM_MISSING,
        is_last=opening.position + 1 == standing.total,
    )


def truth(site: Site, visit: Visit) -> Response:
    """Show the truth about a hip of the training that was answered."""
    with site.studies() as opened:
        one, readings = _study(opened, visit), Readings(opened)
        opening = _opening(readings, one, visit, visit.request.path_params["opening_id"])
        given = readings.given(opening)
        if opening.phase is not Phase.TRAINING or given is None:
            raise NotFound("There is no such page.")
        shown = readings.hip_of(opening)
    return page("truth.html", login=visit.login, study=one, opening=opening, given=given,
                shown=shown)  # fmt: skip


async def level(site: Site, visit: Visit) -> Response:
    """Answer with one level of the film of an opening, as `films.level` does."""
    one, opening, shown = await run_in_threadpool(_shown, site, visit)
    halvings = int(visit.request.path_params["halvings"])
    check_halvings(shown.shape, halvings)
    request = _level_request(shown, halvings)
    decoded = await asyncio.shield(asyncio.wrap_future(site.decoder.submit(request)))
    is_shown = isinstance(decoded, Level)
    event = Event.FILM if is_shown else Event.UNAVAILABLE
    await run_in_threadpool(_record_once, site, one, opening, event)
    if isinstance(decoded, Level):
        return level_response(decoded)
    user, reason = visit.login.user, decoded.reason
    await run_in_threadpool(
        site.log, user, visit.address, "study_film_missing", shown.content_hash, reason
    )
    # The reason can name the file, which the log may and the reader may not see.
    return PlainTextResponse(FILM_MISSING, 410)


def event(site: Site, visit: Visit) -> Response:
    """Record what the page reports: the first picture, that it is still there, pauses."""
    kinds = {kind.value: kind for kind in OF_PAGE}
    kind = kinds.get(visit.fields.get("kind", ""))
    shown_ms, paused_ms = _reported(visit)
    if kind is None or shown_ms is None or paused_ms is None:
        raise InputError("The form was not one of this server's.")
    with site.studies() as opened:
        one, readings = _study(opened, visit), Readings(opened)
        opening = _opening(readings, one, visit, visit.fields.get("opening", ""))
        readings.record(one, opening, kind, shown_ms, paused_ms)
    return Response(status_code=204)


def answer(site: Site, visit: Visit) -> Response:
    """Record an answer, and go on to the next hip. Raises `StaleAnswer`, `InputError`."""
    user = visit.login.user
    shown_ms, paused_ms = _reported(visit)
    with site.studies() as opened:
        one, readings = _study(opened, visit), Readings(opened)
        opening = _opening(readings, one, visit, visit.fields.get("opening", ""))
        category, confidence = _answer(readings, opening, visit)
        readings.answer(one, opening, category, confidence, shown_ms=shown_ms, paused_ms=paused_ms)
        shown = readings.hip_of(opening)
        standing = readings.standing(one, user)
    place = f"{one.plan.name}: {opening.phase.value} {opening.position + 1}"
    site.log(user, visit.address, "study_answer", shown.content_hash, place)
    if opening.phase is Phase.TRAINING:
        return RedirectResponse(f"/study/{one.study_id}/truth/{opening.opening_id}", 303)
    goes_on = standing.is_open and standing.phase is opening.phase
    return RedirectResponse(f"/study/{one.study_id}" + ("/hip" if goes_on else ""), 303)


def _answer(
    readings: Readings, opening: Opening, visit: Visit
) -> tuple[Category | None, int | None]:
    """Return the category and the confidence in a form; None for a film that is not there.

    Only a film that the server could not send may be skipped.
    """
    if visit.fields.get("skip"):
        missing = readings.has(opening, Event.UNAVAILABLE)
        if not missing or readings.has(opening, Event.FILM):
            raise InputError("Only a film that cannot be shown is skipped.")
        return None, None
    try:
        category = Category(visit.fields.get("category", ""))
    except ValueError:
        raise InputError("Choose the category that you see.") from None
    confidence = _whole_number(visit.fields.get("confidence", ""))
    if confidence not in CONFIDENCES:
        raise InputError("Choose how sure you are.")
    return category, confidence


def _reported(visit: Visit) -> tuple[float | None, float | None]:
    """Return the times that a page reports; None for what is no time."""
    values = [finite_number(visit.fields.get(name, "")) for name in ("shown_ms", "paused_ms")]
    if any(value is None or not 0 <= value <= MAX_MS for value in values):
        return None, None
    return values[0], values[1]


def _study(opened: Studies, visit: Visit) -> Study:
    """Return the study that an address names, to its readers. Raises `NotFound`."""
    found = opened.by_id(int(visit.request.path_params["study_id"]))
    if found is None or visit.login.user not in found.plan.readers:
        raise NotFound("There is no such study.")
    return found


def _opening(readings: Readings, one: Study, visit: Visit, number: str | int) -> Opening:
    """Return an opening of the reader who asks. Raises `NotFound`."""
    opening_id = number if isinstance(number, int) else _whole_number(number)
    found = None
    if opening_id is not None:
        found = readings.opening(one, visit.login.user, opening_id)
    if found is None:
        raise NotFound("There is no such page.")
    return found


def _shown(site: Site, visit: Visit) -> tuple[Study, Opening, StudyHip]:
    """Return what the film is asked for. Raises `NotFound`, `StaleAnswer`."""
    with site.studies() as opened:
        one, readings = _study(opened, visit), Readings(opened)
        opening = _opening(readings, one, visit, visit.request.path_params["opening_id"])
        readings.check_is_current(one, opening)
        return one, opening, readings.hip_of(opening)


def _record_once(site: Site, one: Study, opening: Opening, event: Event) -> None:
    with site.studies() as opened:
        readings = Readings(opened)
        if not readings.has(opening, event):
            readings.record(one, opening, event)


def _level_request(shown: StudyHip, halvings: int) -> LevelRequest:
    return level_request(shown.path, shown.content_hash, shown.marks, halvings)


def _hips_in(one: Study, phase: Phase) -> int:
    return one.training if phase is Phase.TRAINING else one.hips


def _whole_number(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 18 else None
