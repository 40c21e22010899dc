"""The folder of an archive run: its manifest, its list of films, and one file for each shard.

    run.json                                what was asked for; written last, when the list is there
    films/films-00000.parquet               the list; a row group is a shard
    outcomes/part=0000/shard-0000000.parquet
    attempts/                               shards that were begun and are not finished
    lock.json                               the driver at work

The list is cut into numbered shards once. A shard is done when its file of outcomes is there; that
file is written under another name, synced and renamed, so it is whole. It follows that every film
of the list is in the outcomes exactly once, whichever processes died in between: a shard that is
computed twice is the same file twice.
"""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from hipedge.archive.table import LISTED, listed_rows, listed_table
from hipedge.errors import ConfigError, InputError, StoreError, StoreUnavailable
from hipedge.files import PRIVATE, private_opener, write_atomically
from hipedge.pipeline.discover import LeftAside
from hipedge.types import Refusal

SHARDS_PER_LIST = 256
SHARDS_PER_PART = 1000
_PARTIAL = ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# In which a run may not differ from its resumption, and what a person calls it.
_FIXED = {
    "source": "source",
    "model_id": "model",
    "pipeline_version": "version of the pipeline",
    "rule": "rule (operating point, thresholds, calibration)",
    "hips_sha256": "file of marked hips",
    "patient_key_id": "patient_key_file",
}


@dataclass(frozen=True)
class Manifest:
    """What a run was asked for, and how many films it found."""

    run_id: str
    source: str
    model_id: str
    model_name: str
    model_status: str
    card: str
    pipeline_version: int
    rule: str
    hips_sha256: str | None
    patient_key_id: str | None
    shard_films: int
    shards: int = 0
    films: int = 0
    left_aside: int = 0

    def require_equal(self, wanted: Manifest, folder: Path) -> None:
        """Raise `ConfigError` where another run is wanted than the one that `folder` holds."""
        ours, theirs = asdict(self), asdict(wanted)
        changed = [text for name, text in _FIXED.items() if ours[name] != theirs[name]]
        if changed:
            raise ConfigError(
                f"{folder} holds a run with another {' and '.join(changed)}: its results cannot be "
                "mixed with new ones. Name another folder with --out; `hipedge archive merge` "
                "brings both into one database"
            )


class ArchiveFolder:
    """The folder of one run; every process on every node opens it by the same path."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock = self.path / "lock.json"
        self.attempts = self.path / "attempts"
        self._manifest = self.path / "run.json"
        self._films = self.path / "films"
        self._outcomes = self.path / "outcomes"

    @property
    def has_run(self) -> bool:
        """Whether the films of a run have been listed here."""
        return self._manifest.exists()

    def manifest(self) -> Manifest:
        """Return the manifest of the run. Raises `InputError` where there is none."""
        try:
            return msgspec.json.decode(self._manifest.read_bytes(), type=Manifest)
        except FileNotFoundError:
            raise InputError(
                f"{self.path} holds no archive run, or this machine does not share that folder"
            ) from None
        except (msgspec.MsgspecError, OSError) as error:
            raise InputError(f"{self._manifest} cannot be read: {error}") from error

    def begin(self, wanted: Manifest, found: Iterable[Path | Refusal | LeftAside]) -> Manifest:
        """Write the list of films, then the manifest with their numbers; return it.

        A list that a killed process left behind is written anew.
        """
        with translated_disk_errors(self.path):
            partial = self.path / f".films{_PARTIAL}"
            for old in (partial, self._films):
                if old.exists():
                    shutil.rmtree(old)
            for made in (partial, self._outcomes, self.attempts):
                made.mkdir(parents=True, exist_ok=True)
            aside = Counter[bool]()
            shards, films = _write_list(partial, _counted(found, aside), wanted.shard_films)
            partial.rename(self._films)
            manifest = replace(wanted, shards=shards, films=films, left_aside=aside[True])
            data = msgspec.json.encode(asdict(manifest))
            write_atomically(self._manifest, data, PRIVATE)
        return manifest

    def listed(self, shard: int) -> list[Path | Refusal]:
        """Return the paths of one shard, and the refusals of those that could not be listed.

        Raises `StoreError` where the list cannot be read.
        """
        path = self.list_file(self._films, shard)
        try:
            return listed_rows(pq.ParquetFile(path).read_row_group(shard % SHARDS_PER_LIST))
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{path} cannot be read ({type(error).__name__})") from error

    def outcomes(self, shard: int) -> Path:
        """Return where the outcomes of a shard are once it is done."""
        part = self._outcomes / f"part={shard // SHARDS_PER_PART:04d}"
        return part / f"shard-{shard:07d}.parquet"

    def commit(self, shard: int, table: pa.Table) -> None:
        """Write the outcomes of a shard so that they are there whole, or not at all.

        Raises `StoreUnavailable` where the disk is full or fails.
        """
        target = self.outcomes(shard)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        with translated_disk_errors(self.path):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, sink.getvalue().to_pybytes(), PRIVATE)

    def read(self, shard: int) -> pa.Table:
        """Return the outcomes of a shard. Raises `StoreError` where its file is damaged."""
        path = self.outcomes(shard)
        try:
            return pq.ParquetFile(path).read()
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{path} cannot be read ({type(error).__name__}): delete it, and run"
                " `hipedge archive run` again to make it anew"
            ) from error

    def done(self, shards: int) -> Iterator[int]:
        """Yield the shards that are done, in order."""
        for part in range(-(-shards // SHARDS_PER_PART)):
            first = part * SHARDS_PER_PART
            folder = self.outcomes(first).parent
            names = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
            for shard in range(first, min(first + SHARDS_PER_PART, shards)):
                if self.outcomes(shard).name in names:
                    yield shard

    def pending(self, shards: int) -> list[int]:
        """Return the shards that are not done."""
        done = bytearray(shards)
        for shard in self.done(shards):
            done[shard] = 1
        return [shard for shard in range(shards) if not done[shard]]

    def remove_partial_files(self) -> None:
        """Remove what killed processes left half written."""
        for path in self._outcomes.glob(f"part=*/.*{_PARTIAL}"):
            path.unlink(missing_ok=True)

    @staticmethod
    def list_file(folder: Path, shard: int) -> Path:
        """Return the file that lists the films of a shard."""
        return folder / f"films-{shard // SHARDS_PER_LIST:05d}.parquet"


def _counted(
    found: Iterable[Path | Refusal | LeftAside], aside: Counter[bool]
) -> Iterator[Path | Refusal]:
    """Pass on what is to be recorded; count the files that are left aside."""
    for one in found:
        if isinstance(one, LeftAside):
            aside[not one.is_folder] += 1
        else:
            yield one


def _write_list(
    folder: Path, listed: Iterator[Path | Refusal], shard_films: int
) -> tuple[int, int]:
    """Write a list, one row group for each shard; return the numbers of shards and of films."""
    shards = films = 0
    following = list(islice(listed, shard_films))
    while following:
        name = ArchiveFolder.list_file(folder, shards)
        with (
            open(name, "wb", opener=private_opener) as file,
            pq.ParquetWriter(file, LISTED, compression="zstd") as writer,
        ):
            while following and ArchiveFolder.list_file(folder, shards) == name:
                writer.write_table(listed_table(following), row_group_size=shard_films)
                shards, films = shards + 1, films + len(following)
                following = list(islice(listed, shard_films))
    return shards, films


@contextmanager
def translated_disk_errors(path: Path) -> Iterator[None]:
    """Raise `StoreUnavailable`, which says how to go on, where the disk of `path` fails."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            reason, remedy = "no space is left", "free some space"
        else:
            reason, remedy = str(error.strerror or error), "repair that"
        raise StoreUnavailable(
            f"{path} cannot be written ({reason}): {remedy} and run the same command again; it"
            " continues with the films that have no outcome yet"
        ) from error
