"""The second half of the pipeline, in the main process: infer → decide → record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hipedge.backends.base import Fingerprint
from hipedge.dicom.decoder_versions import decoder_versions
from hipedge.errors import Code
from hipedge.model import ModelFolder
from hipedge.model.card import card_json
from hipedge.pipeline.batching import BatchScheduler, Scored
from hipedge.pipeline.preprocessor import Prepared
from hipedge.pipeline.workers import WorkerCrash
from hipedge.rules.decide import Rule, decide, population_marks
from hipedge.store.outbox import ResultPolicy
from hipedge.store.store import Run, Store
from hipedge.types import Known, Mark, Outcome, Priority, Refusal, ScoredHip, Screened
from hipedge.versions import versions

# Outcomes are gathered this long for one transaction, since each commit waits for the disk.
COMMIT_INTERVAL_S = 0.1

# What a worker process returns for one file.
Preprocessed = Prepared | Refusal | Known | WorkerCrash


@dataclass
class Summary:
    """Counts of one run. `refused` counts files by code, `flagged` hips by priority.

    `unmatched_hips` are the lines of `--hips` that match no file of the run, `hips_of_known` counts
    the films in it whose hips were recorded before and stay as they are.
    """

    screened: int = 0
    known: int = 0
    hips: int = 0
    flagged: Counter[Priority] = field(default_factory=Counter)
    refused: Counter[Code] = field(default_factory=Counter)
    marks: Counter[Mark] = field(default_factory=Counter)
    left_aside: int = 0
    unmatched_hips: tuple[str, ...] = ()
    hips_of_known: int = 0

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes."""
        for outcome in outcomes:
            self.marks.update(outcome.marks)
            if isinstance(outcome, Refusal):
                self.refused[outcome.code] += 1
            else:
                self.screened += 1
                self.hips += len(outcome.hips)
                self.flagged.update(f.priority for f in outcome.findings if f.flagged)

    def merge(self, other: Summary) -> None:
        """Add the counts of another part of the same run."""
        self.screened += other.screened
        self.known += other.known
        self.hips += other.hips
        self.flagged += other.flagged
        self.refused += other.refused
        self.marks += other.marks


@dataclass(frozen=True)
class ResultPipeline:
    """Scores preprocessed films, decides on their hips and records the outcomes.

    `channels` are the notification channels on which flagged cases are reported, `results` says
    which results are sent to PACS.
    """

    model: ModelFolder
    batches: BatchScheduler
    store: Store
    run: Run
    rule: Rule
    channels: tuple[str, ...] = ()
    results: ResultPolicy = field(default_factory=ResultPolicy)

    def submit(self, results: Iterable[Prepared | Refusal]) -> list[Outcome]:
        """Submit films for inference; return the outcomes that need none.

        These are the refusals, and duplicates of films in the database. A film that is still being
        scored has no duplicates yet, since it may be refused: both are scored, and the database
        decides when they are recorded. Raises `StoreError`; then nothing has been submitted.
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

    def collect(self) -> list[Outcome]:
        """Decide on the films whose scores are complete; raise what the backend raised."""
        ages = self.model.card.age_range_years
        return [decide_film(scored, self.rule, ages) for scored in self.batches.collect()]

    def record(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Commit outcomes in one transaction; return them as recorded in the database."""
        if not outcomes:
            return []
        return self.store.record(self.run, outcomes, self.rule, self.channels, self.results)

    def apply(self, rule: Rule) -> tuple[ResultPipeline, int]:
        """Decide by another rule; return the pipeline that does, and the number of decisions."""
        decided = self.store.apply_rule(self.run.model_id, rule, self.channels, self.results)
        return replace(self, rule=rule), decided


def start_run(store: Store, model: ModelFolder, fingerprint: Fingerprint, reason: str) -> Run:
    """Record the start of a run of `model`, and the reason why its backend was chosen."""
    return store.start_run(
        model_id=model.model_id,
        model_name=model.card.name,
        model_status=model.card.status.value,
        card=card_json(model.card).decode(),
        backend=str(fingerprint),
        backend_reason=reason,
        versions=versions() | decoder_versions(),
    )


def transactions(
    pipeline: ResultPipeline, preprocessed: Iterable[Sequence[tuple[Path, Preprocessed]]]
) -> Iterator[tuple[list[Outcome], list[Known]]]:
    """Yield the outcomes and known files of one transaction after the other."""
    outcomes, known, since = list[Outcome](), list[Known](), 0.0
    for batch in preprocessed:
        results = [refuse_crash(path, result) for path, result in batch]
        known += [result for result in results if isinstance(result, Known)]
        outcomes += pipeline.submit(result for result in results if not isinstance(result, Known))
        outcomes += pipeline.collect()
        if (outcomes or known) and time.monotonic() - since >= COMMIT_INTERVAL_S:
            yield outcomes, known
            outcomes, known, since = [], [], time.monotonic()
    yield outcomes, known


def refuse_crash(path: Path, result: Preprocessed) -> Prepared | Refusal | Known:
    """Replace the crash of a worker by the refusal of the file that it was working on."""
    return Refusal(path, Code.WORKER_DIED) if isinstance(result, WorkerCrash) else result


def decide_film(scored: Scored, rule: Rule, age_range_years: tuple[float, float] | None) -> Outcome:
    """Decide on all hips of a film; refuse it where a score is not finite."""
    prepared, scores = scored.film, iter(scored.scores)
    hips = tuple(ScoredHip(hip, tuple(next(scores) for _ in views)) for hip, views in prepared.hips)
    timings_ms = {**prepared.timings_ms, **scored.timings_ms}
    if not all(np.isfinite(view.logits).all() for view in scored.scores):
        return Refusal(
            prepared.film.source,
            Code.SCORES_NOT_FINITE,
            content_hash=prepared.film.content_hash,
            film=prepared.film,
            marks=prepared.marks,
            timings_ms=timings_ms,
            sha256=prepared.film.sha256,
        )
    return Screened(
        film=prepared.film,
        hips=hips,
        findings=tuple(decide([view.logits for view in hip.scores], rule) for hip in hips),
        marks=prepared.marks | population_marks(prepared.film.age_years, age_range_years),
        timings_ms=timings_ms,
    )
