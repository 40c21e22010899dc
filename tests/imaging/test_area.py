"""Areas of a film: what is asked for, no coarser than asked, and exactly where it lies."""

import numpy as np
import pytest

from hipedge.imaging.area import MAX_HALVINGS, Bands, TurnedPixels, WholePixels, halvings
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

    Without those at the film's lower and right end, where the filter mirrors it.
    """
    x, y = centres(area)
    expected = 10_000 + 40 * x + 60 * y[:, None]
    return np.abs(area.pixels.astype(float) - expected)[:-3, :-3]


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


def low_pass(lines):
    """Filter lines (N, M) along the columns by the lifting steps of T.800 F.4.8.1."""
    lines, last = np.asarray(lines, int), len(lines) - 1
    if not last:
        return lines

    def mirrored(index):
        return lines[last - abs(last - abs(index))]

    def high(index):
        index = last - abs(last - abs(index))
        return lines[index] - (mirrored(index - 1) + mirrored(index + 1)) // 2

    return np.array(
        [lines[i] + (high(i - 1) + high(i + 1) + 2) // 4 for i in range(0, len(lines), 2)]
    )


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 2), (64, 65), (257, 130), (131, 402), (517, 33)]
)
@pytest.mark.parametrize(("least", "greatest"), [(0, 4095), (0, 65535), (-2048, 2047), (-9, 9999)])
def test_a_band_is_what_jpeg_2000_stores_at_a_lower_resolution(shape, least, greatest):
    values = np.random.default_rng(1).integers(least, greatest + 1, shape)
    values = values.astype(np.int16 if least < 0 else np.uint16)
    values.flags.writeable = False
    expected = values
    for count in (1, 2, 3):
        expected = low_pass(low_pass(expected).T).T
        for within in (None, (least, greatest)):
            np.testing.assert_array_equal(Bands(values, within).whole(count), expected)


def test_a_part_of_a_band_has_a_value_for_each_multiple_within_it():
    bands = Bands(np.random.default_rng(2).integers(0, 65536, (257, 130)).astype(np.uint16))
    part = bands.part(2, slice(64, 129), slice(8, 130))
    np.testing.assert_array_equal(part, bands.whole(2)[16:33, 2:33])
    np.testing.assert_array_equal(bands.part(0, slice(3, 9), slice(5, 6)), bands.whole(0)[3:9, 5:6])


@pytest.mark.parametrize("shape", [(300, 257), (131, 402)])
@pytest.mark.parametrize("most", [1, 4095, 10_900])
def test_a_film_has_the_band_of_one_whose_sums_need_32_bits(shape, most):
    """Brightened by 20000, a film has the same band, so much brighter."""
    rng = np.random.default_rng(most)
    for values in (rng.integers(0, most + 1, shape), rng.integers(0, 2, shape) * most):
        dark, bright = (
            Bands(added.astype(np.uint16)).whole(3) for added in (values, values + 20_000)
        )
        np.testing.assert_array_equal(dark.astype(int) + 20_000, bright)


@pytest.mark.parametrize("value", [0, 4095, 65535, -32768, 32767])
def test_a_film_of_one_value_keeps_it_at_every_resolution(value):
    dtype = np.int16 if value in (-32768, 32767) else np.uint16
    values = np.full((300, 257), value, dtype)
    bands = Bands(values)
    for count in range(MAX_HALVINGS + 1):
        assert (bands.whole(count) == value).all()
    assert halvings(1e9) == MAX_HALVINGS


def test_what_the_filter_overshoots_is_limited_to_the_range_of_pixels():
    pixels = np.where(np.indices((256, 256)).sum(0) // 4 % 2, 65535, 0).astype(np.uint16)
    band = Bands(pixels).whole(1)
    assert band.min() < 0
    assert band.max() > 65535
    area = WholePixels(pixels).area(Box(0, 0, 256, 256), 4.0)
    np.testing.assert_array_equal(area.pixels, np.clip(band, 0, 65535))
