"""Areas of a film: what is asked for, no coarser than asked, and exactly where it lies."""

import numpy as np
import pytest

from hipedge.imaging.area import MAX_HALVINGS, TurnedPixels, WholePixels, block_means, halvings
from hipedge.locate.upright import turn_upright
from hipedge.types import OVERVIEW_PX, Box, Radiograph
from tests.builders import film


def ramp(height=403, width=610):
    """Pixels that say where they are: their value is 10,000 + 40 x + 60 y at their centres."""
    y, x = np.indices((height, width)) + 0.5
    return (10_000 + 40 * x + 60 * y).astype(np.uint16)


def centres(area):
    """Where the area's pixels lie on the film: x (w,) and y (h,)."""
    height, width = area.pixels.shape
    x = np.array([area.on_film((i + 0.5, 0))[0] for i in range(width)])
    y = np.array([area.on_film((0, j + 0.5))[1] for j in range(height)])
    return x, y


def errors(area):
    """How far the pixels of an area of `ramp` are from what they should be where they lie.

    Without those at the film's lower and right end, whose blocks may reach beyond it.
    """
    x, y = centres(area)
    expected = 10_000 + 40 * x + 60 * y[:, None]
    return np.abs(area.pixels.astype(float) - expected)[:-1, :-1]


@pytest.mark.parametrize("step_px", [1.0, 1.9, 2.0, 5.0, 8.75, 40.0])
@pytest.mark.parametrize("box", [Box(0, 0, 610, 403), Box(100.3, 57.9, 333.3, 290.9)])
def test_pixels_lie_where_the_area_says(step_px, box):
    area = WholePixels(ramp()).area(box, step_px)
    assert area.step_px <= step_px
    assert errors(area).max() <= 1


def test_an_area_reaches_one_of_its_pixels_beyond_the_box():
    area = WholePixels(ramp()).area(Box(100, 60, 300, 290), 8.0)
    x, y = centres(area)
    assert x[0] <= 100 - area.step_px / 2
    assert x[-1] >= 300 + area.step_px / 2
    assert y[0] <= 60 - area.step_px / 2
    assert y[-1] >= 290 + area.step_px / 2


def test_an_area_at_the_films_own_resolution_is_the_film():
    pixels = ramp()
    area = WholePixels(pixels).area(Box(100, 60, 300, 290), 1.0)
    np.testing.assert_array_equal(area.pixels, pixels[59:291, 99:301])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turned_films_area_is_the_area_of_the_turned_film(turns):
    pixels = ramp()
    turned = turn_upright(Radiograph(film(shape=pixels.shape), WholePixels(pixels)), turns)
    known = np.rot90(pixels, turns)
    np.testing.assert_array_equal(turned.pixels, known)
    for step_px in (1.0, 4.0, 9.0):
        box = Box(100, 60, 300, 290)
        x, y = centres(area := turned.source.area(box, step_px))
        rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
        inside = (rows < known.shape[0] - 8, columns < known.shape[1] - 8)
        seen = area.pixels[np.ix_(*inside)]
        expected = known[np.ix_(rows[inside[0]], columns[inside[1]])]
        assert np.abs(seen.astype(int) - expected).max() <= 60


def test_turning_asks_for_no_more_of_the_film():
    asked = []

    class Recorded:
        def area(self, box, step_px):
            asked.append((box, step_px))
            return WholePixels(ramp()).area(box, step_px)

    TurnedPixels(Recorded(), 610).area(Box(10, 20, 110, 220), 4.0)
    assert asked == [(Box(390, 10, 590, 110), 4.0)]


def test_an_overview_is_as_large_as_a_locator_needs():
    for shape in ((2140, 1760), (300, 2000), (200, 100)):
        overview = Radiograph(film(shape=shape), WholePixels(np.zeros(shape, np.uint16))).overview
        assert max(overview.pixels.shape) >= min(OVERVIEW_PX, max(shape))


def test_block_means_are_rounded_means():
    values = np.random.default_rng(1).integers(0, 65536, (64, 96)).astype(np.uint16)
    known = values.reshape(16, 4, 24, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(block_means(values, 4), known, atol=0.5)
    signed = (values - 32768).astype(np.int16)
    np.testing.assert_allclose(
        block_means(signed, 4), signed.reshape(16, 4, 24, 4).mean(axis=(1, 3)), atol=0.5
    )


def test_the_largest_block_of_the_largest_values_does_not_overflow():
    step = 1 << MAX_HALVINGS
    assert (block_means(np.full((step, step), 65535, np.uint16), step) == 65535).all()
    assert (block_means(np.full((step, step), -32768, np.int16), step) == -32768).all()
    assert halvings(1e9) == MAX_HALVINGS


def test_a_block_cut_off_at_the_end_is_filled_with_what_is_there():
    values = np.arange(15, dtype=np.uint16).reshape(3, 5)
    np.testing.assert_array_equal(block_means(values, 2)[-1], [11, 13, 14])


@pytest.mark.parametrize("step", [2, 4, 128])
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint16, 4000, 4095),
        (np.uint16, 4000, 4096),
        (np.uint16, 65000, 65535),
        (np.int16, -32768, -32000),
        (np.int16, -9, 32767),
    ],
)
def test_means_of_blocks_are_rounded_and_never_overflow(dtype, low, high, step):
    values = np.random.default_rng(step).integers(low, high + 1, (256, 384)).astype(dtype)
    values[:step, :step] = high
    blocks = values.astype(np.float64).reshape(256 // step, step, 384 // step, step)
    expected = np.floor(blocks.mean(axis=(1, 3)) + 0.5)
    means = block_means(values, step)
    assert means.dtype == dtype
    np.testing.assert_array_equal(means, expected)
