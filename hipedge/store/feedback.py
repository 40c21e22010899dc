"""The answers of readers about findings: appended, corrected by further rows, never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hipedge.errors import StaleAnswer
from hipedge.store.connection import Connection, now_text, placeholders
from hipedge.types import Category, Side


class Verdict(str, Enum):
    """What a reader says about a finding, or about a film."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_JUDGED = "not_judged"
    IMAGE_UNFIT = "image_unfit"
    WRONG_SIDE = "wrong_side"
    HIP_MISSED = "hip_missed"


# The verdicts that say which category a hip has.
JUDGED = (Verdict.RIGHT, Verdict.WRONG)


@dataclass(frozen=True)
class Shown:
    """What an answer is about: one hip of a film, and its finding under a model and a rule.

    `hip` is its number on the film from 0. It is None, as `category` and `flagged` are, for a hip
    on `side` that was not found.
    """

    content_hash: str
    model_id: str
    rule_id: str
    hip: int | None
    side: Side
    category: Category | None
    flagged: bool | None


@dataclass(frozen=True)
class Answer:
    """One reader's answer. `category` is what the reader sees, for the verdicts of `JUDGED`.

    `blind` means that the finding was hidden until this answer. `corrects` is the identifier of the
    earlier answer that it replaces.
    """

    answer_id: int
    shown: Shown
    verdict: Verdict
    category: Category | None
    blind: bool
    reader: str
    answered_at: str
    note: str
    corrects: int | None


class Feedback:
    """The answers in a database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(
        self,
        shown: Shown,
        verdict: Verdict,
        category: Category | None,
        *,
        reader: str,
        blind: bool = False,
        note: str = "",
        corrects: int | None = None,
    ) -> int:
        """Record an answer in a transaction of its own; return its identifier.

        `corrects` is the reader's present answer about this hip, None for the first one. Raises
        `StaleAnswer` if it is not, as where the reader has answered in a second window, and
        `StoreError` as `Connection.transaction`.
        """
        row = {
            "content_hash": shown.content_hash,
            "model_id": shown.model_id,
            "rule_id": shown.rule_id,
            "hip": shown.hip,
            "side": shown.side.value,
            "shown_category": shown.category and shown.category.value,
            "shown_flagged": None if shown.flagged is None else int(shown.flagged),
            "verdict": verdict.value,
            "category": category and category.value,
            "blind": int(blind),
            "reader": reader,
            "answered_at": now_text(),
            "note": note,
            "corrects": corrects,
        }
        with self._connection.transaction():
            if corrects is not None and not self._is_about(corrects, shown, reader):
                raise StaleAnswer("the answer to be corrected is about another hip")
            try:
                return self._connection.insert("feedback", row)
            except sqlite3.IntegrityError as error:
                if "UNIQUE" not in str(error):
                    raise
                raise StaleAnswer("this hip was answered meanwhile: look at it again") from error

    def of_film(self, content_hash: str) -> list[Answer]:
        """Return all answers about a film, oldest first, the corrected ones among them."""
        return self.of_films([content_hash])[content_hash]

    def of_films(self, contents: Sequence[str]) -> dict[str, list[Answer]]:
        """Return all answers about some films by their content, as `of_film`."""
        answers: dict[str, list[Answer]] = {content_hash: [] for content_hash in contents}
        sql = f"select * from feedback where content_hash in ({placeholders(answers)}) order by id"
        for row in self._connection.query(sql, list(answers)):
            answers[row["content_hash"]].append(_answer(row))
        return answers

    def present(self) -> list[Answer]:
        """Return the answers that no other one corrects, oldest first."""
        rows = self._connection.query(
            "select * from feedback where id not in"
            " (select corrects from feedback where corrects is not null) order by id"
        )
        return [_answer(row) for row in rows]

    def studies(self) -> dict[str, str | None]:
        """Return the Study Instance UID of each film with an answer that is still recorded."""
        rows = self._connection.query(
            "select content_hash, study_instance_uid from files"
            " where content_hash in (select content_hash from feedback) order by id"
        )
        return {row["content_hash"]: row["study_instance_uid"] for row in rows}

    def _is_about(self, answer_id: int, shown: Shown, reader: str) -> bool:
        rows = self._connection.query(
            "select 1 from feedback where id = ? and content_hash = ? and model_id = ? and hip is ?"
            " and side = ? and reader = ?",
            [answer_id, shown.content_hash, shown.model_id, shown.hip, shown.side.value, reader],
        )
        return bool(rows)


def without_corrected(answers: list[Answer]) -> list[Answer]:
    """Return the answers that no other one among them corrects."""
    corrected = {answer.corrects for answer in answers}
    return [answer for answer in answers if answer.answer_id not in corrected]


def _answer(row: Mapping[str, Any]) -> Answer:
    shown = Shown(
        content_hash=row["content_hash"],
        model_id=row["model_id"],
        rule_id=row["rule_id"],
        hip=row["hip"],
        side=Side(row["side"]),
        category=Category(row["shown_category"]) if row["shown_category"] else None,
        flagged=None if row["shown_flagged"] is None else bool(row["shown_flagged"]),
    )
    return Answer(
        answer_id=row["id"],
        shown=shown,
        verdict=Verdict(row["verdict"]),
        category=Category(row["category"]) if row["category"] else None,
        blind=bool(row["blind"]),
        reader=row["reader"],
        answered_at=row["answered_at"],
        note=row["note"],
        corrects=row["corrects"],
    )
