"""The line: discover → read → locate → prepare → infer → decide → record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hipedge.backends.base import Backend
from hipedge.decide import Rule, decide, population_marks
from hipedge.discover import discover
from hipedge.errors import Code
from hipedge.front import Front, Known, Prepared
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder
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
from hipedge.workers import Died, Workers

MAX_BATCH = 32


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

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
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
    store: Store,
    run: Run,
    rule: Rule,
    given_hips: GivenHips,
    workers: int,
    progress: Callable[[int, int], None],
) -> Summary:
    """Screen every file under `paths` into `store`; return what came of it.

    `progress` is called with how many files are done and how many there are. An interrupt ends
    the run; what was recorded stays, and the same call goes on from there.
    """
    found = discover(paths)
    summary = Summary(left_aside=len(found.left_aside))
    store.record(run, found.refusals, rule)
    for refusal in found.refusals:
        summary.add(refusal)
    front = Front(model.card.input, given_hips, store.contents(run), model.locator)
    progress(0, len(found.files))
    done = 0
    with Workers(front, min(workers, max(1, len(found.files)))) as pool:
        for batch in pool.run(found.files, claim=store.claim):
            results = [result_of(path, result) for path, result in batch]
            known = [result for result in results if isinstance(result, Known)]
            refusals = [result for result in results if isinstance(result, Refusal)]
            films = [result for result in results if isinstance(result, Prepared)]
            unique, duplicates = set_duplicates_apart(films, store, run)
            outcomes = [
                *refusals,
                *judge(unique, backend, rule, model.card.age_range_years),
                *duplicates,
            ]
            store.record(run, outcomes, rule)
            store.link(run, {one.source: one.sha256 for one in known})
            for outcome in outcomes:
                summary.add(outcome)
            summary.known += len(known)
            done += len(batch)
            progress(done, len(found.files))
    return summary


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
    backend: Backend,
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


def infer(samples: Sequence[Sample], backend: Backend) -> Iterator[Scores]:
    """Run the samples through the backend, in batches of bounded memory."""
    for start in range(0, len(samples), MAX_BATCH):
        batch = samples[start : start + MAX_BATCH]
        yield from backend.infer(np.stack([sample.pixels for sample in batch]))
