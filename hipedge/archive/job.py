"""The job: list, then read, infer and record shard by shard on a Ray cluster."""

from __future__ import annotations

import hashlib
import hmac
import logging
import pickle
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from hipedge.archive.folder import ArchiveFolder, Manifest
from hipedge.archive.lease import Lease
from hipedge.archive.shape import Cluster
from hipedge.archive.source import is_uri, list_source
from hipedge.archive.stages import (
    Inference,
    Job,
    Reader,
    ShardReport,
    Stage,
)
from hipedge.errors import HipedgeError
from hipedge.locate.given import GivenHips
from hipedge.model import ModelFolder
from hipedge.model.card import card_json
from hipedge.pipeline.results import Summary
from hipedge.pipeline.workers import Limits
from hipedge.rules.decide import Rule
from hipedge.versions import PIPELINE_VERSION

SHARD_FILMS = 128
MOST_SHARDS_PER_PORTION = 32
PORTIONS_PER_READER = 8


@dataclass(frozen=True)
class Request:
    """What a user asks for: what to screen, by which model and rule, with which limits.

    `model_path` is what every node opens, None for the model that ships with hipedge. With
    `patient_key` films have a pseudonym of their patient, as in `screen`.
    """

    source: str
    model: ModelFolder
    model_path: Path | None
    rule: Rule
    backend: str
    limits: Limits
    given_hips: GivenHips = field(default_factory=GivenHips)
    hips_file: Path | None = None
    require_gpu: bool = False
    shard_films: int = SHARD_FILMS
    patient_key: bytes | None = field(default=None, repr=False)


@dataclass
class Progress:
    """How far a job is: films done by this driver and before it, and their total."""

    films: int
    shards: int
    films_done: int = 0
    shards_done: int = 0
    films_before: int = 0
    summary: Summary = field(default_factory=Summary)
    seconds: dict[str, float] = field(default_factory=dict)
    deaths: int = 0

    def add(self, report: ShardReport) -> None:
        """Count a shard that was finished just now."""
        self.shards_done += 1
        self.films_done += report.films
        self.deaths += report.deaths
        self.summary.merge(report.summary)
        for stage, seconds in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


def run_job(
    request: Request,
    out: Path,
    cluster: Cluster,
    *,
    changed: Callable[[Progress], None],
    lease: Lease | None = None,
) -> Progress:
    """Screen every film of the source into `out`, or those that have no outcome there yet.

    `changed` is called with each shard that is finished. Raises `HipedgeError` where the job cannot
    go on; what is recorded stays, and the same call continues.
    """
    folder = ArchiveFolder(out)
    folder.path.mkdir(parents=True, exist_ok=True)
    with lease or Lease(folder.lock) as held:
        manifest = prepare(folder, request)
        folder.remove_partial_files()
        pending = folder.pending(manifest.shards)
        progress = Progress(manifest.films, manifest.shards)
        progress.shards_done = manifest.shards - len(pending)
        progress.films_before = progress.films_done = films_of(folder, manifest, pending)
        changed(progress)
        workers = cluster.readers(request.limits.memory_bytes).workers
        job = job_of(request, folder, manifest, held, workers)
        for report in finished(pipeline(pending, job, cluster)) if pending else ():
            held.check()
            progress.add(report)
            changed(progress)
    return progress


def prepare(folder: ArchiveFolder, request: Request) -> Manifest:
    """Return the manifest of the run, after listing its source where that was not done before.

    Raises `ConfigError` where the folder holds another run than the one requested.
    """
    wanted = Manifest(
        run_id=secrets.token_hex(8),
        source=request.source if is_uri(request.source) else str(Path(request.source).resolve()),
        model_id=request.model.model_id,
        model_name=request.model.card.name,
        model_status=request.model.card.status.value,
        card=card_json(request.model.card).decode(),
        pipeline_version=PIPELINE_VERSION,
        rule=request.rule.to_json(),
        hips_sha256=_sha256(request.hips_file),
        patient_key_id=_key_id(request.patient_key),
        shard_films=request.shard_films,
    )
    if not folder.has_run:
        return folder.begin(wanted, list_source(request.source))
    manifest = folder.manifest()
    manifest.require_equal(wanted, folder.path)
    return manifest


def job_of(
    request: Request, folder: ArchiveFolder, manifest: Manifest, lease: Lease, workers: int
) -> Job:
    """Return what the actors have to know; a reader has so many `workers`."""
    return Job(
        out=folder.path,
        run_id=manifest.run_id,
        lease=lease.token,
        model=request.model_path,
        backend=request.backend,
        require_gpu=request.require_gpu,
        given_hips=request.given_hips,
        workers=workers,
        limits=request.limits,
        patient_key=request.patient_key,
    )


def films_of(folder: ArchiveFolder, manifest: Manifest, pending: Sequence[int]) -> int:
    """Return the number of films in the shards that are done; only the last one is shorter."""
    if not manifest.shards:
        return 0
    last = manifest.films - (manifest.shards - 1) * manifest.shard_films
    done = manifest.shards - len(pending)
    is_last_done = not pending or pending[-1] != manifest.shards - 1
    return (done - 1) * manifest.shard_films + last if is_last_done else done * manifest.shard_films


def pipeline(shards: Sequence[int], job: Job, cluster: Cluster) -> Dataset:
    """Return the stages as a Ray dataset: blocks of shards, and from the readers on a row each.

    Readers take the cores of the nodes, and the memory that their workers may use. A backend on the
    CPU takes none of Ray's: it shares the cores with the readers, as in `screen`, and readers wait
    while it is behind.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    # Each row leaves a stage as a block of its own: many would wait for 128 MB of them.
    context.target_max_block_size = 1
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # warns of pools that are starting
    on_gpu = cluster.gpus > 0 and job.backend in ("auto", "tensorrt")
    readers = cluster.readers(job.limits.memory_bytes).count
    blocks = [{"shards": portion} for portion in portions(shards, readers)]
    dataset: Dataset = ray.data.from_items(blocks, override_num_blocks=len(blocks))
    memory_bytes = job.workers * job.limits.memory_bytes
    dataset = _with_stage(
        dataset, Reader, job, most=readers, cpus=job.workers, memory_bytes=memory_bytes
    )
    if on_gpu:
        return _with_stage(dataset, Inference, job, most=cluster.gpus, gpus=1)
    return _with_stage(dataset, Inference, job, most=len(cluster.cores))


def portions(shards: Sequence[int], readers: int) -> Iterator[Sequence[int]]:
    """Yield the shards that a reader is given at once: many at first, one at last.

    One block for each of a hundred thousand shards would take Ray minutes to begin with. With
    portions that are a fraction of what is left (guided self-scheduling, Polychronopoulos and Kuck,
    IEEE Transactions on Computers 1987), no reader has much to do when the others have nothing.
    """
    start = 0
    while start < len(shards):
        size = (len(shards) - start) // (PORTIONS_PER_READER * readers)
        size = max(1, min(MOST_SHARDS_PER_PORTION, size))
        yield shards[start : start + size]
        start += size


def _with_stage(
    dataset: Dataset,
    stage: type[Stage],
    job: Job,
    *,
    most: int,
    cpus: int = 0,
    gpus: int = 0,
    memory_bytes: int = 0,
) -> Dataset:
    """Add a stage: a pool of `most` actors, fewer while they have nothing to do.

    Ray spreads them over the nodes, and places no more of them on one than it has cores, GPUs and
    memory for.
    """
    return dataset.map_batches(
        stage,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
        fn_constructor_args=(job,),
        num_cpus=cpus,
        num_gpus=gpus,
        memory=memory_bytes or None,
    )


def finished(dataset: Dataset) -> Iterator[ShardReport]:
    """Run the dataset; yield the report of each shard once it is recorded.

    Raises `HipedgeError` with what a stage reported.
    """
    for bundle in dataset.iter_internal_ref_bundles():
        for block in ray.get([entry.ref for entry in bundle.blocks]):
            for row in pa.table(block).to_pylist():
                if row["error"] is not None:
                    raise HipedgeError(row["error"])
                yield pickle.loads(row["payload"])


def _key_id(key: bytes | None) -> str | None:
    """Return what tells one secret key from another without giving it away."""
    return None if key is None else hmac.digest(key, b"hipedge archive run", "sha256").hex()


def _sha256(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
