"""Cases page by page: the lists of a worklist, in a time that does not grow with the database.

Each list is a sequence of parts (urgent hips, then routine ones), newest first within a part. A
page begins after the last row of the page before, which an index finds, and not at a number of rows
to be skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from hipedge.errors import InputError, State
from hipedge.rules.decide import Rule
from hipedge.store.connection import placeholders, utc_text
from hipedge.store.rows import Case, path_to_text, to_json
from hipedge.store.store import Store, files_by_hash, other_modality_codes
from hipedge.store.studies import NONE_RESERVED, Reserved
from hipedge.types import Category, Priority

PAGE_ROWS = 50
# Beyond it a list's length is not counted: it says "more than".
COUNT_LIMIT = 500
MAX_ID = 2**63 - 1
MAX_FILMS_OF_PATIENT = 50
# The newest row of a content, among rows of other models and pipeline versions.
_IS_NEWEST = (
    " not exists (select 1 from files newer where newer.content_hash = files.content_hash"
    " and newer.id > files.id)"
    " and (files.content_hash is not null or not exists (select 1 from files newer"
    " where newer.content_hash is null and newer.path = files.path and newer.id > files.id))"
)


class CaseList(str, Enum):
    """The lists of cases: what is flagged, was not read, carries a mark; and every case."""

    FLAGGED = "flagged"
    NOT_READ = "not_read"
    MARKED = "marked"
    ALL = "all"


@dataclass(frozen=True)
class CaseFilter:
    """What a list is restricted to; None does not restrict it.

    `category` is one that a hip is flagged for, `folder` a folder that the film was found in,
    `since` and `until` the time of recording, `answered` whether a reader has answered about the
    film; with `reader`, whether that one has. Films that are `reserved` are left out.
    """

    category: Category | None = None
    folder: Path | None = None
    since: datetime | None = None
    until: datetime | None = None
    answered: bool | None = None
    reader: str | None = None
    reserved: Reserved = NONE_RESERVED


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: after this row id within this part of the list."""

    part: int = 0
    before_id: int = MAX_ID

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Parse `str(cursor)`; the beginning for an empty text. Raises `InputError`."""
        if not text:
            return cls()
        match = re.fullmatch(r"(\d{1,3})\.(\d{1,18})", text)
        if match is None:
            raise InputError("this is no page of the list")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.part}.{self.before_id}"


@dataclass(frozen=True, eq=False)
class CasePage:
    """Some cases of a list, and where the next page begins; None where there is none.

    `cursors` are the places after each of the cases.
    """

    cases: tuple[Case, ...]
    cursors: tuple[Cursor, ...]
    following: Cursor | None


@dataclass(frozen=True)
class _Part:
    """One part of a list as SQL: what it selects from, its row id, its conditions."""

    source: str
    row_id: str
    condition: str
    parameters: tuple[object, ...]


class CasePages:
    """The lists of a store's cases, decided under the rule of each model in `rules`."""

    def __init__(self, store: Store, rules: Mapping[str, Rule]) -> None:
        self._store, self._rules = store, rules

    def page(
        self,
        name: CaseList,
        wanted: CaseFilter | None = None,
        after: Cursor | None = None,
        rows: int = PAGE_ROWS,
    ) -> CasePage:
        """Return the page of a list that begins after a cursor. Raises `StoreError`."""
        wanted, after = wanted or CaseFilter(), after or Cursor()
        found = list[tuple[Cursor, int]]()
        for number, part in enumerate(self._parts(name, wanted)):
            if number < after.part or len(found) > rows:
                continue
            before = after.before_id if number == after.part else MAX_ID
            selected = self._rows(part, wanted, before, rows + 1 - len(found))
            found += [(Cursor(number, row_id), file_id) for row_id, file_id in selected]
        cases = self._cases([file_id for _, file_id in found[:rows]])
        cursors = tuple(cursor for cursor, _ in found[:rows])
        return CasePage(cases, cursors, cursors[-1] if len(found) > rows else None)

    def count(self, name: CaseList, wanted: CaseFilter | None = None) -> int:
        """Return the number of cases in a list, at most `COUNT_LIMIT`."""
        wanted, total = wanted or CaseFilter(), 0
        for part in self._parts(name, wanted):
            sql, parameters = _selection("1", part, wanted, MAX_ID, COUNT_LIMIT - total)
            total += self._store.query(f"select count(*) as n from ({sql})", parameters)[0]["n"]
        return total

    def case(self, file_id: int) -> Case:
        """Return one case under the rule of its model. Raises `StoreError` if there is none."""
        (case,) = self._cases([file_id])
        return case

    def _cases(self, file_ids: Sequence[int]) -> tuple[Case, ...]:
        return self._store.cases_by_rules(file_ids, self._rules)

    def search(self, key: str, rows: int = PAGE_ROWS) -> tuple[Case, ...]:
        """Return the newest cases with this row id, UID, path, or start of a content's hash.

        UIDs are the SOP Instance UID and the Study Instance UID. Where nothing is found, the cases
        whose path contains the text.
        """
        text = key.encode("utf-8", "replace").decode()  # SQLite takes no surrogates
        path = path_to_text(Path(key).absolute())
        exact = (
            "files.id in (select id from files where sop_instance_uid = ?"
            " union all select id from files where study_instance_uid = ?"
            " union all select id from files where path = ?"
            " union all select file_id from paths where path = ?"
        )
        parameters: list[object] = [text, text, path, path]
        if text.isdecimal() and len(text) <= 18:
            exact += " union all select ?"
            parameters.append(int(text))
        by_hash, hashes = files_by_hash(text)
        found = self._matching(f"{exact} union all {by_hash})", [*parameters, *hashes], rows)
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        if not found and text:
            found = self._matching("files.path like ? escape '\\'", [f"%{escaped}%"], rows)
        return self._cases(found)

    def of_study(self, case: Case, rows: int = PAGE_ROWS) -> tuple[Case, ...]:
        """Return the other films of a case's study, newest first."""
        if case.study_instance_uid is None:
            return ()
        condition = "files.study_instance_uid = ? and files.id <> ?"
        return self._cases(self._matching(condition, [case.study_instance_uid, case.file_id], rows))

    def of_patient(self, case: Case) -> tuple[Case, ...]:
        """Return the films of other studies of a case's patient, the newest study first.

        There are none if more than `MAX_FILMS_OF_PATIENT` bear this patient's identifiers, which
        then stand for nobody.
        """
        if case.patient is None:
            return ()
        rows = self._store.query(
            f"select id from files where patient = ? and state <> 'duplicate' and {_IS_NEWEST}"
            " order by studied_on desc, id desc limit ?",
            [case.patient, MAX_FILMS_OF_PATIENT + 1],
        )
        if len(rows) > MAX_FILMS_OF_PATIENT:
            return ()
        found = self._cases([row["id"] for row in rows])
        study = case.study_instance_uid
        return tuple(
            one
            for one in found
            if one.file_id != case.file_id and (study is None or one.study_instance_uid != study)
        )

    def _matching(self, condition: str, parameters: Sequence[object], rows: int) -> list[int]:
        found = self._store.query(
            f"select files.id from files where {condition} and {_IS_NEWEST}"
            " order by files.id desc limit ?",
            [*parameters, rows],
        )
        return [row["id"] for row in found]

    def _rows(
        self, part: _Part, wanted: CaseFilter, before: int, rows: int
    ) -> list[tuple[int, int]]:
        """Return (row id, id of the file) of a part's rows before an id, the newest first."""
        columns = f"{part.row_id} as row_id, files.id as file_id"
        found = self._store.query(*_selection(columns, part, wanted, before, rows))
        return [(row["row_id"], row["file_id"]) for row in found]

    def _parts(self, name: CaseList, wanted: CaseFilter) -> list[_Part]:
        if name is CaseList.FLAGGED:
            priorities = (Priority.URGENT, Priority.ROUTINE)
            return [
                self._flagged(rule_id, models, priorities[: number + 1], wanted.category)
                for number in range(len(priorities))
                for rule_id, models in self._models_by_rule().items()
            ]
        other = other_modality_codes()
        readable = f"files.code not in ({placeholders(other)})"
        if name is CaseList.NOT_READ:
            refused, is_refused = "files indexed by files_refused", "files.code is not null"
            quarantined = (State.QUARANTINED.value,)
            not_applicable = (*other, State.NOT_APPLICABLE.value)
            return [
                _Part(refused, "files.id", f"{is_refused} and files.state = ?", quarantined),
                _Part(refused, "files.id", f"{readable} and files.state = ?", not_applicable),
            ]
        if name is CaseList.MARKED:
            states = "files.state in ('screened', 'duplicate') and files.marks <> '[]'"
            return [_Part("files indexed by files_marked", "files.id", states, ())]
        return [_Part("files", "files.id", f"(files.code is null or {readable})", other)]

    def _models_by_rule(self) -> dict[str, list[str]]:
        models: dict[str, list[str]] = {}
        for model_id, rule in self._rules.items():
            models.setdefault(rule.rule_id, []).append(model_id)
        return models

    def _flagged(
        self,
        rule_id: str,
        models: Sequence[str],
        priorities: Sequence[Priority],
        category: Category | None,
    ) -> _Part:
        """Return the cases whose most urgent flagged hip has the last of `priorities`.

        A case is in the list once: of several such hips by the one with the highest id.
        """
        *above, priority = (one.value for one in priorities)
        pattern = f'"{category.value}"' if category else ""
        for_category = "instr({}.flagged_for, ?) > 0" if category else "? = ''"
        condition = (
            "decisions.rule_id = ? and decisions.flagged and decisions.priority = ?"
            f" and {for_category.format('decisions')}"
            f" and files.model_id in ({placeholders(models)})"
            " and not exists (select 1 from hips other cross join decisions better"
            " on better.hip_id = other.id where other.file_id = files.id"
            " and better.rule_id = decisions.rule_id and better.flagged"
            f" and {for_category.format('better')}"
            f" and (better.priority in ({placeholders(above)})"
            " or (better.priority = decisions.priority and other.id > decisions.hip_id)))"
        )
        return _Part(
            "decisions indexed by decisions_flagged cross join hips on hips.id = decisions.hip_id"
            " cross join files on files.id = hips.file_id",
            "decisions.hip_id",
            condition,
            (rule_id, priority, pattern, *models, pattern, *above),
        )


def _selection(
    columns: str, part: _Part, wanted: CaseFilter, before: int, rows: int
) -> tuple[str, list[object]]:
    """Return the statement for a part's rows before an id, the newest first; its parameters."""
    condition, parameters = _conditions(wanted, part.row_id)
    sql = (
        f"select {columns} from {part.source}"
        f" where {part.row_id} < ? and {part.condition} and {_IS_NEWEST}{condition}"
        f" order by {part.row_id} desc limit ?"
    )
    return sql, [before, *part.parameters, *parameters, max(0, rows)]


def _conditions(wanted: CaseFilter, row_id: str) -> tuple[str, list[object]]:
    """Return the conditions on a file that a filter adds, and their parameters.

    Most films are in the few folders there are, and have no answer: each row is looked up until a
    page is full. Films with an answer are few: they are looked up first.
    """
    text, parameters = "", list[object]()
    if wanted.since is not None:
        text += " and files.recorded_at >= ?"
        parameters.append(utc_text(wanted.since))
    if wanted.until is not None:
        text += " and files.recorded_at < ?"
        parameters.append(utc_text(wanted.until))
    if wanted.folder is not None:
        text += (
            " and exists (select 1 from paths where paths.file_id = files.id"
            " and paths.path >= ? and paths.path < ?)"
        )
        # All paths that begin with the folder and a slash: the slash's successor is "0".
        folder = path_to_text(wanted.folder).rstrip("/")
        parameters += [f"{folder}/", f"{folder}0"]
    of_reader = "(? is null or reader = ?)"
    if wanted.answered:
        answered = (
            "select one.id from feedback cross join files one"
            " on one.content_hash = feedback.content_hash"
            f" where {of_reader}"
        )
        if row_id == "decisions.hip_id":
            answered = f"select hips.id from hips where file_id in ({answered})"
        text += f" and {row_id} in ({answered})"
    elif wanted.answered is not None:
        text += " and not exists (select 1 from feedback"
        text += f" where feedback.content_hash = files.content_hash and {of_reader})"
    if wanted.answered is not None:
        parameters += [wanted.reader, wanted.reader]
    if wanted.reserved != NONE_RESERVED:
        for column, names in (
            ("content_hash", wanted.reserved.content_hashes),
            ("sop_instance_uid", wanted.reserved.uids),
        ):
            text += (
                f" and (files.{column} is null"
                f" or files.{column} not in (select value from json_each(?)))"
            )
            parameters.append(to_json(sorted(names)))
    return text, parameters
