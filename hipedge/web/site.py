"""What the pages are made from: the site's databases, its settings and its decoder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hipedge.config import Settings
from hipedge.errors import StoreError
from hipedge.review.worklist import site_rules
from hipedge.rules.decide import Rule
from hipedge.store.accounts import Accounts, Role
from hipedge.store.connection import utc_now
from hipedge.store.pages import CasePages
from hipedge.store.service import Service
from hipedge.store.store import Store
from hipedge.store.studies import NONE_RESERVED, Reserved, Studies
from hipedge.web.decoder import Decoder
from hipedge.web.sessions import Sessions

# A page is not waited for longer; the browser shows that the database is locked.
BUSY_TIMEOUT_S = 3.0


@dataclass(frozen=True, eq=False)
class Review:
    """The database of films, opened for one request; `complete` as `Site.review` says."""

    store: Store
    rules: Mapping[str, Rule]
    pages: CasePages
    complete: bool

    def folders(self) -> list[Path]:
        """Return the watched folders."""
        return Service(self.store).roots()


@dataclass(frozen=True, eq=False)
class Site:
    """The parts of the server that all pages share.

    In a `blind` site findings are hidden from a reader until that reader has answered about the
    film's hips. `clock` is the time of reader studies, with its time zone.
    """

    settings: Settings
    sessions: Sessions
    decoder: Decoder
    clock: Callable[[], datetime] = utc_now
    _decided: _Decided = field(default_factory=lambda: _Decided())
    _writing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def blind(self) -> bool:
        """Whether findings are hidden until they have been answered."""
        return self.settings.web_blind

    def hides_findings(self, role: Role) -> bool:
        """Return whether findings are hidden from somebody of this role at first."""
        return self.blind and role is not Role.ADMIN

    def accounts(self) -> Accounts:
        """Open the database of users, sessions and the log."""
        return Accounts(
            self.settings.web_database, busy_timeout_s=BUSY_TIMEOUT_S, writing=self._writing
        )

    def log(
        self, user: str, address: str, event: str, content_hash: str | None, detail: str = ""
    ) -> None:
        """Append a line to the log."""
        with self.accounts() as accounts:
            accounts.log(user, address, event, content_hash, detail)

    def studies(self) -> Studies:
        """Open the database of reader studies. Raises `StoreError` where there is none."""
        path = self.settings.study_database
        if not path.exists():  # it would be created
            raise StoreError("there is no reader study: `hipedge study new` makes one")
        return Studies(path, busy_timeout_s=BUSY_TIMEOUT_S, clock=self.clock)

    def reserved(self, user: str) -> Reserved:
        """Return the films that a user may see in a reader study only. Raises `StoreError`."""
        if not self.settings.study_database.exists():
            return NONE_RESERVED
        with self.studies() as studies:
            return studies.reserved(user)

    @contextmanager
    def review(self) -> Iterator[Review]:
        """Open the database of films for reading, under the site's present thresholds.

        It is `complete` if every hip has been decided under them; else a list of flagged hips is
        not. Raises `StoreError`.
        """
        with self._open(read_only=True) as store:
            rules = site_rules(store, self.settings)
            complete = self._decided.all_hips(store, rules)
            yield Review(store, rules, CasePages(store, rules), complete)

    @contextmanager
    def writing(self) -> Iterator[Store]:
        """Open the database of films for an answer. Raises `StoreError`."""
        with self._open(read_only=False) as store:
            yield store

    def _open(self, *, read_only: bool) -> Store:
        db = self.settings.db
        if not db.exists():  # it would be created
            raise StoreError(f"there is no database {db}: `hipedge screen` makes it")
        return Store(db, read_only=read_only, busy_timeout_s=BUSY_TIMEOUT_S)


class _Decided:
    """Up to which hip all are decided under some rules: only newer ones are looked at again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up_to: dict[frozenset[tuple[str, str]], int] = {}

    def all_hips(self, store: Store, rules: Mapping[str, Rule]) -> bool:
        """Return whether every hip in the database is decided under these rules, by model."""
        key = frozenset((model_id, rule.rule_id) for model_id, rule in rules.items())
        with self._lock:
            missing, newest = store.undecided_after(self._up_to.get(key, 0), rules)
            if not missing:
                self._up_to = {key: newest}
            return not missing
