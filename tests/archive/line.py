"""An archive run in this process: the stages without Ray, and small films for it."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from hipedge.archive.folder import ArchiveFolder
from hipedge.archive.job import Request, job_of, prepare
from hipedge.archive.lease import Lease
from hipedge.archive.stages import Inference, Reader
from hipedge.config import Settings
from hipedge.errors import HipedgeError
from hipedge.locate.given import read_hips_csv
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.screen import screen
from hipedge.pipeline.workers import Limits
from hipedge.rules.site_rule import site_rule
from hipedge.store.store import Store
from hipedge.types import CATEGORIES
from tests.watch.clinic import ROOT_UID, SIZE_PX, dicom


def write_films(folder: Path, count: int = 12) -> Path:
    """Write films of all categories, copies and files that are none; return the CSV of hips."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data = dicom(number, CATEGORIES[number % len(CATEGORIES)])
        (folder / f"{number:04}.dcm").write_bytes(data)
    data = (folder / "0001.dcm").read_bytes()
    (folder / "copy.dcm").write_bytes(data)
    (folder / "cut.dcm").write_bytes(data[:-100])
    (folder / "empty.dcm").touch()
    (folder / "text").write_bytes(b"no image")
    (folder / "same pixels.dcm").write_bytes(dicom(1, CATEGORIES[1], PatientAge="040Y"))
    (folder / "conflict.dcm").write_bytes(dicom(1, CATEGORIES[2]))
    (folder / "notes.txt").write_text("left aside")
    (folder / "pipe").symlink_to("/dev/zero")
    hips = folder.parent / "hips.csv"
    rows = (f"{ROOT_UID}.{n},right,0,0,{SIZE_PX},{SIZE_PX}\n" for n in range(count))
    hips.write_text("sop_instance_uid,side,x0,y0,x1,y1\n" + "".join(rows))
    return hips


def request(source, model, hips=None, **changes) -> Request:
    """Return a request for the fake backend."""
    asked = Request(
        source=str(source),
        model=model,
        model_path=model.path,
        rule=site_rule(model.card, Settings()),
        backend="fake",
        limits=Limits(),
        shard_films=4,
    )
    if hips is not None:
        asked = replace(asked, given_hips=read_hips_csv(hips), hips_file=hips)
    return replace(asked, **changes)


def shard_table(shards):
    """Return shards as the first stage takes them: a row that names them all."""
    return pa.table({"shards": [shards]})


@contextmanager
def stages(asked: Request, out: Path):
    """Yield the folder of a run, its manifest, and a function that does one shard."""
    folder = ArchiveFolder(out)
    out.mkdir(exist_ok=True)
    with Lease(folder.lock) as lease:
        manifest = prepare(folder, asked)
        job = job_of(asked, folder, manifest, lease, workers=1)
        reader, inference = Reader(job), Inference(job)

        def do(shard):
            table = shard_table([shard])
            for stage in (reader, inference):
                (table,) = stage(table)
            (row,) = table.to_pylist()
            if row["error"]:
                raise HipedgeError(row["error"])
            return pickle.loads(row["payload"])

        try:
            yield folder, manifest, do
        finally:
            reader._pool.__exit__()
            inference._batches.close()


def archive(asked: Request, out: Path, most: int | None = None):
    """Do the shards of a run that are not done, or so many of them; return their reports."""
    with stages(asked, out) as (folder, manifest, do):
        return [do(shard) for shard in folder.pending(manifest.shards)[:most]]


def screened(asked: Request, db: Path) -> None:
    """Screen the same films by `screen`, with one worker, so that the order is the same."""
    from hipedge.backends import open_backend

    with BatchScheduler(lambda: open_backend("fake", asked.model)) as batches, Store(db) as store:
        screen(
            [Path(asked.source)],
            model=asked.model,
            batches=batches,
            reason="requested",
            store=store,
            rule=asked.rule,
            given_hips=asked.given_hips,
            workers=1,
            limits=asked.limits,
            patient_key=asked.patient_key,
            opened=lambda _: None,
            progress=lambda *_: None,
        )
