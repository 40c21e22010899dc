"""Readers' answers, matched to the labelled hips: the arrays of a reader study.

Reads are matched to labels as predictions are, by a column that all labels and all reads have. A
hip counts where every reader has answered in every phase of the study and the model has answered
too, so that all are judged on the same hips; the others are left out and counted. A read without
a label, or two reads of one hip by one reader in one phase, is an error that names rows.
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
from hipedge.study.cases import Cases, film_columns, named_by, no_common_column, same_hip
from hipedge.study.inputs import PHASES, Label, Read
from hipedge.study.resampling import Array
from hipedge.types import Side


@dataclass(frozen=True, eq=False)
class ReaderStudy:
    """R readers' answers (R, P, N) on N hips in P phases, beside the model's.

    `confidence` and `seconds` are shaped as `answers`, NaN where not taken; both are `None` where
    nobody took them. `left_out` says how many hips are not here, and why.
    """

    cases: Cases
    readers: tuple[str, ...]
    grades: tuple[str, ...]
    phases: tuple[str, ...]
    answers: NDArray[np.int8]
    confidence: Array | None
    seconds: Array | None
    left_out: dict[str, int]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers (R, P, N) are right."""
        return np.asarray(self.answers == self.cases.truth)

    @property
    def model_right(self) -> NDArray[np.bool_]:
        """Which of the model's answers (N,) are right."""
        return np.asarray(self.cases.answer == self.cases.truth)


def match_reads(reads: Sequence[Read], labels: Sequence[Label], cases: Cases) -> ReaderStudy:
    """Join reads with the labels that `cases` came from, in the same order.

    Raises `InputError` where reads cannot be joined, a reader has two grades or lacks a phase,
    or no hip was read by all.
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
        where = readers.index(read.reader), phases.index(read.phase), hip
        if answers[where] >= 0:
            problems.add(read.row, "a second read of a hip by the same reader in the same phase")
        answers[where] = read.answer
        confidence[where] = np.nan if read.confidence is None else read.confidence
        seconds[where] = np.nan if read.seconds is None else read.seconds
    problems.raise_by_message()
    lacking = [
        f"{readers[r]} has no reads {phases[p]}" for r, p in np.argwhere((answers < 0).all(axis=2))
    ]
    if lacking:
        raise InputError("every reader must read in every phase: " + ", ".join(lacking))

    by_any = (answers >= 0).any(axis=(0, 1))
    by_all = (answers >= 0).all(axis=(0, 1))
    kept = by_all & cases.read
    if not kept.any():
        raise InputError("no hip was answered by every reader in every phase and by the model")
    return ReaderStudy(
        cases.where(kept),
        readers,
        grades,
        phases,
        answers[:, :, kept],
        _where_complete(confidence[:, :, kept]),
        seconds[:, :, kept] if np.isfinite(seconds[:, :, kept]).any() else None,
        left_out={
            "labelled, but read by nobody": int(np.sum(~by_any)),
            "a reader's answer is missing": int(np.sum(by_any & ~by_all)),
            "no answer by the model": int(np.sum(by_all & ~cases.read)),
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
    columns = film_columns(films)
    if not columns:
        raise no_common_column("reads")
    by_film: dict[str | None, list[tuple[int, Side]]] = defaultdict(list)
    for i, label in enumerate(labels):
        by_film[named_by(label.film, columns[0])].append((i, label.side))
    problems, hips = Problems("the reads"), []
    for read in reads:
        hip = same_hip(read.side, by_film.get(named_by(read.film, columns[0]), ()))
        if hip is None:
            problems.add(read.row, "a read of a hip that has no label")
        else:
            hips.append(hip)
    problems.raise_by_message()
    return hips


def _where_complete(values: Array) -> Array | None:
    """Return values that were taken throughout; a part of them cannot be analysed."""
    return values if np.isfinite(values).all() else None
