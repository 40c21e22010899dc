"""What readers do in a study: hips on their screens, the times of that, and their answers.

Hips come in the order of the study. Each one that is put on a screen is an *opening*; only the
newest opening of a reader can be answered, so that a second window, or the window of a session that
has died, answers nothing. Rows are appended and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from hipedge.errors import StaleAnswer
from hipedge.store.connection import utc_moment, utc_text
from hipedge.store.studies import Phase, Studies, Study, StudyHip
from hipedge.types import Category

CONFIDENCES = (1, 2, 3, 4, 5)
# A page that is open for longer than a working day reports no more.
MAX_EVENTS = 10_000
# The clocks of page and server count the time since the first picture alike, but for the network.
MAX_DIFFERENCE_S = 2.0


class Event(str, Enum):
    """What is recorded of an opening: the first two by the server, the others as the page says.

    `drawn` is the first picture, `beat` that the page is still there, `paused` and `resumed` that
    the film left the screen (by the reader's pause, or another window or tab) and came back, `left`
    that the page was closed, `answered` the time that it sent with the answer.
    """

    FILM = "film"
    UNAVAILABLE = "unavailable"
    DRAWN = "drawn"
    BEAT = "beat"
    PAUSED = "paused"
    RESUMED = "resumed"
    LEFT = "left"
    ANSWERED = "answered"


OF_PAGE = (Event.DRAWN, Event.BEAT, Event.PAUSED, Event.RESUMED, Event.LEFT)


@dataclass(frozen=True)
class Standing:
    """How far a reader is in a study.

    `phase` is the one to be read now, None where all are finished; `done` and `total` count its
    hips. `opens_at` is when it begins, where that is still to come. `finished_at` are the times of
    the last first answers of the finished phases.
    """

    phase: Phase | None
    done: int
    total: int
    opens_at: datetime | None
    finished_at: Mapping[Phase, datetime]

    @property
    def is_open(self) -> bool:
        """Whether there is a hip to be read now."""
        return self.phase is not None and self.opens_at is None


@dataclass(frozen=True)
class Opening:
    """A hip on a reader's screen; `position` counts from 0 in the phase."""

    opening_id: int
    study_id: int
    reader: str
    phase: Phase
    position: int


@dataclass(frozen=True)
class Times:
    """How long one opening, or all of a hip's, had the film on the screen.

    `seconds` are by the page's clock, or where that contradicts the server's (`by_server`) by the
    latter. `paused_s` are those from the first picture on without the film on the screen.
    """

    seconds: float
    paused_s: float
    by_server: bool

    def __add__(self, other: Times) -> Times:
        return Times(
            self.seconds + other.seconds,
            self.paused_s + other.paused_s,
            self.by_server or other.by_server,
        )


@dataclass(frozen=True)
class Reading:
    """A reader's answer for a hip. `answer` is None where the film could not be shown.

    `times` are of all `openings` up to that of the answer.
    """

    reader: str
    phase: Phase
    position: int
    hip: int
    answer: Category | None
    confidence: int | None
    answered_at: str
    times: Times
    openings: int


class Readings:
    """The readings in a database of studies."""

    def __init__(self, studies: Studies) -> None:
        self._studies = studies

    def standing(self, study: Study, reader: str) -> Standing:
        """Return how far a reader is."""
        finished: dict[Phase, datetime] = {}
        for phase in (Phase.TRAINING, *study.plan.phases):
            total = study.training if phase is Phase.TRAINING else study.hips
            done, last = self._progress(study.study_id, reader, phase)
            if done < total:
                opens_at = self._opens_at(study, phase, finished)
                return Standing(phase, done, total, opens_at, finished)
            if last is not None:
                finished[phase] = last
        return Standing(None, 0, 0, None, finished)

    def open(self, study: Study, reader: str, position: int | None = None) -> Opening:
        """Put a hip on a reader's screen: the next one, or an earlier one of the phase.

        Raises `StaleAnswer` where there is nothing to be read now, or no going back.
        """
        with self._studies.transaction():
            standing = self.standing(study, reader)
            phase = self._open_phase(study, standing)
            place = standing.done if position is None else position
            if not 0 <= place <= standing.done or (
                place < standing.done and not study.plan.may_return(phase)
            ):
                raise StaleAnswer("this study has no way back to a hip, nor ahead to one")
            row = {
                "study_id": study.study_id,
                "reader": reader,
                "phase": phase.value,
                "position": place,
                "opened_at": self._now(),
            }
            opening_id = self._studies.insert("openings", row)
        return Opening(opening_id, study.study_id, reader, phase, place)

    def opening(self, study: Study, reader: str, opening_id: int) -> Opening | None:
        """Return an opening; None where it is not this reader's in this study."""
        rows = self._studies.query(
            "select * from openings where id = ? and study_id = ? and reader = ?",
            [min(opening_id, 2**63 - 1), study.study_id, reader],
        )
        return next((_opening(row) for row in rows), None)

    def hip_of(self, opening: Opening) -> StudyHip:
        """Return the hip of an opening."""
        (row,) = self._studies.query(
            "select hip from reading_order where study_id = ? and reader = ? and phase = ?"
            " and position = ?",
            [opening.study_id, opening.reader, opening.phase.value, opening.position],
        )
        return self._studies.hip(opening.study_id, row["hip"])

    def record(
        self,
        study: Study,
        opening: Opening,
        event: Event,
        shown_ms: float | None = None,
        paused_ms: float | None = None,
    ) -> None:
        """Record what happened to an opening.

        Raises `StaleAnswer` if it is not the one on the reader's screen, and for no end of events.
        """
        with self._studies.transaction():
            self.check_is_current(study, opening)
            (row,) = self._studies.query(
                "select count(*) as events from reading_events where opening_id = ?",
                [opening.opening_id],
            )
            if row["events"] >= MAX_EVENTS:
                raise StaleAnswer("this page was open for too long: load it again")
            self._insert_event(opening, event, shown_ms, paused_ms)

    def check_is_current(self, study: Study, opening: Opening) -> None:
        """Raise `StaleAnswer` unless an opening is the one on the reader's screen."""
        phase = self._open_phase(study, self.standing(study, opening.reader))
        (row,) = self._studies.query(
            "select max(id) as newest from openings where study_id = ? and reader = ?",
            [opening.study_id, opening.reader],
        )
        answered = self._studies.query(
            "select 1 from readings where opening_id = ?", [opening.opening_id]
        )
        if row["newest"] != opening.opening_id or opening.phase is not phase or answered:
            raise StaleAnswer("the study goes on in another window: this one is out of date")

    def has(self, opening: Opening, event: Event) -> bool:
        """Return whether an event of this kind was recorded."""
        sql = "select 1 from reading_events where opening_id = ? and kind = ? limit 1"
        return bool(self._studies.query(sql, [opening.opening_id, event.value]))

    def answer(
        self,
        study: Study,
        opening: Opening,
        answer: Category | None,
        confidence: int | None,
        *,
        shown_ms: float | None,
        paused_ms: float | None,
    ) -> None:
        """Record an answer. The same answer of an opening a second time changes nothing.

        `answer` and `confidence` are None for a film that could not be shown. Raises `StaleAnswer`
        if the opening is not the one on the reader's screen, or was answered otherwise.
        """
        value = answer and answer.value
        with self._studies.transaction():
            given = self._studies.query(
                "select answer, reading_confidence from readings where opening_id = ?",
                [opening.opening_id],
            )
            if given == [{"answer": value, "reading_confidence": confidence}]:
                return
            if given:
                raise StaleAnswer("this hip was answered already, and the answer stays")
            self.check_is_current(study, opening)
            earlier = self._studies.query(
                "select id from readings where study_id = ? and reader = ? and phase = ?"
                " and position = ? order by id desc limit 1",
                _place(opening),
            )
            row = {
                "study_id": opening.study_id,
                "reader": opening.reader,
                "phase": opening.phase.value,
                "position": opening.position,
                "opening_id": opening.opening_id,
                "answer": value,
                "reading_confidence": confidence,
                "answered_at": self._now(),
                "corrects": earlier[0]["id"] if earlier else None,
            }
            self._insert_event(opening, Event.ANSWERED, shown_ms, paused_ms)
            self._studies.insert("readings", row)

    def given(self, opening: Opening) -> Reading | None:
        """Return a reader's present answer for the hip of an opening; None where there is none."""
        study_id = opening.study_id
        found = self._present(
            study_id, "and readings.reader = ? and readings.phase = ? and readings.position = ?",
            [opening.reader, opening.phase.value, opening.position],
        )  # fmt: skip
        return next(found, None)

    def all_of(self, study: Study) -> list[Reading]:
        """Return the present answers of a study, by reader, phase and position."""
        return list(self._present(study.study_id, "", []))

    def _present(
        self, study_id: int, condition: str, parameters: list[object]
    ) -> Iterator[Reading]:
        rows = self._studies.query(
            "select readings.*, hip from readings"
            " join reading_order using (study_id, reader, phase, position)"
            " where readings.study_id = ? and readings.id not in"
            " (select corrects from readings where corrects is not null)"
            f" {condition} order by readings.reader, readings.phase, readings.position",
            [study_id, *parameters],
        )
        for row in rows:
            openings = self._studies.query(
                "select id from openings where study_id = ? and reader = ? and phase = ?"
                " and position = ? and id <= ?",
                [study_id, row["reader"], row["phase"], row["position"], row["opening_id"]],
            )
            times = [self._times(one["id"]) for one in openings]
            yield Reading(
                reader=row["reader"],
                phase=Phase(row["phase"]),
                position=row["position"],
                hip=row["hip"],
                answer=Category(row["answer"]) if row["answer"] else None,
                confidence=row["reading_confidence"],
                answered_at=row["answered_at"],
                times=sum(times, Times(0.0, 0.0, False)),
                openings=len(times),
            )

    def _times(self, opening_id: int) -> Times:
        sql = "select * from reading_events where opening_id = ? order by id"
        return times_of(self._studies.query(sql, [opening_id]))

    def _open_phase(self, study: Study, standing: Standing) -> Phase:
        if study.closed_at is not None:
            raise StaleAnswer("this study is closed")
        if standing.phase is None or not standing.is_open:
            raise StaleAnswer("there is no hip to be read now")
        return standing.phase

    def _progress(self, study_id: int, reader: str, phase: Phase) -> tuple[int, datetime | None]:
        (row,) = self._studies.query(
            "select count(*) as done, max(answered_at) as last from readings where study_id = ?"
            " and reader = ? and phase = ? and corrects is null",
            [study_id, reader, phase.value],
        )
        return row["done"], None if row["last"] is None else utc_moment(row["last"])

    def _opens_at(
        self, study: Study, phase: Phase, finished: Mapping[Phase, datetime]
    ) -> datetime | None:
        if phase not in study.plan.phases[1:]:
            return None
        opens_at = finished[study.plan.phases[0]] + study.plan.washout
        return opens_at if opens_at > self._studies.clock() else None

    def _insert_event(
        self, opening: Opening, event: Event, shown_ms: float | None, paused_ms: float | None
    ) -> None:
        row = {
            "opening_id": opening.opening_id,
            "kind": event.value,
            "at": self._now(),
            "shown_ms": shown_ms,
            "paused_ms": paused_ms,
        }
        self._studies.insert("reading_events", row)

    def _now(self) -> str:
        return utc_text(self._studies.clock())


def times_of(events: list[dict[str, Any]]) -> Times:
    """Return the times of one opening from its events in their order.

    The page's last report counts, also where the session died and no answer came with it. The
    server has its own time of the first picture, or of the film that was sent for it; a page that
    reports another time since then, by more than `MAX_DIFFERENCE_S`, is not believed.
    """
    reports = [event for event in events if event["shown_ms"] is not None]
    drawn = [event for event in events if event["kind"] == Event.DRAWN.value]
    sent = [event for event in events if event["kind"] == Event.FILM.value]
    if not events or not (drawn or sent):
        return Times(0.0, 0.0, False)
    begin = utc_moment((drawn or sent)[0]["at"])
    end = max((utc_moment(event["at"]) for event in events), default=begin)
    by_server_s = max(0.0, (end - begin) / timedelta(seconds=1))
    if not reports:
        answered = events[-1]["kind"] == Event.ANSWERED.value
        return Times(by_server_s, 0.0, True) if answered else Times(0.0, 0.0, False)
    shown_s, paused_s = reports[-1]["shown_ms"] / 1000, reports[-1]["paused_ms"] / 1000
    if reports[-1] is events[-1] and abs(shown_s + paused_s - by_server_s) <= MAX_DIFFERENCE_S:
        return Times(shown_s, paused_s, False)
    paused_s = min(paused_s, by_server_s)
    return Times(by_server_s - paused_s, paused_s, True)


def _place(opening: Opening) -> list[object]:
    return [opening.study_id, opening.reader, opening.phase.value, opening.position]


def _opening(row: Mapping[str, Any]) -> Opening:
    return Opening(row["id"], row["study_id"], row["reader"], Phase(row["phase"]), row["position"])
