"""The line: discover → read → locate → prepare → infer → decide → record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend, Fingerprint
from hipedge.decide import Rule, decide, population_marks
from hipedge.discover import discover
from hipedge.errors import Code
from hipedge.front import Front, Known, Prepared
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder
from hipedge.model.card import card_json
from hipedge.store import Run, Store
from hipedge.types import (
    Mark,
    Outcome,
    Priority,
    Refusal,
    Sample,
    ScoredHip,
    Scores,
    Screened,
)
from hipedge.versions import versions
from hipedge.workers import Died, Limits, Workers

MAX_BATCH = 32


class Infers(Protocol):
    """A backend, here or in a process of its own."""

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Scores, ...]:
        """Score a batch as `Backend.infer` does."""


@dataclass
class Summary:
    """What one run did. `refused` counts files by code."""

    screened: int = 0
    known: int = 0
    hips: int = 0
    flagged: Counter[Priority] = field(default_factory=Counter)
    refused: Counter[Code] = field(default_factory=Counter)
    marks: Counter[Mark] = field(default_factory=Counter)
    left_aside: int = 0

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes."""
        for outcome in outcomes:
            self._add_one(outcome)

    def _add_one(self, outcome: Outcome) -> None:
        self.marks.update(outcome.marks)
        if isinstance(outcome, Refusal):
            self.refused[outcome.code] += 1
            return
        self.screened += 1
        self.hips += len(outcome.hips)
        self.flagged.update(finding.priority for finding in outcome.findings if finding.flagged)


def screen(
    paths: Iterable[Path],
    *,
    model: ModelFolder,
    backend: Backend,
    reason: str,
    store: Store,
    rule: Rule,
    given_hips: GivenHips,
    workers: int,
    limits: Limits,
    progress: Callable[[int, int], None],
) -> Summary:
    """Screen every file under `paths` into `store`; return what came of it.

    `reason` is why this backend was chosen. `progress` is called with how many files are done and
    how many there are. An interrupt ends the run; what was recorded stays, and the same call goes
    on from there.
    """
    found = discover(paths)
    run = start_run(store, model, backend.fingerprint, reason)
    summary = Summary(left_aside=len(found.left_aside))
    line = Line(model, backend, store, run, rule)
    store.claim(refusal.source for refusal in found.refusals)
    summary.add(line.finish(found.refusals))
    front = Front(model.card.input, given_hips, store.contents(run), model.locator)
    progress(0, len(found.files))
    done = 0
    with Workers(front, min(workers, max(1, len(found.files))), limits) as pool:
        for batch in pool.run(found.files, claim=store.claim):
            results = [result_of(path, result) for path, result in batch]
            known = [result for result in results if isinstance(result, Known)]
            summary.add(line.finish(one for one in results if not isinstance(one, Known)))
            store.link(run, {one.source: one.sha256 for one in known})
            summary.known += len(known)
            done += len(batch)
            progress(done, len(found.files))
    store.finish_run(run)
    return summary


def start_run(store: Store, model: ModelFolder, fingerprint: Fingerprint, reason: str) -> Run:
    """Record that a run of `model` begins, on the backend that was chosen for this reason."""
    return store.start_run(
        model_id=model.model_id,
        model_name=model.card.name,
        model_status=model.card.status.value,
        card=card_json(model.card).decode(),
        backend=str(fingerprint),
        backend_reason=reason,
        versions=versions(),
    )


@dataclass(frozen=True)
class Line:
    """The back half of the line, in the main process: infer → decide → record.

    `channels` are those that are told of flagged cases.
    """

    model: ModelFolder
    backend: Infers
    store: Store
    run: Run
    rule: Rule
    channels: tuple[str, ...] = ()

    def finish(self, results: Iterable[Prepared | Refusal]) -> list[Outcome]:
        """Bring what the front half returned to its end: one outcome each, all of them committed.

        Raises `BackendError` or `StoreError`; then nothing of it is committed.
        """
        outcomes = self.judge(results)
        self.record(outcomes)
        return outcomes

    def judge(self, results: Iterable[Prepared | Refusal]) -> list[Outcome]:
        """Return the outcome of each result, none of them committed."""
        results = list(results)
        refusals = [result for result in results if isinstance(result, Refusal)]
        films = [result for result in results if isinstance(result, Prepared)]
        unique, duplicates = set_duplicates_apart(films, self.store, self.run)
        ages = self.model.card.age_range_years
        return [*refusals, *judge(unique, self.backend, self.rule, ages), *duplicates]

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Commit outcomes, in one transaction."""
        self.store.record(self.run, outcomes, self.rule, self.channels)


def result_of(path: Path, result: Prepared | Refusal | Known | Died) -> Prepared | Refusal | Known:
    """Turn the death of a worker into the refusal of the file that it died of."""
    return Refusal(path, Code.WORKER_DIED) if isinstance(result, Died) else result


def set_duplicates_apart(
    films: Sequence[Prepared], store: Store, run: Run
) -> tuple[list[Prepared], list[Refusal]]:
    """Part the films from those whose SOP Instance UID and pixels were screened already."""
    unique, duplicates, seen = list[Prepared](), list[Refusal](), set[tuple[str, str]]()
    for prepared in films:
        film = prepared.film
        key = (film.sop_instance_uid or film.sha256, film.pixel_sha256)
        if key in seen or store.same_pixels(run, film) is not None:
            duplicates.append(Refusal(film.source, Code.SAME_PIXELS, sha256=film.sha256, film=film))
        else:
            seen.add(key)
            unique.append(prepared)
    return unique, duplicates


def judge(
    films: Sequence[Prepared],
    backend: Infers,
    rule: Rule,
    age_range_years: tuple[float, float] | None,
) -> Iterator[Outcome]:
    """Infer and decide, for all hips of some films together."""
    samples = [sample for film in films for _, ways in film.hips for sample in ways]
    if not samples:
        return
    start = time.perf_counter()
    scores = iter(infer(samples, backend))
    infer_ms = (time.perf_counter() - start) * 1e3 / len(films)
    for prepared in films:
        hips = tuple(
            ScoredHip(hip, tuple(next(scores) for _ in ways)) for hip, ways in prepared.hips
        )
        timings_ms = {**prepared.timings_ms, "infer": infer_ms}
        if not all(np.isfinite(one.logits).all() for hip in hips for one in hip.scores):
            yield Refusal(
                prepared.film.source,
                Code.SCORES_NOT_FINITE,
                sha256=prepared.film.sha256,
                film=prepared.film,
                timings_ms=timings_ms,
            )
            continue
        yield Screened(
            film=prepared.film,
            hips=hips,
            findings=tuple(decide([one.logits for one in hip.scores], rule) for hip in hips),
            marks=prepared.marks | population_marks(prepared.film.age_years, age_range_years),
            timings_ms=timings_ms,
        )


def infer(samples: Sequence[Sample], backend: Infers) -> Iterator[Scores]:
    """Run the samples through the backend, in batches of bounded memory."""
    for start in range(0, len(samples), MAX_BATCH):
        batch = samples[start : start + MAX_BATCH]
        yield from backend.infer(np.stack([sample.pixels for sample in batch]))
