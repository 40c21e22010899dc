"""Implants drawn into real films, as thumbnails: training and test samples of the locator.

An implant is drawn into a hip by `hipedge.insertion`; what that changes is added to the whole film.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.errors import InputError
from hipedge.insertion.backgrounds import Backgrounds, prepare_backgrounds
from hipedge.insertion.canvas import HEAD_PX, STEP_MM
from hipedge.insertion.lesions import insert_lesion
from hipedge.insertion.manifest import AgeClass, BackgroundRow
from hipedge.locate.learned import Thumbnail, stretch
from hipedge.phantom.patient import GRADE_SHARES
from hipedge.train.film_manifest import FilmRow
from hipedge.types import Category, Side

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

IMPLANTS = (Category.TOTAL_HIP_ARTHROPLASTY, Category.INTERNAL_FIXATION)
# Films with drawn implants made of each film, and the share of them with implants on both sides.
IMPLANT_FILMS = 4
BOTH_SIDES = 0.3
STREAM = 7


def draw_implants(
    rows: Sequence[FilmRow],
    thumbnails: Sequence[Thumbnail],
    hips: Sequence[BackgroundRow],
    cache: Path,
    seed: int,
) -> tuple[list[Pixels], list[int]]:
    """Return thumbnails with drawn implants, and the index in `rows` of the film of each.

    `IMPLANT_FILMS` of each film with a hip in `hips` (a manifest of backgrounds with centres and
    scales) whose landmarks are found; `cache` keeps the hips.
    """
    if not hips:
        return [], []
    backgrounds = prepare_backgrounds(hips, cache)
    marked = {(hip.path.name, hip.side): hip for hip in hips}
    films, of = [], []
    for number, (row, thumbnail) in enumerate(zip(rows, thumbnails, strict=True)):
        usable = [
            (index, marked[hip.path, hip.side])
            for index, hip in enumerate(backgrounds.hips)
            if hip.path == row.path.name and hip.age_class is AgeClass.ADULT
        ]
        for repeat in range(IMPLANT_FILMS if usable else 0):
            rng = np.random.default_rng((seed, STREAM, number, repeat))
            values = thumbnail.pixels.astype(np.float32)
            both = rng.uniform() < BOTH_SIDES
            chosen = usable if both else [usable[int(rng.integers(len(usable)))]]
            for index, hip in chosen:
                values += _implant(backgrounds, index, hip, thumbnail, rng)
            films.append(np.where(thumbnail.pixels > 0, np.maximum(stretch(values), 1), 0))
            of.append(number)
    return [film.astype(np.uint8) for film in films], of


def _implant(
    backgrounds: Backgrounds,
    index: int,
    row: BackgroundRow,
    thumbnail: Thumbnail,
    rng: np.random.Generator,
) -> Array:
    """Return the change of a film's thumbnail (S, S) by an implant in one of its hips."""
    hip = backgrounds.hip(index)
    category = IMPLANTS[int(rng.integers(len(IMPLANTS)))]
    shares = GRADE_SHARES[category]
    grade = str(rng.choice(list(shares), p=list(shares.values())))
    before = hip.canvas.pixels
    change = insert_lesion(hip, before, category, grade, rng).pixels - before
    if row.centre_px is None or row.mm_per_px is None:
        raise InputError(f"{row.path.name}: an implant is drawn into a hip with x, y and mm_per_px")
    step = STEP_MM / row.mm_per_px * (1.0 if row.side is Side.RIGHT else -1.0)
    # From the thumbnail to the canvas, where pixel centres are at +0.5 in both.
    across, down = thumbnail.step_px[0] / step, thumbnail.step_px[1] / abs(step)
    x = (thumbnail.origin_px[0] - row.centre_px[0]) / step + HEAD_PX[0] + 0.5
    y = (thumbnail.origin_px[1] - row.centre_px[1]) / abs(step) + HEAD_PX[1] + 0.5
    placed, shown, known = (
        np.asarray(
            Image.fromarray(np.asarray(layer, np.float32)).transform(
                thumbnail.pixels.shape,
                Image.Transform.AFFINE,
                (across, 0.0, x, 0.0, down, y),
                Image.Resampling.BILINEAR,
            )
        )
        for layer in (change, before, hip.canvas.on_film)
    )
    # The canvas has another contrast than the thumbnail: the slope between both on the same pixels.
    same = (known > 0.99) & (thumbnail.pixels > 0)
    canvas, film = shown[same], thumbnail.pixels[same].astype(np.float32)
    slope = float(np.cov(canvas, film)[0, 1] / max(float(canvas.var()), 1e-6))
    return np.asarray(placed * slope, np.float32)
