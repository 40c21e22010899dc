"""Matching of readers' answers to labelled hips: the arrays of a reader study.

Reads are matched to labels as predictions are, by a column that all labels and all reads have. The
analysis includes the hips that the model and every reader in every phase have answered, so that all
are compared on the same hips; the others are excluded and counted. A read without a label, or a
second read of a hip by a reader in a phase, is an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hipedge.csv_input import Problems
from hipedge.errors import InputError
from hipedge.study.cases import (
    Cases,
    common_film_columns,
    film_identifier,
    find_hip,
    no_common_column_error,
)
from hipedge.study.inputs import PHASES, Label, Read
from hipedge.study.resampling import Array
from hipedge.types import Side


@dataclass(frozen=True, eq=False)
class ReaderStudy:
    """Answers (R, P, N) of R readers in P phases for N hips, with the model's in `cases`.

    `confidence` and `seconds` have the shape of `answers`; `confidence` is `None` unless it was
    recorded for every read, `seconds` are NaN where missing, and `None` if never recorded.
    `excluded` counts the excluded hips by reason.
    """

    cases: Cases
    readers: tuple[str, ...]
    grades: tuple[str, ...]
    phases: tuple[str, ...]
    answers: NDArray[np.int8]
    confidence: Array | None
    seconds: Array | None
    excluded: dict[str, int]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which answers (R, P, N) are correct."""
        return np.asarray(self.answers == self.cases.truth)

    @property
    def model_correct(self) -> NDArray[np.bool_]:
        """Which of the model's answers (N,) are correct."""
        return np.asarray(self.cases.answer == self.cases.truth)


def match_reads(reads: Sequence[Read], labels: Sequence[Label], cases: Cases) -> ReaderStudy:
    """Match reads with `labels`, from which `cases` were made in the same order.

    Raises `InputError` if reads cannot be matched, if a reader has two grades or no reads in a
    phase, or if no hip was answered by all.
    """
    readers = tuple(dict.fromkeys(read.reader for read in reads))
    phases = tuple(phase for phase in PHASES if any(read.phase == phase for read in reads))
    grades = _grades(reads, readers)
    hips = _hips(reads, labels)

    shape = (len(readers), len(phases), len(labels))
    answers = np.full(shape, -1, dtype=np.int8)
    confidence, seconds = np.full(shape, np.nan), np.full(shape, np.nan)
    problems = Problems("the reads")
    for read, hip in zip(reads, hips, strict=True):
        index = readers.index(read.reader), phases.index(read.phase), hip
        if answers[index] >= 0:
            problems.add(read.row, "a second read of a hip by the same reader in the same phase")
        answers[index] = read.answer
        confidence[index] = np.nan if read.confidence is None else read.confidence
        seconds[index] = np.nan if read.seconds is None else read.seconds
    problems.raise_by_message()
    missing = [
        f"{readers[r]} has no reads {phases[p]}" for r, p in np.argwhere((answers < 0).all(axis=2))
    ]
    if missing:
        raise InputError("every reader must read in every phase: " + ", ".join(missing))

    by_any = (answers >= 0).any(axis=(0, 1))
    by_all = (answers >= 0).all(axis=(0, 1))
    kept = by_all & cases.answered
    if not kept.any():
        raise InputError("no hip was answered by every reader in every phase and by the model")
    return ReaderStudy(
        cases.select(kept),
        readers,
        grades,
        phases,
        answers[:, :, kept],
        _if_complete(confidence[:, :, kept]),
        seconds[:, :, kept] if np.isfinite(seconds[:, :, kept]).any() else None,
        excluded={
            "labelled, but not read": int(np.sum(~by_any)),
            "a reader's answer is missing": int(np.sum(by_any & ~by_all)),
            "no answer by the model": int(np.sum(by_all & ~cases.answered)),
        },
    )


def _grades(reads: Sequence[Read], readers: tuple[str, ...]) -> tuple[str, ...]:
    grade_of: dict[str, str] = {}
    problems = Problems("the reads")
    for read in reads:
        if grade_of.setdefault(read.reader, read.grade) != read.grade:
            problems.add(read.row, "a reader with a second grade")
    problems.raise_by_message()
    return tuple(grade_of[reader] for reader in readers)


def _hips(reads: Sequence[Read], labels: Sequence[Label]) -> list[int]:
    """Return the index of each read's label."""
    films = chain((label.film for label in labels), (read.film for read in reads))
    columns = common_film_columns(films)
    if not columns:
        raise no_common_column_error("reads")
    by_film: dict[str | None, list[tuple[int, Side]]] = defaultdict(list)
    for i, label in enumerate(labels):
        by_film[film_identifier(label.film, columns[0])].append((i, label.side))
    problems, hips = Problems("the reads"), []
    for read in reads:
        hip = find_hip(read.side, by_film.get(film_identifier(read.film, columns[0]), ()))
        if hip is None:
            problems.add(read.row, "a read of a hip that has no label")
        else:
            hips.append(hip)
    problems.raise_by_message()
    return hips


def _if_complete(values: Array) -> Array | None:
    """Return the values if they are complete; incomplete ones cannot be analysed."""
    return values if np.isfinite(values).all() else None
