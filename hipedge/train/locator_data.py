"""Training samples of the locator: random windows on films with marked heads, and negatives."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from hipedge.csv_input import Problems
from hipedge.dicom.read import read
from hipedge.errors import InputError, Refused
from hipedge.files import replacing, write_atomically
from hipedge.imaging.geometry import head_in_box, image_lateral
from hipedge.locate.learned import EDGE_PX, THUMBNAIL_PX, make_thumbnail, stretch
from hipedge.model.untrained import DEFAULT_GEOMETRY
from hipedge.train.appearance import Appearance, restyle
from hipedge.train.data import OnFilm, by_film, content_key
from hipedge.train.locator_network import SEEN_PX
from hipedge.train.manifest import TRAIN, Row
from hipedge.train.negatives import cloud, draw_chest, draw_negative
from hipedge.train.samples import Key
from hipedge.types import Box
from hipedge.versions import PIPELINE_VERSION

if TYPE_CHECKING:
    from hipedge.train.real_films import RealFilms

# Films are cached at a higher resolution than the network's input, since a window may be magnified.
FILM_PX = 384
NOT_HIP_SHARE = 0.25
# With real films: the shares of samples without a hip, of real films among those with one, of drawn
# implants among these, and the kinds of samples without a hip: a real film without one, another
# picture, or what is trained on without real films.
REAL_NOT_HIP_SHARE = 0.42
REAL_SHARE = 0.65
IMPLANT_SHARE = 0.3
WITHOUT_HIP, OTHER_PICTURE = 0.5, 0.1
# Real films keep their own appearance in this share of samples.
PLAIN_SHARE = 0.4
UPRIGHT_SHARE = 0.6
IGNORED = -1
LOCATOR = 3
# A film is extended with the mean of this many rows at its edge; an extension that would be no
# higher than the margin is omitted.
EDGE_ROWS = 6
MARGIN_ROWS = 24

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Films:
    """Thumbnails of films and the positions of the heads on them.

    `thumbnails` is uint8 (F, S, S) on disk; `heads` (F, 2, 2) holds the heads at the left and right
    of the image, each (x, y) in thumbnail pixels, or NaN if the head is not on the film.
    """

    thumbnails: NDArray[np.uint8]
    heads: Array
    splits: tuple[str, ...]
    refused: tuple[tuple[Path, str], ...]

    def of(self, split: str) -> NDArray[np.int64]:
        """Return the indices of the films of one split."""
        return np.array([i for i, name in enumerate(self.splits) if name == split], np.int64)


def prepare_films(
    rows: Sequence[Row], source: Path, cache: Path, on_film: OnFilm = lambda *_: None
) -> Films:
    """Return the films of `rows`, from `cache` if they have been prepared before.

    The manifest must have every head on a film: a head without a row counts as absent. Raises
    `InputError` for rows without a mark, and if no film can be read.
    """
    problems = Problems(source)
    for row in rows:
        if row.marked is None:
            problems.add(row.line, "no centre and no box: the locator learns from marked hips")
    problems.raise_by_row()
    films = by_film(rows)
    stem = cache / content_key(rows, {"film_px": FILM_PX, "pipeline": PIPELINE_VERSION})
    if not stem.with_suffix(".json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _fill(stem, rows, films, on_film)
    index = json.loads(stem.with_suffix(".json").read_text())
    if not index["heads"]:
        raise InputError(f"no film of {source} could be read")
    heads = np.array(index["heads"], np.float32)
    thumbnails = np.load(stem.with_suffix(".npy"), mmap_mode="r")[: len(heads)]
    paths = list(films)
    splits = tuple(rows[films[paths[i]][0]].split for i in index["films"])
    refused = tuple((paths[i], why) for i, why in index["refused"])
    return Films(thumbnails, heads, splits, refused)


def _fill(stem: Path, rows: Sequence[Row], films: dict[Path, list[int]], on_film: OnFilm) -> None:
    shape = (len(films), FILM_PX, FILM_PX)
    kept: list[int] = []
    heads: list[list[list[float]]] = []
    refused: list[tuple[int, str]] = []

    def of_film(film: tuple[Path, list[int]]) -> tuple[NDArray[np.uint8], Array] | str:
        return _film(film[0], [rows[i] for i in film[1]])

    with (
        replacing(stem.with_suffix(".npy")) as partial,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        thumbnails = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        for number, found in enumerate(pool.map(of_film, films.items())):
            if isinstance(found, str):
                refused.append((number, found))
            else:
                thumbnails[len(kept)] = found[0]
                heads.append(found[1].tolist())
                kept.append(number)
            on_film(number + 1, len(films))
        thumbnails.flush()
    content = json.dumps({"films": kept, "heads": heads, "refused": refused})
    write_atomically(stem.with_suffix(".json"), content.encode())


def _film(path: Path, rows: Sequence[Row]) -> tuple[NDArray[np.uint8], Array] | str:
    try:
        radiograph = read(path)
    except Refused as refused:
        return str(refused)
    film = radiograph.film
    thumbnail = make_thumbnail(radiograph.pixels, film.spacing_mm, FILM_PX)
    heads = np.full((2, 2), np.nan, np.float32)
    for row in rows:
        lateral = image_lateral(row.side, film.orientation)
        centre = row.marked
        if isinstance(centre, Box):
            centre = head_in_box(centre, DEFAULT_GEOMETRY, lateral=lateral)
        assert centre is not None  # checked before any film was read
        heads[0 if lateral == -1 else 1] = thumbnail.from_film(centre)
    return thumbnail.pixels, heads


@dataclass(frozen=True, eq=False)
class Shown:
    """A thumbnail at half resolution, uint8 (128, 128), and the positions of the heads on it.

    `heads` (2, 2) are in pixels of the thumbnail at full resolution, NaN if unknown; `present` (2,)
    is 1 for each head that is visible, 0 for one that is not, or `IGNORED`.
    """

    pixels: NDArray[np.uint8]
    heads: Array
    present: NDArray[np.int64]


class LocatorSamples(Dataset[tuple[Tensor, ...]]):
    """Windows on films, in part rotated by quarter turns, mixed with images without a hip.

    A sample is pixels uint8 (1, 128, 128), heads (2, 2), present (2,), turns, log distance and hip:
    1 for a hip on an upright film, 0 for an image without one. The heads, presence, distance and
    hip of a rotated film do not contribute to the loss.
    """

    def __init__(
        self,
        films: Films,
        indices: NDArray[np.int64],
        seed: int,
        appearance: Appearance | None = None,
        real: RealFilms | None = None,
    ) -> None:
        self.films, self.indices, self.seed = films, indices, seed
        self.appearance, self.real = appearance, real
        if real is not None:
            self._hips, self._hip_weights = _weighted(real, real.with_hip(TRAIN))
            self._others, self._other_weights = _weighted(real, real.without_hip(TRAIN))
            self._implants = real.with_implants(TRAIN)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> tuple[Tensor, ...]:
        epoch, index = key
        rng = np.random.default_rng((self.seed, LOCATOR, epoch, index))
        film = int(self.indices[index])
        if self.real is not None and rng.uniform() < REAL_SHARE:
            thumbnail, heads, plain = self._real_film(self.real, rng)
        else:
            thumbnail, heads, plain = self.films.thumbnails[film], self.films.heads[film], False
        if rng.uniform() < 0.5:
            thumbnail, heads = flipped(thumbnail, heads)
        if rng.uniform() < (NOT_HIP_SHARE if self.real is None else REAL_NOT_HIP_SHARE):
            return _tensors(self._without_hip(thumbnail, heads, rng), IGNORED, None, 0)
        shown = show_window(thumbnail, heads, rng, appearance=self.appearance, plain=plain)
        if not (shown.present == 1).any():
            return _tensors(shown, IGNORED, None, IGNORED)
        if rng.uniform() < UPRIGHT_SHARE:
            return _tensors(shown, 0, _log_distance(shown.heads), 1)
        turns = int(rng.integers(1, 4))
        pixels = np.ascontiguousarray(np.rot90(shown.pixels, -turns))
        ignored = Shown(pixels, np.full((2, 2), np.nan, np.float32), np.full(2, IGNORED))
        return _tensors(ignored, turns, None, IGNORED)

    def _real_film(
        self, real: RealFilms, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Array, bool]:
        """Return a film, maybe with drawn implants, its heads, and whether to show it plain."""
        plain = bool(rng.uniform() < PLAIN_SHARE)
        if len(self._implants) and rng.uniform() < IMPLANT_SHARE:
            number = int(rng.choice(self._implants))
            film = int(real.implants_of[number])
            return real.implants[number], real.films.heads[film], plain
        film = int(rng.choice(self._hips, p=self._hip_weights))
        return real.films.thumbnails[film], real.films.heads[film], plain

    def _without_hip(
        self, film: NDArray[np.uint8], heads: Array, rng: np.random.Generator
    ) -> Shown:
        if self.real is not None:
            kind = rng.uniform()
            if kind < WITHOUT_HIP and len(self._others):
                film_without = int(rng.choice(self._others, p=self._other_weights))
                other = self.real.films.thumbnails[film_without]
                return show_other(other, rng, self.appearance)
            if kind > 1 - OTHER_PICTURE and len(self.real.pictures):
                other = self.real.pictures[int(rng.integers(len(self.real.pictures)))]
                return show_other(other, rng, self.appearance)
        return _no_hip(film, heads, rng, self.appearance)


def _weighted(
    real: RealFilms, indices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return films and their weights: a kind counts as the square root of its number of films."""
    kinds = [real.rows[film].kind for film in indices]
    weights = np.array([kinds.count(kind) ** -0.5 for kind in kinds])
    return indices, weights / weights.sum()


def flipped(film: NDArray[np.uint8], heads: Array) -> tuple[NDArray[np.uint8], Array]:
    """Return the mirror image of a film, with its heads exchanged: a pelvis is symmetric."""
    mirrored = heads[::-1].copy()
    mirrored[:, 0] = film.shape[1] - mirrored[:, 0]
    return np.ascontiguousarray(film[:, ::-1]), mirrored


def _no_hip(
    film: NDArray[np.uint8],
    heads: Array,
    rng: np.random.Generator,
    appearance: Appearance | None,
) -> Shown:
    """Return a negative sample: a part of a film without a head, or a drawing of something else."""
    if rng.uniform() < 0.4:
        for _ in range(5):
            shown = show_window(film, heads, rng, aside=True, appearance=appearance)
            if not shown.present.any():
                return _nothing(shown.pixels)
    return _nothing(restyle(draw_negative(rng, SEEN_PX), rng, appearance))


def _nothing(pixels: NDArray[np.uint8]) -> Shown:
    return Shown(pixels, np.full((2, 2), np.nan, np.float32), np.zeros(2, np.int64))


def show_other(
    film: NDArray[np.uint8], rng: np.random.Generator, appearance: Appearance | None = None
) -> Shown:
    """Return a random window on a film or picture without a hip, turned as it may be."""
    zoom = np.exp(rng.uniform(np.log(0.6), np.log(2.4)))
    reach = FILM_PX / 2 * max(0.15, 1 - 0.6 / zoom)
    centre = FILM_PX / 2 + rng.uniform(-reach, reach, 2)
    image, _ = _window(film, np.zeros((0, 2), np.float32), centre, zoom, rng)
    pixels = image
    if rng.uniform() > PLAIN_SHARE:
        pixels = restyle(pixels, rng, appearance)
    pixels = np.array(pixels)
    _shutter(pixels, rng)
    turned = np.rot90(pixels, int(rng.integers(4)))
    return _nothing(np.ascontiguousarray(turned[:, ::-1] if rng.uniform() < 0.5 else turned))


def show_window(
    film: NDArray[np.uint8],
    heads: Array,
    rng: np.random.Generator,
    *,
    aside: bool = False,
    appearance: Appearance | None = None,
    plain: bool = False,
) -> Shown:
    """Return a random window on a film (S, S): scaled, slightly rotated, squeezed and collimated.

    `aside` places the window away from the heads: above them, on the lumbar region, or below them,
    on the thighs. `plain` keeps the film's appearance.
    """
    known = heads[~np.isnan(heads[:, 0])]
    middle = known.mean(axis=0)
    reach = float(np.ptp(known[:, 0])) if len(known) == 2 else FILM_PX / 3
    kind = rng.uniform()
    if aside:
        down = rng.choice([-1.0, 1.0]) * rng.uniform(0.9, 1.6)
        centre = middle + reach * np.array([rng.uniform(-0.6, 0.6), down])
        zoom = rng.uniform(1.0, 2.2)
    elif kind < 0.35:
        # A single hip, as on a radiograph of one hip.
        centre = known[rng.integers(len(known))] + reach * rng.uniform(-0.4, 0.4, 2)
        zoom = np.exp(rng.uniform(np.log(0.9), np.log(2.4)))
    elif kind < 0.5:
        # A pelvis at the lower end of a trunk, or at the upper end of the legs.
        zoom = FILM_PX / reach * rng.uniform(0.14, 0.3)
        away = FILM_PX / zoom * rng.choice([-1.0, -1.0, 1.0]) * rng.uniform(0.1, 0.42)
        centre = middle + np.array([rng.uniform(-0.3, 0.3) * FILM_PX / zoom, away])
    else:
        centre = middle + reach * rng.uniform(-0.35, 0.35, 2) * [1, 2]
        zoom = np.exp(rng.uniform(np.log(0.45), np.log(1.4)))
    image, seen = _window(film, heads, centre, zoom, rng)
    pixels = np.array(image if plain else restyle(image, rng, appearance))
    frame = _shutter(pixels, rng)
    return Shown(pixels, seen, _present(seen, frame))


def _window(
    film: NDArray[np.uint8], heads: Array, centre: NDArray[np.float64], zoom: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Array]:  # fmt: skip
    """Return a window (128, 128) about a point of a film, and where the heads are on it."""
    to_window = _matrix(zoom * SEEN_PX / FILM_PX, rng)
    half = np.full(2, SEEN_PX / 2)
    inverse = np.linalg.inv(to_window)
    longer, lower = extended(film, rng)
    offset = centre + np.array([0, lower]) - inverse @ half
    image = Image.fromarray(longer).transform(
        (SEEN_PX, SEEN_PX),
        Image.Transform.AFFINE,
        (*inverse[0], offset[0], *inverse[1], offset[1]),
        Image.Resampling.BILINEAR,
    )
    seen = ((heads - centre) @ to_window.T + half) * (THUMBNAIL_PX / SEEN_PX)
    return np.asarray(image), seen.astype(np.float32)


def _matrix(zoom: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a matrix (2, 2) that scales, squeezes and slightly rotates.

    The squeeze imitates pelvic tilt and images with a wrong aspect ratio: images resized to a
    square from films that are not square are squeezed by up to a third.
    """
    squeeze = np.exp(rng.uniform(-0.18, 0.18) if rng.uniform() < 0.5 else rng.normal(0, 0.05))
    angle = np.radians(np.clip(rng.normal(0, 7), -20, 20))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(turn @ np.diag([zoom * squeeze, zoom / squeeze]))


def extended(film: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """Extend a film upwards (lumbar region and chest) and downwards (thighs), as longer films do.

    Returns the longer film, and the number of rows by which the original content moved down.
    """
    (rows,) = np.nonzero(film.any(axis=1))
    if not len(rows):
        return film, 0
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    above, below = (rng.uniform(0.15, 1.1, 2) * (rng.uniform(size=2) < 0.6) * FILM_PX).astype(int)
    parts = [film[top:bottom]]
    if above > MARGIN_ROWS:
        loins = _continued(film[top : top + EDGE_ROWS].mean(axis=0), above, rng)[::-1]
        if above > FILM_PX // 2 and rng.uniform() < 0.5:
            chest = _chest(film.shape[1], rng)
            height = min(len(chest), above - FILM_PX // 5)
            loins = np.concatenate([chest[-height:], loins[height:]])
        parts.insert(0, loins)
    if below > MARGIN_ROWS:
        parts.append(_continued(film[bottom - EDGE_ROWS : bottom].mean(axis=0), below, rng))
    return np.concatenate(parts), len(parts[0]) - top if above > MARGIN_ROWS else -top


def _continued(
    edge: NDArray[np.floating], rows: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return `rows` rows (rows, W) that continue a film's `edge` (W,), widening or narrowing."""
    width = len(edge)
    middle = width * rng.uniform(0.4, 0.6)
    spread = 1 + rng.uniform(-0.25, 0.4) * np.arange(rows)[:, None] / FILM_PX
    columns = np.rint(middle + (np.arange(width) - middle) / spread).astype(int)
    coarse = rng.normal(1, rng.uniform(0, 0.25), (max(2, rows // 16), 12)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((width, rows), Image.Resampling.BICUBIC))
    return np.asarray(np.clip(edge[columns.clip(0, width - 1)] * texture, 0, 255), np.uint8)


def _chest(width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = draw_chest(rng, SEEN_PX)
    picture += cloud(rng, SEEN_PX, rng.uniform(3, 15))
    return np.asarray(Image.fromarray(stretch(picture.astype(np.float32))).resize((width, width)))


def _shutter(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
    """Collimate some edges in place; return the exposed field (left, top, right, bottom).

    The field is in pixels of the thumbnail at full resolution.
    """
    frame = np.array([0.0, 0.0, THUMBNAIL_PX, THUMBNAIL_PX])
    if rng.uniform() < 0.6:
        return frame
    inwards = rng.uniform(0, 0.14, 4) * (rng.uniform(size=4) < 0.6) * SEEN_PX
    left, top, right, bottom = (int(v) for v in inwards * [1, 1, -1, -1] + [0, 0, SEEN_PX, SEEN_PX])
    gray = int(rng.choice([0, 0, 255]))
    pixels[:top], pixels[bottom:] = gray, gray
    pixels[:, :left], pixels[:, right:] = gray, gray
    return np.array([left, top, right, bottom]) * (THUMBNAIL_PX / SEEN_PX)


def _present(heads: NDArray[np.floating], frame: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each head whether it is in the frame: 1, 0, or `IGNORED` near the edge."""
    inside = np.minimum(heads - frame[:2], frame[2:] - heads).min(axis=1)
    present = np.where(inside > EDGE_PX, 1, np.where(inside < -EDGE_PX, 0, IGNORED))
    return np.where(np.isnan(inside), 0, present).astype(np.int64)


def _log_distance(heads: Array) -> float | None:
    distance = float(np.hypot(*(heads[1] - heads[0])))
    return None if np.isnan(distance) else float(np.log(distance / THUMBNAIL_PX))


def _tensors(shown: Shown, turns: int, log_distance: float | None, hip: int) -> tuple[Tensor, ...]:
    distance = float("nan") if log_distance is None else log_distance
    return (
        torch.from_numpy(shown.pixels[None]),
        torch.from_numpy(shown.heads),
        torch.from_numpy(shown.present),
        torch.tensor(turns),
        torch.tensor(distance),
        torch.tensor(hip),
    )
