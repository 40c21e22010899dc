"""The line: discover → read → locate → prepare → infer → decide → record.

Three things go on at once: worker processes read, a thread infers, and the main process hands
films from one to the other, decides and records.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from hipedge.backends.base import Fingerprint
from hipedge.dicom import decoder_versions
from hipedge.errors import Code
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder
from hipedge.model.card import card_json
from hipedge.pipeline.batching import Batches, Scored
from hipedge.pipeline.discover import discover
from hipedge.pipeline.preprocess import Front, Known, Prepared
from hipedge.pipeline.workers import Died, Limits, Workers
from hipedge.rules.decide import Rule, decide, population_marks
from hipedge.store import Run, Store
from hipedge.types import Mark, Outcome, Priority, Refusal, ScoredHip, Screened
from hipedge.versions import versions

# Outcomes are committed together for so long, for each commit waits for the disk.
COMMIT_EVERY_S = 0.1


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
    batches: Batches,
    reason: str,
    store: Store,
    rule: Rule,
    given_hips: GivenHips,
    workers: int,
    limits: Limits,
    opened: Callable[[Fingerprint], None],
    progress: Callable[[int, int], None],
) -> Summary:
    """Screen every file under `paths` into `store`; return what came of it.

    `batches` may still be opening the backend, which was chosen for this `reason`, while the first
    files are read; `opened` is then called with what it is, and `progress` with how many files are
    done and how many there are. An interrupt ends the run; what was recorded stays, and the same
    call goes on from there.
    """
    found = discover(paths)
    summary = Summary()
    store.require_writable()  # else all that follows would be for nothing
    store.claim(refusal.source for refusal in found.refusals)
    front = Front(model.card.input, given_hips, store.contents(model.model_id), model.locator)
    with Workers(front, min(workers, max(1, len(found.files))), limits) as pool:
        read = pool.run(found.files, store.claim, batches)
        first = next(read, [])  # the workers have begun, and the model is being loaded
        run = start_run(store, model, batches.fingerprint, reason)
        opened(batches.fingerprint)
        line = Line(model, batches, store, run, rule)
        summary.add(line.record(found.refusals))
        done = 0
        for outcomes, known in transactions(line, chain([first], read)):
            progress(done, len(found.files))
            summary.add(line.record(outcomes))
            store.link(run, {one.source: one.sha256 for one in known})
            summary.known += len(known)
            done += len(outcomes) + len(known)
        progress(done, len(found.files))
    store.finish_run(run)
    # Folders that were not entered may hold much: nobody waits for them but the summary.
    summary.left_aside = found.count_left_aside()
    return summary


def transactions(
    line: Line, read: Iterable[Sequence[tuple[Path, Prepared | Refusal | Known | Died]]]
) -> Iterator[tuple[list[Outcome], list[Known]]]:
    """Yield what has come to its end, as much at a time as is to be committed together."""
    outcomes, known, since = list[Outcome](), list[Known](), 0.0
    for lot in read:
        results = [result_of(path, result) for path, result in lot]
        known += [result for result in results if isinstance(result, Known)]
        outcomes += line.start(one for one in results if not isinstance(one, Known))
        outcomes += line.judge()
        if (outcomes or known) and time.monotonic() - since >= COMMIT_EVERY_S:
            yield outcomes, known
            outcomes, known, since = [], [], time.monotonic()
    yield outcomes, known


def start_run(store: Store, model: ModelFolder, fingerprint: Fingerprint, reason: str) -> Run:
    """Record that a run of `model` begins, on the backend that was chosen for this reason."""
    return store.start_run(
        model_id=model.model_id,
        model_name=model.card.name,
        model_status=model.card.status.value,
        card=card_json(model.card).decode(),
        backend=str(fingerprint),
        backend_reason=reason,
        versions=versions() | decoder_versions(),
    )


@dataclass(frozen=True)
class Line:
    """The back half of the line, in the main process: infer → decide → record.

    `channels` are those that are told of flagged cases.
    """

    model: ModelFolder
    batches: Batches
    store: Store
    run: Run
    rule: Rule
    channels: tuple[str, ...] = ()

    def start(self, results: Iterable[Prepared | Refusal]) -> list[Outcome]:
        """Let the backend score the films among `results`; return the outcomes that need none.

        Those are the refusals, and the duplicates of what is in the database. Of a film that is
        still with the backend there is no duplicate yet: it may come to another end, so both are
        scored, and the database decides. Raises `StoreError`; then nothing has been started.
        """
        outcomes, unique = list[Outcome](), list[Prepared]()
        for result in results:
            if isinstance(result, Refusal):
                outcomes.append(result)
            elif self.store.same_pixels(self.run, result.film) is not None:
                outcomes.append(Refusal.of_duplicate(result.film, result.timings_ms))
            else:
                unique.append(result)
        self.batches.submit(unique)
        return outcomes

    def judge(self) -> list[Outcome]:
        """Decide about the films that have their scores; raise what the backend raised."""
        ages = self.model.card.age_range_years
        return [judge(scored, self.rule, ages) for scored in self.batches.collect()]

    def record(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Commit outcomes, in one transaction; return them as they stand in the database."""
        return self.store.record(self.run, outcomes, self.rule, self.channels) if outcomes else []


def result_of(path: Path, result: Prepared | Refusal | Known | Died) -> Prepared | Refusal | Known:
    """Turn the death of a worker into the refusal of the file that it died of."""
    return Refusal(path, Code.WORKER_DIED) if isinstance(result, Died) else result


def judge(scored: Scored, rule: Rule, age_range_years: tuple[float, float] | None) -> Outcome:
    """Decide about all hips of a film."""
    prepared, scores = scored.film, iter(scored.scores)
    hips = tuple(ScoredHip(hip, tuple(next(scores) for _ in ways)) for hip, ways in prepared.hips)
    timings_ms = {**prepared.timings_ms, **scored.timings_ms}
    if not all(np.isfinite(one.logits).all() for one in scored.scores):
        return Refusal(
            prepared.film.source,
            Code.SCORES_NOT_FINITE,
            sha256=prepared.film.sha256,
            film=prepared.film,
            marks=prepared.marks,
            timings_ms=timings_ms,
        )
    return Screened(
        film=prepared.film,
        hips=hips,
        findings=tuple(decide([one.logits for one in hip.scores], rule) for hip in hips),
        marks=prepared.marks | population_marks(prepared.film.age_years, age_range_years),
        timings_ms=timings_ms,
    )
