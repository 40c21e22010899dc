"""Taking a reader's answer about a hip, or about one that was not found."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from hipedge.errors import InputError, StaleAnswer
from hipedge.store.feedback import Feedback, Shown, Verdict
from hipedge.store.rows import Case
from hipedge.types import Category, Side
from hipedge.web.site import Site
from hipedge.web.visit import NotFound, Visit

MAX_NOTE = 2000


def answer(site: Site, visit: Visit) -> Response:
    """Record the answer in a form; show the case again. Raises `StaleAnswer`, `InputError`."""
    with site.review() as review:
        case = visit.case(review, site.reserved(visit.login.user))
        if case.content_hash is None or case.content_hash != visit.fields.get("content_hash"):
            raise StaleAnswer("This is no longer the film that was shown: look at it again.")
        shown = _shown(case, case.content_hash, visit, review.rules[case.model_id].rule_id)
    blind = site.hides_findings(visit.login.role)
    verdict, category = _verdict(visit, shown)
    corrects = visit.fields.get("corrects", "")
    with site.writing() as store:
        feedback = Feedback(store)
        feedback.append(
            shown,
            verdict,
            category,
            reader=visit.login.user,
            blind=blind and not corrects,
            note=visit.fields.get("note", "").strip()[:MAX_NOTE],
            corrects=_number(corrects),
        )
    hip = "missed" if shown.hip is None else str(shown.hip)
    detail = f"hip {hip} {shown.side.value}: {verdict.value}"
    site.log(visit.login.user, visit.address, "answer", shown.content_hash, detail)
    query = visit.request.url.query
    return RedirectResponse(f"/case/{case.file_id}" + (f"?{query}" if query else ""), 303)


def _shown(case: Case, content_hash: str, visit: Visit, rule_id: str) -> Shown:
    """Return what a form is about. Raises `NotFound` for a hip that the film does not have."""
    number = _number(visit.fields.get("hip", ""))
    if number is None:
        side = _side(visit.fields.get("side", ""))
        return Shown(content_hash, case.model_id, rule_id, None, side, None, None)
    if number >= len(case.hips):
        raise NotFound("This film has no such hip.")
    hip, finding = case.hips[number].hip, case.findings[number]
    return Shown(
        content_hash, case.model_id, rule_id, number, hip.side, finding.category, finding.flagged
    )


def _verdict(visit: Visit, shown: Shown) -> tuple[Verdict, Category | None]:
    """Return the verdict in a form, and the category that the reader sees.

    A form that hides the finding asks for the category alone: whether the finding is right follows
    from it.
    """
    text = visit.fields.get("verdict", "")
    if (shown.hip is None) != (text == Verdict.HIP_MISSED.value):
        raise InputError("Choose an answer.")
    if text == "category":
        category = _category(visit.fields.get("category", ""))
        right = category is shown.category
        return (Verdict.RIGHT if right else Verdict.WRONG), category
    try:
        verdict = Verdict(text)
    except ValueError:
        raise InputError("Choose an answer.") from None
    if verdict is Verdict.RIGHT:
        return verdict, shown.category
    if verdict is not Verdict.WRONG:
        return verdict, None
    category = _category(visit.fields.get("category", ""))
    if category is shown.category:
        raise InputError("For a wrong finding, choose another category than the one found.")
    return verdict, category


def _category(text: str) -> Category:
    try:
        return Category(text)
    except ValueError:
        raise InputError("Choose the category that you see.") from None


def _side(text: str) -> Side:
    try:
        return Side(text)
    except ValueError:
        raise InputError("Choose the side of the hip that was not found.") from None


def _number(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise InputError("The form was not one of this server's.")
    return int(text)
