"""The screening pipeline: discover → read → locate → prepare → infer → decide → record.

Worker processes read, locate and prepare; a thread infers; the main process passes films from the
workers to the thread, decides and records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from hipedge.backends.base import Fingerprint
from hipedge.locate.given import GivenHips
from hipedge.model import ModelFolder
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.discover import discover, listable_again
from hipedge.pipeline.given_usage import GivenUsage
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.pipeline.results import ResultPipeline, Summary, start_run, transactions
from hipedge.pipeline.workers import Limits, Workers
from hipedge.rules.decide import Rule
from hipedge.store.queue import Queue
from hipedge.store.store import Store
from hipedge.types import Outcome


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
    recorded: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,
    patient_key: bytes | None = None,
) -> Summary:
    """Screen every file under `paths` into `store`; return the run's counts.

    `batches` may still be opening the backend, which was chosen for `reason`, while the first
    files are read; `opened` is called with its fingerprint once it is open, and `progress` with
    the number of files done and their total. `recorded` is called with the outcomes of each commit.
    `patient_key` links the films of a patient.
    An interrupt ends the run; what was recorded stays, and the same call resumes after it.
    """
    paths = list(paths)
    found = discover(paths)
    summary = Summary()
    store.require_writable()  # before hours of work that could not be recorded
    store.claim(refusal.source for refusal in found.refusals)
    queue = Queue(store)
    queue.withdraw(listable_again(queue.unread(), paths, found.refusals))
    contents = store.contents(model.model_id)
    preprocessor = Preprocessor.for_model(
        model, given_hips, contents, patient_key, with_sha256=store.knows_by_sha256()
    )
    with Workers(preprocessor, min(workers, max(1, len(found.files))), limits) as pool:
        preprocessed = pool.run(found.files, store.claim, batches)
        first = next(preprocessed, [])  # starts the workers while the model is being loaded
        run = start_run(store, model, batches.fingerprint, reason)
        opened(batches.fingerprint)
        results = ResultPipeline(model, batches, store, run, rule)

        def record(outcomes: Sequence[Outcome]) -> None:
            stored = results.record(outcomes)
            summary.add(stored)
            recorded(stored)

        record(found.refusals)
        usage = GivenUsage(given_hips)
        usage.add(found.refusals)
        done = 0
        for outcomes, known in transactions(results, chain([first], preprocessed)):
            progress(done, len(found.files))
            record(outcomes)
            store.link(run, known)
            summary.known += len(known)
            usage.add(outcomes, known)
            done += len(outcomes) + len(known)
        progress(done, len(found.files))
    summary.unmatched_hips, summary.hips_of_known = usage.unmatched(store)
    store.finish_run(run)
    # Counted last: folders that were not entered may hold many files.
    summary.left_aside = found.count_left_aside()
    return summary
