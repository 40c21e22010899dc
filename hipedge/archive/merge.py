"""The outcomes of an archive run, into the database: the rows that `screen` would have written.

A content that is recorded already is only linked, so merging again, or merging a run that goes on,
adds nothing twice. A run names contents by BLAKE3; for a database that knows some by SHA-256 alone,
films that are new to it are read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from hipedge.archive.folder import ArchiveFolder, Manifest
from hipedge.archive.stages import Copies
from hipedge.archive.table import Attempted, Origin, outcomes_of
from hipedge.dicom.read import Payload, load
from hipedge.errors import Refused
from hipedge.pipeline.results import Summary
from hipedge.rules.decide import Rule
from hipedge.store.store import Run, Store
from hipedge.types import Outcome, Screened

TRANSACTION_FILMS = 512


def merge(
    folder: ArchiveFolder, store: Store, progress: Callable[[int, int], None] = lambda *_: None
) -> Summary:
    """Record the finished shards of a run in the order of its list; return their counts.

    `progress` is called with the number of films done and that of the list. Raises `StoreError`
    where a file of outcomes or the database cannot be read, `ConfigError` where the run was decided
    by another version of the flag rule.
    """
    manifest = folder.manifest()
    rule = Rule.from_json(manifest.rule)
    summary = Summary(left_aside=manifest.left_aside)
    store.require_writable()
    runs = dict[Origin, Run]()
    done = 0
    for origin, outcomes in _transactions(folder, manifest):
        if origin not in runs:
            runs[origin] = _start_run(store, manifest, origin)
        _record(store, runs[origin], rule, outcomes, summary)
        done += len(outcomes)
        progress(done, manifest.films)
    for run in runs.values():
        store.finish_run(run)
    return summary


def _transactions(
    folder: ArchiveFolder, manifest: Manifest
) -> Iterator[tuple[Origin, list[Attempted]]]:
    """Yield the outcomes of successive shards that one backend scored, some hundreds together."""
    gathered, last = list[Attempted](), None
    for shard in folder.done(manifest.shards):
        outcomes, origin = outcomes_of(folder.read(shard))
        if last is not None and (origin != last or len(gathered) >= TRANSACTION_FILMS):
            yield last, gathered
            gathered = []
        gathered += outcomes
        last = origin
    if last is not None:
        yield last, gathered


def _start_run(store: Store, manifest: Manifest, origin: Origin) -> Run:
    return store.start_run(
        model_id=manifest.model_id,
        model_name=manifest.model_name,
        model_status=manifest.model_status,
        card=manifest.card,
        backend=origin.backend,
        backend_reason=origin.reason,
        versions=json.loads(origin.versions),
    )


def _record(
    store: Store, run: Run, rule: Rule, outcomes: Sequence[Attempted], summary: Summary
) -> None:
    if store.knows_by_sha256():
        outcomes = _with_sha256(store, run, outcomes)
    known = store.recorded_among(run.model_id, [one.outcome for one in outcomes])
    # A film counts as tried as often as a worker process was given it.
    store.claim(chain.from_iterable([one.outcome.source] * one.attempts for one in outcomes))
    recorded = store.record(run, [one.outcome for one in outcomes], rule)
    summary.add(outcome for outcome in recorded if outcome.content_hash not in known)
    summary.known += sum(outcome.content_hash in known for outcome in recorded)


def _with_sha256(store: Store, run: Run, outcomes: Sequence[Attempted]) -> list[Attempted]:
    """Return outcomes with the SHA-256 of those contents that have no row by BLAKE3.

    A film that has gone or changed has none: it counts as one that was not recorded before.
    """
    known = store.recorded_among(run.model_id, [one.outcome for one in outcomes])
    names = {
        one.outcome.source: one.outcome.content_hash
        for one in outcomes
        if one.outcome.content_hash is not None and one.outcome.content_hash not in known
    }
    hashes = dict[Path, str]()
    with Copies(names) as copies:
        for copy in copies:
            payload = _loaded(copy)
            source = copies.source(copy)
            if payload is not None and payload.is_named(names[source]):
                hashes[source] = payload.sha256
    return [
        replace(one, outcome=_named(one.outcome, hashes[one.outcome.source]))
        if one.outcome.source in hashes
        else one
        for one in outcomes
    ]


def _loaded(path: Path) -> Payload | None:
    try:
        return load(path)
    except Refused:
        return None


def _named(outcome: Outcome, sha256: str) -> Outcome:
    film = outcome.film and replace(outcome.film, sha256=sha256)
    if isinstance(outcome, Screened):
        assert film is not None
        return replace(outcome, film=film)
    return replace(outcome, film=film, sha256=sha256)
