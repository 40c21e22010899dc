"""What `hipedge screen` recorded, as predictions, and its films as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO

from hipedge.errors import InputError, State
from hipedge.review.picture import case_picture
from hipedge.rules.decide import Rule
from hipedge.store import Case, Store
from hipedge.study.inputs import FilmName, Prediction
from hipedge.types import CATEGORIES, Side


def read_recorded(store: Store, rules: Mapping[str, Rule]) -> Iterator[Prediction]:
    """Yield a prediction for each hip in a database, and one for each film that was not read.

    Duplicates are left out: their film is there already. Raises `InputError` where the films
    were read by several models, whose figures cannot be mixed.
    """
    models = set()
    for case in store.all_cases(rules):
        if case.state is State.DUPLICATE:
            continue
        models.add(case.model)
        if len(models) > 1:
            raise InputError(
                f"the database holds films read by several models ({', '.join(sorted(models))}): "
                "screen them with one model into a database of its own"
            )
        yield from _predictions(case)


def _predictions(case: Case) -> Iterator[Prediction]:
    unread = Prediction(
        FilmName(case.sha256, case.sop_instance_uid, str(case.path)),
        None,
        code=case.code.value if case.code else None,
        sex=case.sex,
        age_years=case.age_years,
        vendor=case.manufacturer,
    )
    if not case.hips:
        yield unread
    for scored, finding in zip(case.hips, case.findings, strict=True):
        yield replace(
            unread,
            side=scored.hip.side,
            category=CATEGORIES.index(finding.category),
            probabilities=finding.probabilities,
            flagged=finding.flagged,
        )


class RecordedPictures:
    """Draws films that a database names, with boxes and heat maps, if they are still there."""

    def __init__(self, store: Store, rules: Mapping[str, Rule]) -> None:
        self._store = store
        self._rules = rules

    def picture(self, film: str, side: Side) -> bytes | None:
        """Draw the film; `None` where it can no longer be read, or is no longer the same."""
        found = self._store.find(self._rules, film)
        if len(found) != 1 or not found[0].hips:
            return None
        try:
            picture = case_picture(found[0])
        except InputError:
            return None
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()
