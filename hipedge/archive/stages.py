"""The stages of the pipeline as Ray actors: each takes a shard and returns it, a table of one row.

The row holds a shard's number and what is known of its films so far, pickled. What a `HipedgeError`
says travels in the row too: Ray would wrap it, and restart an actor that failed to open.
"""

from __future__ import annotations

import pickle
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from hipedge import backends
from hipedge.archive.folder import ArchiveFolder, translated_disk_errors
from hipedge.archive.lease import holds
from hipedge.archive.source import download, is_object
from hipedge.archive.strikes import Strikes
from hipedge.archive.table import Attempted, Origin, outcome_table
from hipedge.dicom.decoder_versions import decoder_versions
from hipedge.dicom.read import MAX_FILE_BYTES
from hipedge.errors import Code, HipedgeError, ModelError, Refused, StoreError
from hipedge.locate.given import GivenHips
from hipedge.model import ModelFolder, open_model, require_model
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.cpu_allocation import tuned_allocation
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.pipeline.results import Summary, decide_film, refuse_crash
from hipedge.pipeline.workers import Limits, Workers
from hipedge.rules.decide import Rule
from hipedge.store.rows import to_json
from hipedge.types import Known, Outcome, Refusal
from hipedge.versions import PIPELINE_VERSION, versions


@dataclass(frozen=True)
class Job:
    """What every actor has to know. `model` is None for the model that ships with hipedge."""

    out: Path
    run_id: str
    lease: str
    model: Path | None
    backend: str
    require_gpu: bool
    given_hips: GivenHips
    workers: int
    limits: Limits
    patient_key: bytes | None = field(repr=False)

    def folder(self) -> ArchiveFolder:
        """Open the folder of the run. Raises `HipedgeError` where this node sees another one."""
        folder = ArchiveFolder(self.out)
        manifest = folder.manifest()
        if manifest.run_id != self.run_id:
            raise StoreError(f"{self.out} on this node holds another run: it must be shared")
        if manifest.pipeline_version != PIPELINE_VERSION:
            raise StoreError("this node has another version of hipedge: install the same on all")
        return folder

    def open_model(self) -> ModelFolder:
        """Open the model. Raises `ModelError` where this node has another one."""
        model = open_model(require_model(self.model))
        if model.model_id != self.folder().manifest().model_id:
            raise ModelError(f"{model.path} on this node is another model than that of the run")
        return model


@dataclass
class ShardReport:
    """What the driver is told of a finished shard; `seconds` are its films' times by stage."""

    shard: int
    films: int = 0
    summary: Summary = field(default_factory=Summary)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    deaths: int = 0


@dataclass(frozen=True, eq=False)
class _Read:
    """A file after reading, and how often a worker process was given it."""

    result: Prepared | Refusal
    attempts: int


class Stage:
    """An actor of Ray Data, called with a table of one row. Errors of hipedge pass through it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._error: str | None = None
        try:
            self.open()
        except HipedgeError as error:
            self._error = str(error)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield one row with the result of this stage, or with the error of this or another.

        The first stage is given a row that names several shards, and yields one row for each.
        """
        (row,) = table.to_pylist()
        for shard in row.get("shards") or [row["shard"]]:
            yield self._pass_on({**row, "shard": shard})

    def _pass_on(self, row: dict[str, Any]) -> pa.Table:
        shard, payload, error = row["shard"], row.get("payload"), row.get("error") or self._error
        if error is None:
            try:
                value = None if payload is None else pickle.loads(payload)
                payload = pickle.dumps(self.run(shard, value), protocol=5)
            except HipedgeError as caught:
                error = str(caught)
        return row_table(shard, None if error else payload, error)

    def open(self) -> None:
        """Open what the actor keeps. Raises `HipedgeError` where this node is not fit for it."""
        raise NotImplementedError

    def run(self, shard: int, value: Any) -> object:
        """Do the stage's part of a shard."""
        raise NotImplementedError


def row_table(shard: int, payload: bytes | None = None, error: str | None = None) -> pa.Table:
    """Return one row as the stages pass it on."""
    return pa.table(
        {
            "shard": pa.array([shard], pa.int64()),
            "payload": pa.array([payload], pa.large_binary()),
            "error": pa.array([error], pa.string()),
        }
    )


class Reader(Stage):
    """read → locate → prepare, in worker processes of its own, with their limits."""

    def open(self) -> None:
        """Start the worker processes."""
        preprocessor = Preprocessor.for_model(
            self.job.open_model(), self.job.given_hips, patient_key=self.job.patient_key
        )
        self._folder = self.job.folder()
        self._pool = Workers[Path, Prepared | Refusal | Known](
            preprocessor, self.job.workers, self.job.limits
        )

    def run(self, shard: int, value: None) -> list[_Read] | None:
        """Return what was read of each film of the shard; None where the shard is done already."""
        if self._folder.outcomes(shard).exists():
            return None
        rows = self._folder.listed(shard)
        with translated_disk_errors(self._folder.path):
            strikes = Strikes(self._folder.attempts, shard)
            if strikes.begin():
                return self._read_one_by_one(rows, strikes)
        return self._read(rows)

    def _read(self, rows: Sequence[Path | Refusal]) -> list[_Read]:
        """Read the films of some rows; the results are in the order of the rows."""
        found = {row.source: _Read(row, 1) for row in rows if isinstance(row, Refusal)}
        given = Counter[Path]()
        with Copies(row for row in rows if isinstance(row, Path)) as copies:
            for batch in self._pool.run(copies, given.update):
                for path, result in batch:
                    source = copies.source(path)
                    found[source] = _Read(_named(refuse_crash(path, result), source), given[path])
            for refusal in copies.refusals:
                found[refusal.source] = _Read(refusal, 1)
        return [found[row.source if isinstance(row, Refusal) else row] for row in rows]

    def _read_one_by_one(self, rows: Sequence[Path | Refusal], strikes: Strikes) -> list[_Read]:
        quarantined = strikes.quarantined()
        results = list[_Read]()
        for number, row in enumerate(rows):
            if isinstance(row, Path) and number in quarantined:
                detail = "its reader died of it repeatedly"
                results.append(_Read(Refusal(row, Code.WORKER_DIED, detail), 1))
                continue
            with strikes.at_hand(number):
                results += self._read([row])
        return results


class Copies:
    """The paths to read, with local copies of those that are objects in a store.

    An iterator, so that an object is fetched when a worker has room for it; a context manager,
    which removes the copies.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = iter(dict.fromkeys(paths))
        self._sources = dict[Path, Path]()
        self._stack = ExitStack()
        self._folder: Path | None = None
        self.refusals = list[Refusal]()

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Path]:
        for path in self._paths:
            if not is_object(path):
                yield path
                continue
            copy = self._scratch() / str(len(self._sources))
            try:
                download(path, copy, MAX_FILE_BYTES)
            except Refused as refused:
                self.refusals.append(Refusal(path, refused.code, refused.detail))
            else:
                self._sources[copy] = path
                yield copy

    def source(self, path: Path) -> Path:
        """Return what a path is a copy of, and remove the copy; else the path itself."""
        source = self._sources.pop(path, None)
        if source is None:
            return path
        path.unlink()
        return source

    def _scratch(self) -> Path:
        if self._folder is None:
            name = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hipedge-"))
            self._folder = Path(name)
        return self._folder


class Inference(Stage):
    """infer → decide → record: the outcomes of a shard become its file.

    The actor owns the backend. It records too, since an actor of its own for that would need
    another process, which takes Ray 3.4 s of processor time to start, and 100 MB.
    """

    def open(self) -> None:
        """Open the backend, and check it as `screen` does."""
        job = self.job
        self._folder = job.folder()
        self._model = job.open_model()
        self._rule = Rule.from_json(self._folder.manifest().rule)
        name, reason = backends.choose(job.backend, require_gpu=job.require_gpu)
        reason = backends.why(name, reason, self._model)
        threads = tuned_allocation(self._model, name, None).threads
        self._batches = BatchScheduler(
            partial(backends.open_backend, name, self._model, threads=threads)
        ).__enter__()
        fingerprint = str(self._batches.fingerprint)
        self._origin = Origin(fingerprint, reason, to_json(versions() | decoder_versions()))

    def run(self, shard: int, value: list[_Read] | None) -> ShardReport:
        """Commit the outcomes of a shard; return the counts for the driver.

        Raises `StoreError` where another driver has taken over, `StoreUnavailable` where the disk
        is full.
        """
        report = ShardReport(shard)
        if value is not None:
            outcomes = self._decide(value)
            self._commit(shard, outcomes)
            add_outcomes(report, outcomes)
        Strikes(self._folder.attempts, shard).forget()
        return report

    def _decide(self, value: Sequence[_Read]) -> list[Attempted]:
        films = {id(read.result): read.result for read in value}
        self._batches.submit(film for film in films.values() if isinstance(film, Prepared))
        self._batches.flush()
        ages = self._model.card.age_range_years
        decided = dict[int, Outcome]()
        while self._batches.is_busy:
            self._batches.wait()
            for scored in self._batches.collect():
                decided[id(scored.film)] = decide_film(scored, self._rule, ages)
        return [
            Attempted(
                read.result if isinstance(read.result, Refusal) else decided[id(read.result)],
                read.attempts,
            )
            for read in value
        ]

    def _commit(self, shard: int, outcomes: Sequence[Attempted]) -> None:
        with translated_disk_errors(self._folder.path):
            is_ours = holds(self._folder.lock, self.job.lease)
        if not is_ours:
            raise StoreError(f"another driver has taken over {self._folder.path}")
        self._folder.commit(shard, outcome_table(outcomes, self._origin))


def add_outcomes(report: ShardReport, outcomes: Sequence[Attempted]) -> None:
    """Count the outcomes of a shard in its report."""
    report.films += len(outcomes)
    report.summary.add(one.outcome for one in outcomes)
    for one in outcomes:
        report.deaths += one.attempts - 1
        for stage, milliseconds in one.outcome.timings_ms.items():
            report.seconds[stage] += milliseconds / 1e3


def _named(result: Prepared | Refusal | Known, source: Path) -> Prepared | Refusal:
    """Return a result under the name of its source, where a copy of that was read."""
    assert not isinstance(result, Known)  # no contents are known to these workers
    film = result.film and replace(result.film, source=source)
    if isinstance(result, Prepared):
        assert film is not None
        return replace(result, film=film)
    return replace(result, source=source, film=film)
