"""Drawing the hips of a reader study from the database, and writing what was read.

A table of hips has the columns of labels (`hipedge.study.inputs`), and is the `--labels` of
`hipedge readers` afterwards. Hips are found in the database as `hipedge readers` finds the model's
predictions: by the first of the columns that identify films that all rows have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hipedge.content import HASH_COLUMNS, hashes_of
from hipedge.csv_input import Problems, repeated_rows
from hipedge.errors import CODES, InputError, State
from hipedge.files import private_opener, replacing, write_csv
from hipedge.store.readings import Readings
from hipedge.store.rows import Case
from hipedge.store.studies import Studies, Study, StudyHip
from hipedge.study.cases import (
    common_film_columns,
    film_identifier,
    find_hip,
    no_common_column_error,
)
from hipedge.study.inputs import FILM_COLUMNS, Label, read_labels
from hipedge.study.recorded import RecordedNames
from hipedge.types import CATEGORIES

# The columns that the database has.
_RECORDED = (*HASH_COLUMNS, "sop_instance_uid", "path")
_READS = ("reader", "grade", "phase", *FILM_COLUMNS, "side", "answer", "confidence", "seconds",
          "paused_seconds", "openings", "clock", "position", "answered_at")  # fmt: skip

# Which of these films cannot be shown, and why, by content.
CheckFilms = Callable[[Sequence[Case]], Mapping[str, str]]


@dataclass(frozen=True)
class Export:
    """What was written: the number of reads, and of hips that could not be shown to a reader.

    `missing` counts the reads that are still to be done.
    """

    reads: int
    not_shown: int
    missing: int


def draw_hips(
    table: Path, training: Path | None, cases: Iterable[Case], check_films: CheckFilms
) -> tuple[list[StudyHip], str]:
    """Return the hips of a table, those of a training first, and the name of their model.

    `cases` are those of the database. Raises `InputError` naming all rows that cannot be read: a
    film that is not in the database, was not screened, is gone, has changed or cannot be decoded; a
    hip that was not found on it; a second row for a hip; a row without truth.
    """
    tables = [_Table(path, read_labels(path)) for path in (training, table) if path is not None]
    for case in cases:
        for one in tables:
            one.offer(case)
    hips: list[StudyHip] = []
    models = set()
    for one in tables:
        first = len(hips)
        for number, (label, case, place) in enumerate(one.draw(check_films), start=first):
            hips.append(_study_hip(number, one.path == training, label, case, place))
            models.add(case.model)
    seen = Counter((hip.content_hash, hip.scored.hip.side) for hip in hips)
    if any(count > 1 for count in seen.values()):
        raise InputError(f"hips of {training} are in {table} too: readers would know the truth")
    if len(models) > 1:
        raise InputError(
            f"the films were read by several models ({', '.join(sorted(models))}): "
            "screen them with one model into a database of its own"
        )
    return hips, models.pop()


class _Table:
    """A table of labels, and the cases of the database that it names."""

    def __init__(self, path: Path, labels: Sequence[Label]) -> None:
        self.path, self._labels = path, labels
        common = common_film_columns(label.film for label in labels)
        columns = [column for column in common if column in _RECORDED]
        if not columns:
            raise no_common_column_error("the database")
        self._column = columns[0]
        self._names = RecordedNames(self._column)
        self._cases: dict[str | None, list[Case]] = {
            film_identifier(label.film, self._column): [] for label in labels
        }

    def offer(self, case: Case) -> None:
        """Keep a case if the table names it."""
        identifier = film_identifier(self._names.of(case), self._column)
        if identifier is not None and identifier in self._cases:
            self._cases[identifier].append(case)

    def draw(self, check_films: CheckFilms) -> list[tuple[Label, Case, int]]:
        """Return each label with its case, and the number of its hip on the film."""
        problems, drawn = Problems(self.path), list[tuple[Label, Case, int]]()
        for label in self._labels:
            found = _hip_on(label, self._cases[film_identifier(label.film, self._column)])
            if isinstance(found, str):
                problems.add(label.row, found)
            else:
                drawn.append((label, *found))
        keys = ((label.row, (case.content_hash, place)) for label, case, place in drawn)
        for row, first in repeated_rows(keys):
            problems.add(row, f"a second row for the hip of line {first}")
        unavailable = check_films(list({case.content_hash: case for _, case, _ in drawn}.values()))
        for label, case, _ in drawn:
            if reason := unavailable.get(case.content_hash or ""):
                problems.add(label.row, reason)
        problems.raise_by_row()
        return drawn


def _hip_on(label: Label, named: Sequence[Case]) -> tuple[Case, int] | str:
    """Return the film and the hip of a label, or what is wrong with it."""
    films = [case for case in named if case.state is not State.DUPLICATE]
    if not named:
        return "this film is not in the database: screen it, or take the row out"
    if not films:
        return "this file is a duplicate of another one in the database: name that one"
    if len(films) > 1:
        return "several films of the database have this name: use the column content_hash"
    (case,) = films
    if case.code is not None:
        return f"this film was not screened: {CODES[case.code].meaning}"
    sides = [(number, scored.hip.side) for number, scored in enumerate(case.hips)]
    place = find_hip(label.side, sides)
    if place is None:
        return f"no {label.side.value} hip was found on this film"
    if sum(side is sides[place][1] for _, side in sides) > 1:
        return f"several {sides[place][1].value} hips were found on this film"
    return case, place


def _study_hip(number: int, training: bool, label: Label, case: Case, place: int) -> StudyHip:
    assert case.content_hash is not None
    assert case.shape is not None
    names = {column: film_identifier(label.film, column) for column in FILM_COLUMNS}
    return StudyHip(
        number=number,
        is_training=training,
        path=case.path,
        content_hash=case.content_hash,
        sop_instance_uid=case.sop_instance_uid,
        marks=case.marks,
        shape=case.shape,
        spacing_mm=case.spacing_mm,
        age_years=case.age_years,
        sex=case.sex,
        scored=case.hips[place],
        finding=case.findings[place],
        side=label.side,
        named={column: name for column, name in names.items() if name},
        truth=CATEGORIES[label.category],
        patient=label.patient,
    )


def export_reads(studies: Studies, study: Study, target: Path) -> Export:
    """Write the reads of a study as `hipedge readers` takes them.

    Further columns, which it ignores: the seconds without the film on the screen, how often the hip
    was opened, whose clock measured (`page`, or `server` where both disagree), the hip's position
    in the reader's order, and when it was answered. Raises `InputError` if there are no reads.
    """
    hips = {hip.number: hip for hip in studies.hips(study.study_id)}
    readings = [one for one in Readings(studies).all_of(study) if one.phase in study.plan.phases]
    rows = []
    for one in readings:
        if one.answer is None:
            continue
        hip, times = hips[one.hip], one.times
        names = _names(hip)
        rows.append([
            one.reader, study.plan.readers[one.reader], one.phase.value,
            *(names.get(column) for column in FILM_COLUMNS), hip.side.value, one.answer.value,
            one.confidence, f"{times.seconds:.3f}", f"{times.paused_s:.3f}", one.openings,
            "server" if times.by_server else "page", one.position + 1, one.answered_at,
        ])  # fmt: skip
    if not rows:
        raise InputError(f"nobody has read in the study {study.plan.name!r} yet")
    _write(target, _READS, rows)
    expected = study.hips * len(study.plan.readers) * len(study.plan.phases)
    return Export(len(rows), len(readings) - len(rows), expected - len(readings))


def export_predictions(studies: Studies, study: Study, target: Path) -> None:
    """Write the findings that the study shows, as the `--model-predictions` of `hipedge readers`.

    They are those of the time when the study was made.
    """
    header = (*FILM_COLUMNS, "side", "category", "flagged", *(one.value for one in CATEGORIES))
    rows = [
        [
            *(_names(hip).get(column) for column in FILM_COLUMNS),
            hip.scored.hip.side.value, hip.finding.category.value, int(hip.finding.flagged),
            *hip.finding.probabilities,
        ]
        for hip in studies.hips(study.study_id)
        if not hip.is_training
    ]  # fmt: skip
    _write(target, header, rows)


def _names(hip: StudyHip) -> dict[str, str | None]:
    """Return what identifies a hip's film: its content, and the names in the table of hips."""
    return {**hashes_of(hip.content_hash), **hip.named}


def _write(target: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    try:
        with (
            replacing(target) as partial,
            open(partial, "w", encoding="utf-8", newline="", opener=private_opener) as file,
        ):
            write_csv(file, header, rows)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from error
