"""Backgrounds on disk: the decomposed hips of a manifest, and the reasons for excluding others.

Reading a radiograph and finding its landmarks takes longer than drawing a sample. The results are
therefore cached under a hash of the manifest's rows and the contents of the image files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.read import read
from hipedge.errors import InputError, Refused
from hipedge.files import replacing, write_atomically
from hipedge.imaging.geometry import image_lateral
from hipedge.insertion.canvas import SHAPE, Canvas, cut_canvas
from hipedge.insertion.hip import Hip, take_apart
from hipedge.insertion.landmarks import NotFound, as_arrays, find_landmarks, from_arrays
from hipedge.insertion.manifest import AgeClass, BackgroundRow
from hipedge.insertion.suspicion import suspicions
from hipedge.locate.given import GivenHip
from hipedge.locate.heads import find_heads
from hipedge.locate.rules import FindHeads, locate
from hipedge.types import CropGeometry, Side

# To be changed whenever the content of the cache changes.
VERSION = 5
GEOMETRY = CropGeometry(size_px=256, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)

OnFilm = Callable[[int, int], None]
Suspect = Callable[[Canvas], Sequence[str]]


@dataclass(frozen=True)
class Background:
    """The origin of a hip that is used as a background."""

    path: str
    side: Side
    split: str
    patient: str
    age_class: AgeClass


@dataclass(frozen=True)
class LeftOut:
    """A hip or radiograph that is excluded as a background, with the reason, for manual review."""

    path: str
    side: str
    reason: str


@dataclass(frozen=True, eq=False)
class Backgrounds:
    """Decomposed hips on disk, and those left out. A pickle contains only paths, not pixels."""

    hips: tuple[Background, ...]
    left_out: tuple[LeftOut, ...]
    _arrays: Path  # float16 (N, 3, H, W): the canvas, its soft tissue and the mask of the femur
    _landmarks: tuple[dict[str, list[object]] | None, ...]
    _grains: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.hips)

    def of(self, split: str) -> NDArray[np.int64]:
        """Return the indices of the hips in one split."""
        return np.array([i for i, hip in enumerate(self.hips) if hip.split == split], np.int64)

    def hip(self, number: int) -> Hip:
        """Return a hip, separated into femur and other tissue, by its index."""
        pixels, soft, femur = (np.asarray(a, np.float32) for a in _opened(self._arrays)[number])
        on_film = ~np.isnan(pixels)
        pixels = np.where(on_film, pixels, 0.0).astype(np.float32)
        stored = self._landmarks[number]
        found = None
        if stored is not None:
            found = from_arrays({name: np.array(values) for name, values in stored.items()})
        return Hip(Canvas(pixels, on_film), found, soft, femur, self._grains[number])


def prepare_backgrounds(
    rows: Sequence[BackgroundRow],
    cache: Path,
    *,
    find: FindHeads = find_heads,
    suspect: Suspect = suspicions,
    on_film: OnFilm = lambda *_: None,
) -> Backgrounds:
    """Return the hips of `rows`, read from `cache` if they are stored there already.

    `find` detects the hips that are not marked in the manifest. `suspect` returns suspicious
    findings on a canvas; a hip with any is left out and reported. `on_film` is called after each
    row with the number of rows done and their total. Raises `InputError` if no hip is left.
    """
    stem = cache / f"backgrounds-{_key(rows, suspect)}"
    if not stem.with_suffix(".json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _fill(stem, rows, find, suspect, on_film)
    index = json.loads(stem.with_suffix(".json").read_text())
    hips = tuple(
        Background(
            hip["path"], Side(hip["side"]), hip["split"], hip["patient"], AgeClass(hip["age_class"])
        )
        for hip in index["hips"]
    )
    left_out = tuple(LeftOut(**entry) for entry in index["left_out"])
    if not hips:
        raise InputError(
            "no background can be used; " + "; ".join(f"{o.path}: {o.reason}" for o in left_out[:5])
        )
    landmarks = tuple(hip["landmarks"] for hip in index["hips"])
    grains = tuple(hip["grain"] for hip in index["hips"])
    return Backgrounds(hips, left_out, stem.with_suffix(".npy"), landmarks, grains)


@lru_cache(maxsize=4)
def _opened(path: Path) -> NDArray[np.float16]:
    """Map the arrays into memory, once per process."""
    arrays: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return arrays


def _key(rows: Sequence[BackgroundRow], suspect: Suspect) -> str:
    files: dict[Path, str] = {}
    for row in rows:
        if row.path not in files:
            files[row.path] = hashlib.sha256(row.path.read_bytes()).hexdigest()
    hips = [(files[row.path], repr(row).replace(repr(row.path), "")) for row in rows]
    judge = getattr(suspect, "__qualname__", repr(suspect))
    content = json.dumps([VERSION, judge, hips])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _fill(
    stem: Path,
    rows: Sequence[BackgroundRow],
    find: FindHeads,
    suspect: Suspect,
    on_film: OnFilm,
) -> None:
    """Decompose every hip; the index is written last, so an incomplete cache is not used."""
    hips: list[dict[str, object]] = []
    left_out: list[dict[str, str]] = []
    arrays: list[NDArray[np.float16]] = []
    for done, row in enumerate(rows, 1):
        for side, result in _hips_of(row, find, suspect):
            if isinstance(result, str):
                left_out.append({"path": row.path.name, "side": side, "reason": result})
                continue
            found = result.landmarks
            hips.append(
                {
                    "path": row.path.name,
                    "side": side,
                    "split": row.split,
                    "patient": row.patient,
                    "age_class": row.age_class.value,
                    "grain": result.grain,
                    "landmarks": found
                    and {name: values.tolist() for name, values in as_arrays(found).items()},
                }
            )
            pixels = np.where(result.canvas.on_film, result.canvas.pixels, np.nan)
            arrays.append(np.stack([pixels, result.soft, result.femur]).astype(np.float16))
        on_film(done, len(rows))
    with replacing(stem.with_suffix(".npy")) as partial, partial.open("wb") as file:
        np.save(file, np.stack(arrays) if arrays else np.empty((0, 3, *SHAPE), np.float16))
    content = json.dumps({"hips": hips, "left_out": left_out})
    write_atomically(stem.with_suffix(".json"), content.encode())


def _hips_of(row: BackgroundRow, find: FindHeads, suspect: Suspect) -> list[tuple[str, Hip | str]]:
    """Return each hip of a row by side: the decomposed hip, or the reason it cannot be used."""
    side_name = row.side.value if row.side else ""
    try:
        canvases = _canvases(row, find)
    except Refused as refused:
        return [(side_name, str(refused))]
    except ValueError as error:
        return [(side_name, str(error))]
    return [(side.value, _taken_apart(canvas, row, suspect)) for side, canvas in canvases]


def _canvases(row: BackgroundRow, find: FindHeads) -> list[tuple[Side, Canvas]]:
    radiograph = read(row.path)
    film = radiograph.film
    if row.centre_px is not None and row.side is not None and row.mm_per_px is not None:
        pixels = np.rot90(radiograph.pixels, row.quarter_turns)
        mirrored = image_lateral(row.side, film.orientation) == 1
        return [(row.side, cut_canvas(pixels, row.centre_px, row.mm_per_px, mirrored=mirrored))]
    if row.quarter_turns:
        raise ValueError("a turned film needs side, x, y and mm_per_px")
    given = (GivenHip(row.side, row.centre_px),) if row.side and row.centre_px else ()
    found: list[tuple[Side, Canvas]] = []
    for hip in locate(radiograph, GEOMETRY, given, find=find).hips:
        if hip.side is Side.UNKNOWN or row.side not in (None, hip.side):
            continue
        mm_per_px = row.mm_per_px or GEOMETRY.crop_mm / hip.box.width
        canvas = cut_canvas(radiograph.pixels, hip.centre_px, mm_per_px, mirrored=hip.mirrored)
        found.append((hip.side, canvas))
    if not found:
        raise ValueError("no hip of a known side was found")
    return found


def _taken_apart(canvas: Canvas, row: BackgroundRow, suspect: Suspect) -> Hip | str:
    for reason in suspect(canvas):
        return f"suspected: {reason}"
    if row.age_class is AgeClass.CHILD:
        return take_apart(canvas, None)
    try:
        return take_apart(canvas, find_landmarks(canvas))
    except NotFound as missing:
        return str(missing)
