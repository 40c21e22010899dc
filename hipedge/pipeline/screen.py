"""The screening pipeline on a page: discover → read → locate → prepare → infer → decide → record.

Worker processes read, locate and prepare; a thread infers; the main process passes films from the
workers to the thread, decides and records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from hipedge.backends.base import Fingerprint
from hipedge.locate import GivenHips, file_names
from hipedge.model import ModelFolder
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.discover import discover
from hipedge.pipeline.preprocess import Preprocessor
from hipedge.pipeline.results import ResultPipeline, Summary, start_run, transactions
from hipedge.pipeline.workers import Limits, Workers
from hipedge.rules.decide import Rule
from hipedge.store import Store
from hipedge.types import Outcome, Screened


def screen(
    paths: Iterable[Path],
    *,
    model: ModelFolder,
    batches: BatchScheduler,
    reason: str,
    store: Store,
    rule: Rule,
    given_hips: GivenHips,
    workers: int,
    limits: Limits,
    opened: Callable[[Fingerprint], None],
    progress: Callable[[int, int], None],
) -> Summary:
    """Screen every file under `paths` into `store`; return the run's counts.

    `batches` may still be opening the backend, which was chosen for `reason`, while the first
    files are read; `opened` is called with its fingerprint once it is open, and `progress` with
    the number of files done and their total. An interrupt ends the run; what was recorded stays,
    and the same call resumes after it.
    """
    found = discover(paths)
    summary = Summary()
    store.require_writable()  # before hours of work that could not be recorded
    store.claim(refusal.source for refusal in found.refusals)
    preprocessor = Preprocessor(
        model.card.input,
        given_hips,
        store.contents(model.model_id),
        model.locator,
        model.card.age_range_years,
    )
    with Workers(preprocessor, min(workers, max(1, len(found.files))), limits) as pool:
        preprocessed = pool.run(found.files, store.claim, batches)
        first = next(preprocessed, [])  # starts the workers while the model is being loaded
        run = start_run(store, model, batches.fingerprint, reason)
        opened(batches.fingerprint)
        results = ResultPipeline(model, batches, store, run, rule)
        summary.add(results.record(found.refusals))
        done, recorded = 0, set[str]()
        used = {name for refusal in found.refusals for name in _names(refusal)}
        for outcomes, known in transactions(results, chain([first], preprocessed)):
            progress(done, len(found.files))
            summary.add(results.record(outcomes))
            store.link(run, {file.source: file.sha256 for file in known})
            summary.known += len(known)
            if given_hips.lines:
                used.update(name for outcome in outcomes for name in _names(outcome))
                recorded.update(
                    name for file in known for name in file_names(file.source, file.sha256)
                )
            done += len(outcomes) + len(known)
        progress(done, len(found.files))
    lines = {name: line for name, line in given_hips.lines.items() if name not in used}
    summary.unmatched_hips = tuple(
        line
        for name, line in lines.items()
        if name not in recorded and not store.has_instance(name)
    )
    summary.hips_of_known = len(lines) - len(summary.unmatched_hips)
    store.finish_run(run)
    # Counted last: folders that were not entered may hold many files.
    summary.left_aside = found.count_left_aside()
    return summary


def _names(outcome: Outcome) -> tuple[str, ...]:
    """Return the names by which a CSV of hips can refer to the file of an outcome."""
    uid = outcome.film.sop_instance_uid if outcome.film else None
    if isinstance(outcome, Screened):
        return file_names(outcome.film.source, outcome.film.sha256, uid)
    return file_names(outcome.source, outcome.sha256, uid)
