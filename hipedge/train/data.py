"""Preparation of training crops from a manifest, by the same steps as in screening.

The crops are cached on disk, since reading a film takes longer than training on its hips.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.csv_input import Problems
from hipedge.dicom.read import load, read
from hipedge.errors import Code, InputError, Refused
from hipedge.files import replacing, write_atomically
from hipedge.imaging.prepare import prepare
from hipedge.locate.given import GivenHip
from hipedge.locate.rules import locate
from hipedge.train.manifest import Row
from hipedge.types import CATEGORIES, CropGeometry, Hip, Radiograph, Side
from hipedge.versions import PIPELINE_VERSION

OnFilm = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class LabelledCrops:
    """Crops with their labels; iteration yields pairs of a row and its pixels (1, S, S).

    `pixels` is uint8 (N, 1, S, S), and `rows` holds the manifest's rows in the same order.
    """

    pixels: NDArray[np.uint8]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.rows):
            raise ValueError(f"{len(self.pixels)} crops for {len(self.rows)} rows")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
        return zip(self.rows, self.pixels, strict=True)

    @property
    def categories(self) -> NDArray[np.int64]:
        """The rows' categories (N,), as indices into `CATEGORIES`."""
        return np.array([CATEGORIES.index(row.category) for row in self.rows], np.int64)


@dataclass(frozen=True, eq=False)
class Crops(LabelledCrops):
    """The crops of those rows of a manifest that could be read, in the manifest's order.

    `pixels` is on disk. `pixel_hash` is a hash of the pixels of each crop's film: it is equal for a
    copy of the film under another name. `refused` holds the other rows, each with the reason.
    """

    pixel_hash: tuple[str, ...]
    refused: tuple[tuple[Row, str], ...]

    def of(self, split: str) -> NDArray[np.int64]:
        """Return the indices of the crops of one split."""
        return np.array([i for i, row in enumerate(self.rows) if row.split == split], np.int64)

    def in_split(self, split: str) -> LabelledCrops:
        """Return the crops of one split."""
        chosen = self.of(split)
        return LabelledCrops(self.pixels[chosen], tuple(self.rows[i] for i in chosen))


@dataclass(frozen=True)
class _Header:
    """The details of a row that come from the film's header and pixels."""

    pixel_hash: str
    age_years: float | None
    sex: str | None


@dataclass(frozen=True, eq=False)
class _Crop:
    """The crop (1, S, S) of one row, and the details from its film."""

    pixels: NDArray[np.uint8]
    header: _Header


def prepare_crops(
    rows: Sequence[Row], geometry: CropGeometry, cache: Path, on_film: OnFilm = lambda *_: None
) -> Crops:
    """Return the crops of `rows` at `geometry`, in the order of `rows`, from `cache` if present.

    The cache's key is a hash of the films' bytes, the hips and the geometry. A hip that is not
    marked is located automatically. `on_film` is called after each film with the number of films
    done and the total.
    """
    films = by_film(rows)
    stem = cache / content_key(
        rows, {**asdict(geometry), "pipeline": PIPELINE_VERSION, "layout": 2}
    )
    if not stem.with_suffix(".json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _fill(stem, rows, films, geometry, on_film)
    index = json.loads(stem.with_suffix(".json").read_text())
    kept = tuple(_completed(rows[entry["row"]], entry) for entry in index["crops"])
    refused = tuple((rows[entry["row"]], entry["why"]) for entry in index["refused"])
    if not kept:
        first, why = refused[0]
        raise InputError(f"no hip of the manifest could be read; {first.path.name}: {why}")
    pixels = np.load(stem.with_suffix(".npy"), mmap_mode="r")
    hashes = tuple(entry["pixel_hash"] for entry in index["crops"])
    return Crops(pixels[: len(kept)], kept, pixel_hash=hashes, refused=refused)


def check_pixels(crops: Crops, source: Path) -> None:
    """Raise `InputError` if the same pixels are in two splits, or a hip has two categories."""
    problems = Problems(source)
    splits: dict[str, Row] = {}
    hips: dict[tuple[str, Side], Row] = {}
    for row, pixels in zip(crops.rows, crops.pixel_hash, strict=True):
        other = splits.setdefault(pixels, row)
        if other.split != row.split:
            problems.add(
                row.line,
                f"leakage: the pixels of this film are in {row.split} here"
                f" and in {other.split} in line {other.line}",
            )
        same = hips.setdefault((pixels, row.side), row)
        if same.category is not row.category:
            problems.add(
                row.line,
                f"the same hip is {row.category.value} here"
                f" and {same.category.value} in line {same.line}",
            )
    problems.raise_by_row()


def content_key(rows: Sequence[Row], what: Mapping[str, object]) -> str:
    """Return a cache key for data derived from `rows`: a hash of films, hips and `what`."""
    hashes: dict[Path, str] = {}
    for row in rows:
        if row.path not in hashes:
            try:
                hashes[row.path] = load(row.path).sha256
            except Refused as refused:
                hashes[row.path] = str(refused)
    hips = [(hashes[row.path], row.side.value, repr(row.marked)) for row in rows]
    content = json.dumps({"hips": hips, **what})
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def by_film(rows: Sequence[Row]) -> dict[Path, list[int]]:
    """Return the indices of each film's rows, films in the order of their first rows."""
    films: dict[Path, list[int]] = {}
    for index, row in enumerate(rows):
        films.setdefault(row.path, []).append(index)
    return films


def _fill(
    stem: Path,
    rows: Sequence[Row],
    films: dict[Path, list[int]],
    geometry: CropGeometry,
    on_film: OnFilm,
) -> None:
    """Read every film and write its crops, then the index: a cache with no index is incomplete."""
    side = geometry.size_px
    results: dict[int, _Header | str] = {}

    def of_film(film: tuple[Path, list[int]]) -> list[_Crop | str]:
        path, indices = film
        return _crops_of_film(path, [rows[i] for i in indices], geometry)

    with (
        replacing(stem.with_suffix(".npy")) as partial,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(rows), 1, side, side))
        for done, (indices, found) in enumerate(
            zip(films.values(), pool.map(of_film, films.items()), strict=True), 1
        ):
            for index, crop in zip(indices, found, strict=True):
                if isinstance(crop, str):
                    results[index] = crop
                    continue
                pixels[index] = crop.pixels
                results[index] = crop.header
            on_film(done, len(films))
        # Crops are stored contiguously, without gaps for refused rows.
        kept = [index for index in range(len(rows)) if not isinstance(results[index], str)]
        for position, index in enumerate(kept):
            if position != index:
                pixels[position] = pixels[index]
        pixels.flush()
    crops, refused = [], []
    for index in range(len(rows)):
        result = results[index]
        if isinstance(result, str):
            refused.append({"row": index, "why": result})
        else:
            header = {"age": result.age_years, "sex": result.sex}
            crops.append({"row": index, "pixel_hash": result.pixel_hash, **header})
    content = json.dumps({"crops": crops, "refused": refused})
    write_atomically(stem.with_suffix(".json"), content.encode())


def _crops_of_film(path: Path, rows: Sequence[Row], geometry: CropGeometry) -> list[_Crop | str]:
    """Return for each row of one film its crop, or the reason why there is none."""
    try:
        radiograph = read(path)
    except Refused as refused:
        return [str(refused)] * len(rows)
    return [_crop(radiograph, row, rows, geometry) for row in rows]


def _crop(
    radiograph: Radiograph, row: Row, rows: Sequence[Row], geometry: CropGeometry
) -> _Crop | str:
    try:
        hip = _hip(radiograph, row, rows, geometry)
        (sample,) = prepare(radiograph, hip, geometry.size_px)
    except Refused as refused:
        return str(refused)
    film = radiograph.film
    return _Crop(sample.pixels, _Header(film.pixel_hash, film.age_years, film.sex))


def _hip(radiograph: Radiograph, row: Row, rows: Sequence[Row], geometry: CropGeometry) -> Hip:
    """Return the hip of a row: as marked, or otherwise as located on the row's side."""
    if row.given:
        # Without a pixel spacing in the header, the distance between both centres gives the scale.
        others = tuple(hip for other in rows for hip in other.given)
        hips = locate(radiograph, geometry, others).hips
    else:
        hips = locate(radiograph, geometry).hips
        if len(hips) == 1 and hips[0].side is Side.UNKNOWN:
            # For the side of a single hip, the manifest is more reliable than the pixels.
            (hip,) = hips
            hips = locate(radiograph, geometry, (GivenHip(row.side, hip.centre_px),)).hips
    for hip in hips:
        if hip.side is row.side:
            return hip
    raise Refused(Code.NO_HIP_FOUND, f"none on the {row.side.value}")


def _completed(row: Row, entry: dict[str, object]) -> Row:
    """Return the row with the age and sex from the header where the manifest has none."""
    age, sex = entry["age"], entry["sex"]
    return replace(
        row,
        age_years=row.age_years if row.age_years is not None else age,  # type: ignore[arg-type]
        sex=row.sex or sex,  # type: ignore[arg-type]
    )
