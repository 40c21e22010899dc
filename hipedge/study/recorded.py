"""Predictions and pictures from the database of `hipedge screen`, and the names of its films."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO

from hipedge.content import HASH_COLUMNS, hashes_of
from hipedge.errors import InputError, State
from hipedge.review.hashes import film_hashes
from hipedge.review.picture import case_picture
from hipedge.rules.decide import Rule
from hipedge.store.rows import Case
from hipedge.store.store import Store
from hipedge.study.inputs import FilmName, Prediction
from hipedge.types import CATEGORIES, Side


class RecordedNames:
    """What identifies recorded films, for labels that name films by a column.

    If that is a hash which the database does not have, it is computed from the film's file; a film
    that has gone or changed has none.
    """

    def __init__(self, column: str | None = None) -> None:
        self._column = column
        self._recorded = dict[str, str]()

    def of(self, case: Case) -> FilmName:
        """Return the identifiers of a film."""
        hashes, column = hashes_of(case.content_hash), self._column
        if column in HASH_COLUMNS and hashes[column] is None:
            hashes[column] = self._compute(case, column)
        return FilmName(
            hashes["content_hash"] or case.content_hash,
            hashes["sha256"],
            case.sop_instance_uid,
            str(case.path),
        )

    def recorded(self, film: str) -> str:
        """Return what the database finds a film by, for an identifier that `of` has returned."""
        return self._recorded.get(film, film)

    def _compute(self, case: Case, column: str) -> str | None:
        computed = film_hashes(case)[column]
        if computed is not None and case.content_hash is not None:
            self._recorded[computed] = case.content_hash
        return computed


def read_recorded_predictions(
    store: Store, rules: Mapping[str, Rule], names: RecordedNames
) -> Iterator[Prediction]:
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
        yield from _predictions(case, names.of(case))


def _predictions(case: Case, name: FilmName) -> Iterator[Prediction]:
    unread = Prediction(
        name,
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

    def __init__(self, store: Store, rules: Mapping[str, Rule], names: RecordedNames) -> None:
        self._store = store
        self._rules = rules
        self._names = names

    def picture(self, film: str, side: Side) -> bytes | None:
        """Draw the film; `None` if it can no longer be read or has changed."""
        found = self._store.find(self._rules, self._names.recorded(film))
        if len(found) != 1 or not found[0].hips:
            return None
        try:
            picture = case_picture(found[0])
        except InputError:
            return None
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()
