"""Real films for the locator as thumbnails on disk: with hips, with drawn implants, without a hip.

Implants are those of `hipedge.insertion`, drawn into hips of the training split whose landmarks are
known, and added to the whole film as the change of its pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hipedge
from hipedge.dicom.read import read
from hipedge.errors import InputError, Refused
from hipedge.files import replacing, write_atomically
from hipedge.insertion.manifest import BackgroundRow, read_manifest
from hipedge.locate.learned import Thumbnail, make_thumbnail
from hipedge.train.data import OnFilm
from hipedge.train.film_implants import draw_implants
from hipedge.train.film_manifest import FilmManifest, FilmRow, read_film_manifest
from hipedge.train.locator_data import FILM_PX, Films
from hipedge.train.manifest import TRAIN
from hipedge.train.other_pictures import picture_files, read_other_picture
from hipedge.versions import PIPELINE_VERSION

Pixels = NDArray[np.uint8]

# Smaller pictures than this show nothing as a thumbnail.
LEAST_PX = 32


@dataclass(frozen=True, eq=False)
class RealFilms:
    """Thumbnails of real films, upright, with `rows` that describe them.

    `implants` (M, S, S) are films with drawn implants, of the film at the index in `implants_of`
    (M,). `pictures` (P, S, S) are pictures that are no radiographs. `digest` is a hash of all.
    """

    rows: tuple[FilmRow, ...]
    films: Films
    implants: Pixels
    implants_of: NDArray[np.int64]
    pictures: Pixels
    digest: str

    def with_hip(self, split: str) -> NDArray[np.int64]:
        """Return the indices of the films of one split that show a hip."""
        return self._of(split, has_hip=True)

    def without_hip(self, split: str) -> NDArray[np.int64]:
        """Return the indices of the films of one split that show none."""
        return self._of(split, has_hip=False)

    def with_implants(self, split: str) -> NDArray[np.int64]:
        """Return the indices, among `implants`, of the films of one split."""
        return np.flatnonzero([self.rows[film].split == split for film in self.implants_of])

    def summary(self) -> tuple[str, ...]:
        """Return sentences on the number of films and patients that are trained on."""
        hips, others = self.with_hip(TRAIN), self.without_hip(TRAIN)
        return (
            f"{len(hips)} real films of {self._patients(hips)} patients with a hip, and"
            f" {len(self.with_implants(TRAIN))} made of them by drawing implants.",
            f"{len(others)} real films of {self._patients(others)} patients without a hip.",
            f"{len(self.pictures)} pictures that are no radiographs.",
        )

    def _patients(self, films: NDArray[np.int64]) -> int:
        return len({self.rows[film].patient for film in films})

    def _of(self, split: str, *, has_hip: bool) -> NDArray[np.int64]:
        return np.flatnonzero(
            [row.split == split and row.has_hip == has_hip for row in self.rows]
        ).astype(np.int64)


def without_border(film: Pixels) -> tuple[slice, slice]:
    """Return the rows and columns of a film's thumbnail (S, S), without the black beside it."""
    rows, columns = (np.flatnonzero(film.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, len(film)), slice(0, len(film))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


@dataclass(frozen=True)
class RealFilmSources:
    """Where real films come from; see `prepare_real_films`."""

    manifest: Path
    films: Path | None = None
    backgrounds: Path | None = None
    pictures: tuple[Path, ...] = ()

    def prepare(self, cache: Path, seed: int, on_film: OnFilm = lambda *_: None) -> RealFilms:
        """Read the manifest, and prepare its films in a cache."""
        return prepare_real_films(
            read_film_manifest(self.manifest, self.films),
            cache,
            backgrounds=self.backgrounds,
            films=self.films,
            pictures=self.pictures,
            seed=seed,
            on_film=on_film,
        )


def prepare_real_films(
    manifest: FilmManifest,
    cache: Path,
    *,
    backgrounds: Path | None = None,
    films: Path | None = None,
    pictures: Sequence[Path] = (),
    seed: int = 0,
    on_film: OnFilm = lambda *_: None,
) -> RealFilms:
    """Return the films of a manifest, from `cache` if they have been prepared before.

    `backgrounds` is a manifest of hips (`hipedge.insertion.manifest`, paths relative to `films`)
    into which implants are drawn. `pictures` are files or folders of pictures that are no
    radiographs: MR, CT, ultrasound, photographs; DICOM files that the gate lets pass are left out.
    Raises `InputError` for a film that cannot be read, and for faults in `backgrounds`.
    """
    hips = read_manifest(backgrounds, films) if backgrounds else ()
    files = picture_files(pictures)
    digest = _digest(manifest, hips, files, seed)
    stem = cache / f"real-{digest[:24]}"
    if not stem.with_suffix(".json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        thumbnails = _thumbnails(manifest.rows, on_film)
        implants, of = draw_implants(manifest.rows, thumbnails, hips, cache, seed)
        _save(stem, "films", [thumbnail.pixels for thumbnail in thumbnails])
        _save(stem, "implants", implants)
        _save(stem, "pictures", _pictures(files))
        heads = [_heads(*pair) for pair in zip(manifest.rows, thumbnails, strict=True)]
        content = json.dumps({"heads": heads, "implants_of": of})
        write_atomically(stem.with_suffix(".json"), content.encode())
    index = json.loads(stem.with_suffix(".json").read_text())
    return RealFilms(
        manifest.rows,
        Films(
            _load(stem, "films"),
            np.array(index["heads"], np.float32),
            tuple(row.split for row in manifest.rows),
            (),
        ),
        _load(stem, "implants"),
        np.array(index["implants_of"], np.int64),
        _load(stem, "pictures"),
        digest,
    )


def _array(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}.npy")


def _save(stem: Path, name: str, arrays: Sequence[Pixels]) -> None:
    with replacing(_array(stem, name)) as partial, partial.open("wb") as file:
        np.save(file, np.stack(arrays) if arrays else np.empty((0, FILM_PX, FILM_PX), np.uint8))


def _load(stem: Path, name: str) -> Pixels:
    thumbnails: Pixels = np.load(_array(stem, name), mmap_mode="r")
    return thumbnails


def _digest(
    manifest: FilmManifest, hips: Sequence[BackgroundRow], files: Iterable[Path], seed: int
) -> str:
    contents = [hashlib.sha256(row.path.read_bytes()).hexdigest() for row in manifest.rows]
    others = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    marked = [repr(hip).replace(repr(hip.path), hip.path.name) for hip in hips]
    key = [hipedge.__version__, PIPELINE_VERSION, FILM_PX, manifest.sha256, contents, others]
    return hashlib.sha256(json.dumps([*key, marked, seed]).encode()).hexdigest()


def _thumbnails(rows: Sequence[FilmRow], on_film: OnFilm) -> list[Thumbnail]:
    thumbnails = []
    for number, row in enumerate(rows):
        try:
            pixels = read(row.path).pixels
        except Refused as refused:
            raise InputError(f"{row.path} cannot be read: {refused}") from refused
        thumbnails.append(make_thumbnail(np.rot90(pixels, row.quarter_turns), None, FILM_PX))
        on_film(number + 1, len(rows))
    return thumbnails


def _heads(row: FilmRow, thumbnail: Thumbnail) -> list[list[float]]:
    return [list(thumbnail.from_film(head)) if head else [np.nan, np.nan] for head in row.heads]


def _pictures(files: Sequence[Path]) -> list[Pixels]:
    """Return thumbnails of pictures, each picture once."""
    thumbnails = {}
    for path in files:
        pixels = read_other_picture(path)
        if pixels is not None and min(pixels.shape) >= LEAST_PX:
            thumbnail = make_thumbnail(pixels, None, FILM_PX).pixels
            thumbnails[thumbnail.tobytes()] = thumbnail
    return list(thumbnails.values())
