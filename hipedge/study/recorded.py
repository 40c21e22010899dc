"""Predictions and pictures from the database of `hipedge screen`."""

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


def read_recorded_predictions(store: Store, rules: Mapping[str, Rule]) -> Iterator[Prediction]:
    """Yield a prediction for each hip in a database, and one for each film that was not screened.

    Duplicates are skipped. Raises `InputError` if the films were screened by several models.
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
    """Pictures of recorded films with boxes and heat maps, if the files still exist."""

    def __init__(self, store: Store, rules: Mapping[str, Rule]) -> None:
        self._store = store
        self._rules = rules

    def picture(self, film: str, side: Side) -> bytes | None:
        """Draw the film; `None` if it can no longer be read or has changed."""
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
