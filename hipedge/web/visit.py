"""One request of somebody who is logged in, and what its address and form ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from hipedge.errors import HipedgeError, InputError, StoreError
from hipedge.store.accounts import Login
from hipedge.store.pages import CaseFilter, CaseList, Cursor
from hipedge.store.rows import Case
from hipedge.store.studies import Reserved
from hipedge.types import Category
from hipedge.web.site import Review

Choice = TypeVar("Choice", CaseList, Category)


class NotFound(StoreError):
    """There is no such case."""


class InStudy(HipedgeError):
    """A film that somebody sees in a reader study only, until that is finished."""


@dataclass(frozen=True)
class Visit:
    """A request, its session, and the fields of its form."""

    request: Request
    login: Login
    fields: Mapping[str, str]

    @property
    def address(self) -> str:
        """The address that the request comes from."""
        return self.request.client.host if self.request.client else ""

    def parameter(self, name: str) -> str:
        """Return a parameter of the address; "" where it is missing."""
        return self.request.query_params.get(name, "")

    def case(self, review: Review, reserved: Reserved) -> Case:
        """Return the case that the address names. Raises `NotFound`, `InStudy`."""
        file_id = int(self.request.path_params["file_id"])
        if file_id >= 2**63:
            raise NotFound("There is no such case.")
        try:
            case = review.pages.case(file_id)
        except StoreError as error:
            if "has no case" not in str(error):
                raise
            raise NotFound("There is no such case.") from None
        if reserved.holds(case.content_hash, case.sop_instance_uid):
            raise InStudy(
                "You read this film in a study, and see it there until you have finished."
            )
        return case


@dataclass(frozen=True)
class ListView:
    """A list as the address describes it: which one, what it is restricted to, where it begins.

    `answered` is `no`, `yes` or `all`; `until` is a day that is included.
    """

    name: CaseList
    category: Category | None = None
    answered: str = "no"
    folder: str = ""
    since: date | None = None
    until: date | None = None
    after: str = ""

    @classmethod
    def of(cls, visit: Visit, *, hidden: bool) -> ListView:
        """Read a list from the address. Raises `InputError` for what no page of ours links to.

        Where findings are `hidden`, neither the list of flagged films nor the filter by category
        is available, since both would tell.
        """
        default = CaseList.ALL if hidden else CaseList.FLAGGED
        name = _member(CaseList, visit.parameter("list")) or default
        if hidden and name is CaseList.FLAGGED:
            name = CaseList.ALL
        category = None if hidden else _member(Category, visit.parameter("category"))
        answered = visit.parameter("answered") or "no"
        if answered not in ("no", "yes", "all"):
            raise InputError("this is no state of a case")
        return cls(
            name,
            category if name is CaseList.FLAGGED else None,
            answered,
            visit.parameter("folder"),
            _day(visit.parameter("since")),
            _day(visit.parameter("until")),
            visit.parameter("after"),
        )

    def filter(self, reader: str, reserved: Reserved, *, blind: bool) -> CaseFilter:
        """Return the filter. In a blind site a case is open until this reader has answered."""
        return CaseFilter(
            category=self.category,
            folder=Path(self.folder) if self.folder else None,
            since=_midnight(self.since),
            until=_midnight(self.until and self.until + timedelta(days=1)),
            answered={"no": False, "yes": True, "all": None}[self.answered],
            reader=reader if blind else None,
            reserved=reserved,
        )

    def check_folder(self, folders: Sequence[Path]) -> None:
        """Raise `InputError` if the list is restricted to a folder that is not watched."""
        if self.folder and Path(self.folder) not in folders:
            raise InputError("this folder is not watched")

    @property
    def cursor(self) -> Cursor:
        """Where the page begins. Raises `InputError`."""
        return Cursor.parse(self.after)

    def query(self, **changes: object) -> str:
        """Return the address's parameters for this list with some changes, from its beginning."""
        changed = replace(self, **{"after": "", **changes})  # type: ignore[arg-type]
        values = {
            "list": changed.name.value,
            "category": changed.category.value if changed.category else "",
            "answered": "" if changed.answered == "no" else changed.answered,
            "folder": changed.folder,
            "since": changed.since.isoformat() if changed.since else "",
            "until": changed.until.isoformat() if changed.until else "",
            "after": changed.after,
        }
        return urlencode({name: value for name, value in values.items() if value})


def _member(kind: type[Choice], text: str) -> Choice | None:
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InputError("there is no such list or category") from None


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError("a day is written as 2026-01-31") from None


def _midnight(day: date | None) -> datetime | None:
    """Return the beginning of a day in the server's time zone."""
    return None if day is None else datetime.combine(day, time()).astimezone()
