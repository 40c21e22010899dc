"""What screening accepts as a hip, and where: FracAtlas by split, implants, other pictures.

A film goes the way of `hipedge screen` after its header: turned upright, searched in parts where it
may hold several exposures, refused as `no_hip_found` where no hip is seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pydicom.data
from numpy.typing import NDArray

from hipedge.dicom.grayscale import render
from hipedge.dicom.header import read_header
from hipedge.dicom.pixels import checked_format, decode
from hipedge.dicom.read import read
from hipedge.errors import Refused
from hipedge.imaging.area import WholePixels
from hipedge.imaging.geometry import image_lateral
from hipedge.locate.learned import LearnedLocator, make_thumbnail
from hipedge.locate.rules import locate
from hipedge.locate.upright import quarter_turns, turn_upright, turns_of
from hipedge.model.untrained import DEFAULT_GEOMETRY
from hipedge.study.intervals import clustered_wilson
from hipedge.train.film_manifest import FilmManifest
from hipedge.train.manifest import TRAIN, Row, read_manifest
from hipedge.train.real_films import RealFilms, without_border
from hipedge.types import HARDWARE, Film, Radiograph

Point = tuple[float, float]
Cases = list[tuple[str, bool]]

# A head is found where a hip is within this fraction of the film's width.
NEAR_WIDTH = 0.05
# A head within this fraction of the longer side from the film's edge may be found or not.
EDGE = 0.03
LEAST_PX = 32
# Of pydicom's own test files, those that show other things and are not trained on either.
NOT_HIPS = (
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "MR_small.dcm",
    "SC_rgb_jpeg.dcm",
    "examples_overlay.dcm",
    "examples_ybr_color.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
)
PHOTOGRAPHS = ("grace_hopper.jpg", "Minduka_Present_Blue_Pack.png", "logo2.png")


@dataclass(frozen=True)
class Picture:
    """A film or another picture, and the heads at its left and right once it is upright."""

    name: str
    patient: str
    kind: str
    radiograph: Radiograph
    heads: tuple[Point | None, Point | None] = (None, None)
    quarter_turns: int = 0


@dataclass(frozen=True)
class Seen:
    """What screening made of a picture: turns counterclockwise, and the hips' centres."""

    picture: Picture
    quarter_turns: int
    hips: tuple[Point, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Return the height and the width of the picture as it was turned."""
        height, width = self.picture.radiograph.film.shape
        return (width, height) if self.quarter_turns % 2 else (height, width)


def screen(picture: Picture, locator: LearnedLocator) -> Seen:
    """Return what screening makes of a picture that its header lets pass."""
    turned = quarter_turns(picture.radiograph, locator.quarter_turns)
    upright = turn_upright(picture.radiograph, turned)
    try:
        hips = locate(upright, DEFAULT_GEOMETRY, find=locator).hips
    except Refused:
        hips = ()
    return Seen(picture, turns_of(upright.film.marks), tuple(hip.centre_px for hip in hips))


def of_pixels(name: str, pixels: NDArray[np.uint16]) -> Radiograph:
    """Return a picture as a radiograph of which nothing but the pixels is known."""
    return Radiograph(Film(Path(name), "", "", pixels.shape), WholePixels(pixels))


def fracatlas(manifest: FilmManifest, split: str) -> Iterator[Picture]:
    """Yield the films of one split."""
    for row in manifest.rows:
        if row.split == split:
            yield Picture(
                row.path.name, row.patient, row.kind, read(row.path), row.heads, row.quarter_turns
            )


def with_implants(real: RealFilms, split: str) -> Iterator[Picture]:
    """Yield films with drawn implants of one split, without the black beside their thumbnails."""
    for number in real.with_implants(split):
        film = int(real.implants_of[number])
        row = real.rows[film]
        rows, columns = without_border(real.films.thumbnails[film])
        part = real.implants[number][rows, columns]
        left, right = (
            None
            if np.isnan(head[0])
            else (float(head[0]) - columns.start, float(head[1]) - rows.start)
            for head in real.films.heads[film]
        )
        name = f"{row.path.name}, implant {number}"
        radiograph = of_pixels(name, part.astype(np.uint16) * 256)
        yield Picture(name, row.patient, "drawn implants", radiograph, (left, right))


def simulated(truth: Path) -> Iterator[Picture]:
    """Yield the simulated films of a manifest that are not trained on."""
    rows_of: dict[Path, list[Row]] = {}
    for row in read_manifest(truth).rows:
        rows_of.setdefault(row.path, []).append(row)
    for path, rows in rows_of.items():
        if rows[0].split == TRAIN:
            continue
        radiograph = read(path)
        heads: dict[int, Point] = {}
        for row in rows:
            lateral = image_lateral(row.side, radiograph.film.orientation)
            if isinstance(row.marked, tuple):
                heads[lateral] = row.marked
        metal = any(row.category in HARDWARE for row in rows)
        kind = "simulated, with an implant" if metal else "simulated, without"
        yield Picture(path.name, rows[0].patient, kind, radiograph, (heads.get(-1), heads.get(1)))


def other_pictures(shared: Path) -> Iterator[Picture]:
    """Yield pictures of other kinds, each once, as if their headers said that they are radiographs.

    None of them is trained on, nor another file with the same picture.
    """
    tests = Path(pydicom.__file__).parent / "data" / "test_files"
    samples = Path(str(matplotlib.cbook.get_sample_data("logo2.png", asfileobj=False))).parent
    for kind, files in (
        ("chest and tibia", sorted((shared / "wg04").glob("RG[13]*"))),
        ("MR, CT and other DICOM", [tests / name for name in NOT_HIPS]),
        ("malformed", sorted((shared / "malformed").rglob("*.dcm"))),
        ("photographs and drawings", [samples / name for name in PHOTOGRAPHS]),
    ):
        known = set[bytes]()
        for path in files:
            pixels = _past_gate(path)
            if pixels is None or min(pixels.shape) < LEAST_PX:
                continue
            thumbnail = make_thumbnail(pixels).pixels.tobytes()
            if thumbnail not in known:
                known.add(thumbnail)
                yield Picture(path.name, path.name, kind, of_pixels(path.name, pixels))


def _past_gate(path: Path) -> NDArray[np.uint16] | None:
    """Return the pixels of any picture, None where none can be decoded."""
    try:
        if path.suffix != ".dcm":
            return read(path).pixels
        header = read_header(path.read_bytes())
        if header.pixels is None:
            return None
        form = checked_format(header.image_pixel)
        decoded = decode(header.pixels, form, header.transfer_syntax_uid)
        return render(decoded.gray, form.bits_stored, header.grayscale)
    except Refused:
        return None


def share(cases: Cases) -> dict[str, object] | None:
    """Return how many of (patient, success) succeed, with 95 % Wilson intervals by patient."""
    if not cases:
        return None
    patients = np.unique([name for name, _ in cases], return_inverse=True)[1]
    successes = np.array([success for _, success in cases])
    interval = clustered_wilson(successes, patients)
    assert interval is not None
    return {
        "n": len(cases),
        "successes": int(successes.sum()),
        "share": float(successes.mean()),
        "interval_95": [interval.low, interval.high],
    }


def measure_hips(seen: Sequence[Seen]) -> dict[str, object]:
    """Return the figures of films that show a hip."""
    accepted, near, extra, second, turned = Cases(), Cases(), Cases(), Cases(), Cases()
    for one in seen:
        patient, heads = one.picture.patient, one.picture.heads
        accepted.append((patient, bool(one.hips)))
        turned.append((patient, one.quarter_turns != one.picture.quarter_turns))
        certain = [head for head in heads if head and not _at_edge(head, one.shape)]
        if one.quarter_turns == one.picture.quarter_turns:
            near += [(patient, _is_near(head, one)) for head in certain]
        there = len([head for head in heads if head])
        extra.append((patient, len(one.hips) > there))
        if there == 1:
            second.append((patient, len(one.hips) > 1))
    return {
        "films": len(seen),
        "patients": len({one.picture.patient for one in seen}),
        "accepted": share(accepted),
        "heads within 5 % of the width": share(near),
        "a hip too many": share(extra),
        "a single hip gains a second": share(second),
        "wrongly turned": share(turned),
    }


def measure_others(seen: Sequence[Seen]) -> dict[str, object]:
    """Return the figures of pictures that show no hip."""
    return {
        "films": len(seen),
        "patients": len({one.picture.patient for one in seen}),
        "accepted": share([(one.picture.patient, bool(one.hips)) for one in seen]),
        "turned, then accepted": share(
            [(one.picture.patient, bool(one.hips) and one.quarter_turns > 0) for one in seen]
        ),
    }


def _at_edge(head: Point, shape: tuple[int, int]) -> bool:
    height, width = shape
    return min(*head, width - head[0], height - head[1]) < EDGE * max(shape)


def _is_near(head: Point, seen: Seen) -> bool:
    return any(math.dist(head, hip) <= NEAR_WIDTH * seen.shape[1] for hip in seen.hips)


def by_kind(
    seen: Iterable[Seen], measure: Callable[[Sequence[Seen]], dict[str, object]]
) -> dict[str, dict[str, object]]:
    """Return the figures of each kind of picture, and of all where there are several."""
    everything = list(seen)
    kinds = sorted({one.picture.kind for one in everything})
    figures = {kind: measure([s for s in everything if s.picture.kind == kind]) for kind in kinds}
    return figures if len(kinds) < 2 else figures | {"all": measure(everything)}
