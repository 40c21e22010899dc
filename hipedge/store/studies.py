"""The database of reader studies: which hips are read, by whom, in which order, in which phases.

It is a file of its own. A study's hips, findings and orders are copied into it when the study is
made and stay as they are while films are screened again and thresholds change; the file can be
archived with the study, and holds no results of other patients and no passwords. What readers do
in a study is in the same file (`Readings`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from sqlite_utils import Database, Migrations

from hipedge.errors import InputError
from hipedge.store.connection import BUSY_TIMEOUT_S, Connection, utc_now, utc_text
from hipedge.store.rows import (
    Row,
    finding_from_row,
    finding_row,
    hip_from_row,
    hip_row,
    path_from_text,
    path_to_text,
    to_json,
)
from hipedge.types import Category, Finding, Mark, ScoredHip, Side

migrations = Migrations("hipedge-study")


class Phase(str, Enum):
    """The parts of a reader's way through a study, in their order.

    After a hip of the training the reader is told the truth; it is in no result.
    """

    TRAINING = "training"
    ALONE = "alone"
    ASSISTED = "assisted"


READ_PHASES = (Phase.ALONE, Phase.ASSISTED)


@dataclass(frozen=True, eq=False)
class StudyHip:
    """One hip to be read: its film, what was found, and the truth.

    `side` and `named` (the columns that identify the film) are those of the coordinator's table.
    """

    number: int
    is_training: bool
    path: Path
    content_hash: str
    sop_instance_uid: str | None
    marks: tuple[Mark, ...]
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    age_years: float | None
    sex: str | None
    scored: ScoredHip
    finding: Finding
    side: Side
    named: Mapping[str, str]
    truth: Category
    patient: str


@dataclass(frozen=True)
class StudyPlan:
    """What a study is, beside its hips.

    `readers` are grades by user name. `phases` are some of `READ_PHASES`. The second one opens to a
    reader `washout` after that reader's last answer of the first. Where `goes_back`, readers may
    change the answers of a phase until they have finished it.
    """

    name: str
    readers: Mapping[str, str]
    phases: tuple[Phase, ...]
    washout: timedelta
    goes_back: bool
    seed: int
    model: str

    def may_return(self, phase: Phase) -> bool:
        """Whether answers may be changed; not in the training, whose truth has been told."""
        return self.goes_back and phase is not Phase.TRAINING

    @property
    def washout_text(self) -> str:
        """The wash-out in days, or in hours where it is no whole days."""
        hours = self.washout / timedelta(hours=1)
        return f"{hours:g} hours" if hours % 24 else f"{hours / 24:g} days"


@dataclass(frozen=True)
class Study:
    """A study as it is recorded. `hips` counts those to be read, `training` those of the training.

    The study is closed where `closed_at` is not None: nobody reads any more.
    """

    study_id: int
    plan: StudyPlan
    created_at: str
    closed_at: str | None
    hips: int
    training: int


@dataclass(frozen=True)
class Reserved:
    """Films that a reader sees in a study only, by content and SOP Instance UID."""

    content_hashes: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()

    def holds(self, content_hash: str | None, sop_instance_uid: str | None) -> bool:
        """Return whether a film is one of them."""
        return content_hash in self.content_hashes or sop_instance_uid in self.uids


NONE_RESERVED = Reserved()


class Studies(Connection):
    """The studies; a `Connection` to a database of their own.

    `clock` returns the present time, with its time zone.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(
            path, read_only=read_only, busy_timeout_s=busy_timeout_s, migrations=migrations
        )
        self.clock = clock

    def add(self, plan: StudyPlan, hips: Sequence[StudyHip]) -> int:
        """Record a study with the order of its hips for each reader and phase; return its id.

        Raises `InputError` if there is a study of this name.
        """
        row = {
            "name": plan.name,
            "created_at": utc_text(self.clock()),
            "phases": to_json([phase.value for phase in plan.phases]),
            "washout_s": plan.washout.total_seconds(),
            "goes_back": int(plan.goes_back),
            "seed": plan.seed,
            "model": plan.model,
        }
        with self.transaction():
            if self.query("select 1 from studies where name = ?", [plan.name]):
                raise InputError(f"there is a study {plan.name!r} already: choose another --name")
            study_id = self.insert("studies", row)
            for hip in hips:
                self.insert("study_hips", {"study_id": study_id} | _hip_columns(hip))
            for reader, grade in plan.readers.items():
                reader_row = {"study_id": study_id, "reader": reader, "grade": grade}
                self.insert("study_readers", reader_row)
                for phase in (Phase.TRAINING, *plan.phases):
                    numbers = reading_order(plan.seed, reader, phase, hips)
                    self.execute_many(
                        "insert into reading_order (study_id, reader, phase, position, hip)"
                        " values (?, ?, ?, ?, ?)",
                        [
                            (study_id, reader, phase.value, position, number)
                            for position, number in enumerate(numbers)
                        ],
                    )
        return study_id

    def all(self) -> list[Study]:
        """Return all studies, the oldest first."""
        return [self._study(row) for row in self.query("select * from studies order by id")]

    def by_id(self, study_id: int) -> Study | None:
        """Return a study; None where there is none of this id."""
        rows = self.query("select * from studies where id = ?", [min(study_id, 2**63 - 1)])
        return next((self._study(row) for row in rows), None)

    def by_name(self, name: str) -> Study:
        """Return a study. Raises `InputError` if there is none of this name."""
        for study in self.all():
            if study.plan.name == name:
                return study
        raise InputError(f"there is no study {name!r}: `hipedge study list` lists them")

    def of_reader(self, reader: str) -> list[Study]:
        """Return the studies that a user reads in, the oldest first."""
        return [study for study in self.all() if reader in study.plan.readers]

    def hips(self, study_id: int) -> list[StudyHip]:
        """Return all hips of a study in the order of the coordinator's tables."""
        sql = "select * from study_hips where study_id = ? order by number"
        return [_hip(row) for row in self.query(sql, [study_id])]

    def hip(self, study_id: int, number: int) -> StudyHip:
        """Return one hip of a study."""
        sql = "select * from study_hips where study_id = ? and number = ?"
        (row,) = self.query(sql, [study_id, number])
        return _hip(row)

    def close(self, study_id: int) -> None:
        """End a study: nobody can read in it, and its films are not reserved any more."""
        with self.transaction():
            self.execute(
                "update studies set closed_at = ? where id = ? and closed_at is null",
                [utc_text(self.clock()), study_id],
            )

    def reserved(self, reader: str) -> Reserved:
        """Return the films of the studies that a user reads in and has not finished."""
        rows = self.query(
            "select content_hash, sop_instance_uid from study_hips where study_id in"
            " (select studies.id from studies join study_readers on study_id = studies.id"
            " where study_readers.reader = ? and closed_at is null and"
            " (select count(*) from reading_order one where one.study_id = studies.id"
            " and one.reader = study_readers.reader) >"
            " (select count(*) from readings where readings.study_id = studies.id"
            " and readings.reader = study_readers.reader and corrects is null))",
            [reader],
        )
        return Reserved(
            frozenset(row["content_hash"] for row in rows),
            frozenset(row["sop_instance_uid"] for row in rows if row["sop_instance_uid"]),
        )

    def _study(self, row: Mapping[str, Any]) -> Study:
        readers = self.query(
            "select reader, grade from study_readers where study_id = ? order by rowid", [row["id"]]
        )
        (counts,) = self.query(
            "select coalesce(sum(is_training), 0) as training, count(*) as hips from study_hips"
            " where study_id = ?",
            [row["id"]],
        )
        plan = StudyPlan(
            name=row["name"],
            readers={one["reader"]: one["grade"] for one in readers},
            phases=tuple(Phase(name) for name in json.loads(row["phases"])),
            washout=timedelta(seconds=row["washout_s"]),
            goes_back=bool(row["goes_back"]),
            seed=row["seed"],
            model=row["model"],
        )
        training = counts["training"]
        hips = counts["hips"] - training
        return Study(row["id"], plan, row["created_at"], row["closed_at"], hips, training)


def reading_order(seed: int, reader: str, phase: Phase, hips: Sequence[StudyHip]) -> list[int]:
    """Return the numbers of the hips in the order in which a reader reads them in a phase.

    They are sorted by the SHA-256 of ``seed/reader/phase/number``, which anybody can repeat in any
    language. The training keeps the order of its table.
    """
    if phase is Phase.TRAINING:
        return [hip.number for hip in hips if hip.is_training]

    def key(number: int) -> str:
        return hashlib.sha256(f"{seed}/{reader}/{phase.value}/{number}".encode()).hexdigest()

    return sorted((hip.number for hip in hips if not hip.is_training), key=key)


def _hip_columns(hip: StudyHip) -> Row:
    spacing = hip.spacing_mm or (None, None)
    return {
        "number": hip.number,
        "is_training": int(hip.is_training),
        "path": path_to_text(hip.path),
        "content_hash": hip.content_hash,
        "sop_instance_uid": hip.sop_instance_uid,
        "marks": to_json([mark.value for mark in hip.marks]),
        "height_px": hip.shape[0],
        "width_px": hip.shape[1],
        "row_spacing_mm": spacing[0],
        "column_spacing_mm": spacing[1],
        "age_years": hip.age_years,
        "sex": hip.sex,
        "asked_side": hip.side.value,
        "named": to_json(dict(hip.named)),
        "truth": hip.truth.value,
        "patient": hip.patient,
        **hip_row(hip.scored),
        **finding_row(hip.finding),
    }


def _hip(row: Mapping[str, Any]) -> StudyHip:
    return StudyHip(
        number=row["number"],
        is_training=bool(row["is_training"]),
        path=path_from_text(row["path"]),
        content_hash=row["content_hash"],
        sop_instance_uid=row["sop_instance_uid"],
        marks=tuple(Mark(name) for name in json.loads(row["marks"])),
        shape=(row["height_px"], row["width_px"]),
        spacing_mm=(row["row_spacing_mm"], row["column_spacing_mm"])
        if row["row_spacing_mm"]
        else None,
        age_years=row["age_years"],
        sex=row["sex"],
        scored=hip_from_row(row),
        finding=finding_from_row(row),
        side=Side(row["asked_side"]),
        named=json.loads(row["named"]),
        truth=Category(row["truth"]),
        patient=row["patient"],
    )


@migrations()
def create_tables(db: Database) -> None:
    """Create the first schema."""
    for statement in _FIRST_SCHEMA:
        db.execute(statement)
    for table in ("study_hips", "study_readers", "reading_order", "openings", "reading_events",
                  "readings"):  # fmt: skip
        for verb in ("update", "delete"):
            db.execute(
                f"create trigger {table}_no_{verb} before {verb} on {table}"
                f" begin select raise(abort, 'a study is only added to'); end"
            )


_FIRST_SCHEMA = (
    """
    create table studies (
        id integer primary key autoincrement,
        name text not null unique,
        created_at text not null,
        phases text not null,               -- JSON: alone, assisted
        washout_s real not null,
        goes_back integer not null,
        seed integer not null,
        model text not null,                -- whose findings are shown
        closed_at text
    ) strict
    """,
    """
    create trigger studies_stay before update of name, created_at, phases, washout_s, goes_back,
        seed, model on studies begin select raise(abort, 'a study is only added to'); end
    """,
    """
    create trigger studies_are_kept before delete on studies
        begin select raise(abort, 'a study is only added to'); end
    """,
    """
    create table study_readers (
        study_id integer not null references studies (id),
        reader text not null,
        grade text not null,
        primary key (study_id, reader)
    ) strict
    """,
    """
    create table study_hips (
        study_id integer not null references studies (id),
        number integer not null,
        is_training integer not null,
        path text not null,
        sha256 text not null,
        sop_instance_uid text,
        marks text not null,
        height_px integer not null,
        width_px integer not null,
        row_spacing_mm real,
        column_spacing_mm real,
        age_years real,
        sex text,
        asked_side text not null,           -- as in the coordinator's table, as `named`
        named text not null,
        truth text not null,
        patient text not null,
        -- as in the tables hips and decisions of the database of films
        side text not null,
        centre_x_px real not null,
        centre_y_px real not null,
        x0_px real not null,
        y0_px real not null,
        x1_px real not null,
        y1_px real not null,
        confidence real not null,
        mirrored integer not null,
        logits text not null,
        maps blob not null,
        maps_shape text not null,
        category text not null,
        probabilities text not null,
        flagged integer not null,
        flagged_for text not null,
        uncertain integer not null,
        priority text not null,
        operating_point text not null,
        primary key (study_id, number)
    ) strict
    """,
    "create index study_films on study_hips (study_id, sha256, sop_instance_uid)",
    """
    create table reading_order (
        study_id integer not null references studies (id),
        reader text not null,
        phase text not null,
        position integer not null,          -- from 0
        hip integer not null,
        primary key (study_id, reader, phase, position),
        unique (study_id, reader, phase, hip),
        foreign key (study_id, hip) references study_hips (study_id, number)
    ) strict
    """,
    # A hip on a reader's screen. Only the newest one of a reader in a study can be answered.
    """
    create table openings (
        id integer primary key autoincrement,
        study_id integer not null references studies (id),
        reader text not null,
        phase text not null,
        position integer not null,
        opened_at text not null,
        foreign key (study_id, reader, phase, position)
            references reading_order (study_id, reader, phase, position)
    ) strict
    """,
    "create index openings_by_reader on openings (study_id, reader, phase, position)",
    # What the server did and what the page reported: the times of both are kept.
    """
    create table reading_events (
        id integer primary key autoincrement,
        opening_id integer not null references openings (id),
        kind text not null,
        at text not null,
        -- by the page's clock since the first picture: with the film on the screen, and without
        shown_ms real,
        paused_ms real
    ) strict
    """,
    "create index reading_events_by_opening on reading_events (opening_id)",
    """
    create table readings (
        id integer primary key autoincrement,
        study_id integer not null references studies (id),
        reader text not null,
        phase text not null,
        position integer not null,
        opening_id integer not null unique references openings (id),
        answer text,                        -- null: the film could not be shown
        reading_confidence integer,
        answered_at text not null,
        corrects integer references readings (id)
    ) strict
    """,
    """
    create unique index readings_first on readings (study_id, reader, phase, position)
        where corrects is null
    """,
    """
    create unique index readings_corrected on readings (corrects) where corrects is not null
    """,
    # How far a reader is, without a look at each answer.
    """
    create index readings_by_time on readings (study_id, reader, phase, answered_at)
        where corrects is null
    """,
)


@migrations()
def name_contents_by_blake3(db: Database) -> None:
    """Rename the column: only films that hipedge 0.2 or before recorded are named by SHA-256."""
    db.execute("alter table study_hips rename column sha256 to content_hash")
