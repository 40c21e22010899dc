"""Landmarks against the simulator's truth, and hips on which none can be found."""

import numpy as np
import pytest

from hipedge.dicom.read import read
from hipedge.insertion import NotFound, find_landmarks
from hipedge.insertion.canvas import HEAD_PX, SHAPE, STEP_MM, Canvas, cut_canvas
from hipedge.phantom import develop, draw_film
from hipedge.phantom.mesh import Mesh
from hipedge.phantom.projection import thickness_mm
from hipedge.types import Category, Side

OFF_MM = (3.0, -2.0)  # by how much the given centre is wrong


def hip(seed):
    """A simulated right hip cut about a wrong centre, and where its femur's shadow is."""
    film = draw_film(seed, categories={Side.RIGHT: Category.NORMAL}, hospital="north",
                     only=Side.RIGHT)  # fmt: skip
    x, y = film.centre_px(Side.RIGHT)
    mm = film.hip_spacing_mm[0]
    given = (x + OFF_MM[0] / mm, y + OFF_MM[1] / mm)
    femur = film.hip(Side.RIGHT).pieces[1].outer
    shadow = thickness_mm(film.view, Mesh(femur.vertices, femur.faces)) > 0.5
    cut = [cut_canvas(picture, given, mm, mirrored=False) for picture in (develop(film), shadow)]
    return cut[0], cut[1].pixels > 127


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_femur_is_found_where_it_is(seed):
    canvas, shadow = hip(seed)
    found = find_landmarks(canvas)
    truth = np.array(HEAD_PX) - np.array(OFF_MM) / STEP_MM
    # The simulator's thick bright roof draws the circle up by some millimetres.
    assert np.hypot(*(found.head - truth)) * STEP_MM < 7.0
    below = slice(int(HEAD_PX[1]), SHAPE[0] - 10)
    mask = found.femur_mask(SHAPE)[below] > 0.5
    overlap = (mask & shadow[below]).sum() / (mask | shadow[below]).sum()
    assert overlap > 0.8
    assert 100 < found.neck_shaft_deg < 165
    assert found.lesser_trochanter[1] > found.head[1] > found.greater_trochanter[1] - 60


def heads_from(canvas, starts):
    for start in starts:
        try:
            yield find_landmarks(canvas, head_px=tuple(start)).head
        except NotFound:
            continue


def test_on_real_hips_the_head_is_found_from_wherever_the_search_starts(fracatlas_rows):
    starts = np.array(HEAD_PX) + np.array([[0, 0], [4, 3], [-4, 2], [1, -5]])
    spread, found = [], 0
    for row in [row for row in fracatlas_rows if row.age_class == "adult"][::20]:
        pixels = np.rot90(read(row.path).pixels, row.quarter_turns)
        mirrored = row.side is Side.LEFT
        canvas = cut_canvas(pixels, row.centre_px, row.mm_per_px, mirrored=mirrored)
        heads = np.array(list(heads_from(canvas, starts)))
        found += len(heads)
        spread.append(np.linalg.norm(heads - heads.mean(axis=0), axis=1).max() * STEP_MM)
    assert found >= 0.85 * len(spread) * len(starts)
    assert np.median(spread) < 1.5


def test_a_hip_that_the_film_cuts_is_refused():
    canvas, _ = hip(0)
    on_film = canvas.on_film.copy()
    on_film[:, : int(HEAD_PX[0])] = False
    with pytest.raises(NotFound, match="edge of the film"):
        find_landmarks(Canvas(np.where(on_film, canvas.pixels, 0), on_film))


def test_nothing_is_found_in_noise(rng):
    noise = rng.normal(128, 40, SHAPE).astype(np.float32)
    with pytest.raises(NotFound, match="not clear"):
        find_landmarks(Canvas(noise, np.ones(SHAPE, bool)))
