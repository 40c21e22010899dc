"""prepare: the square that the network sees, and the way back from it to the film."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hipedge.errors import Code, Refused
from hipedge.imaging.area import WholePixels
from hipedge.imaging.geometry import crop_box, head_in_box
from hipedge.imaging.prepare import (
    area_means,
    crop_affine,
    prepare,
    prepare_hips,
    resample,
    to_bytes,
)
from hipedge.types import Box, CropGeometry, Hip, Radiograph, Side
from tests.builders import film

SIZE_PX = 64


def radiograph(pixels):
    return Radiograph(film(shape=pixels.shape), WholePixels(np.asarray(pixels, np.uint16)))


def noise(height=400, width=300):
    random = np.random.default_rng(20)
    return random.integers(5_000, 60_000, (height, width)).astype(np.uint16)


def hip(box, side=Side.RIGHT, *, mirrored=False):
    return Hip(side, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2), box, 1.0, mirrored)


def spot(x, y, reach):
    """A film with one bright square around (x, y), in image coordinates: a pixel's centre."""
    pixels = np.zeros((400, 300), np.uint16)
    rows = slice(int(y) - reach, int(y) + reach + 1)
    pixels[rows, int(x) - reach : int(x) + reach + 1] = 60_000
    return radiograph(pixels)


def centre_of_light(sample):
    """The bright spot's centre (x, y) in a sample's coordinates."""
    light = sample.pixels[0].astype(float)
    y, x = np.indices(light.shape) + 0.5
    return np.sum(x * light) / light.sum(), np.sum(y * light) / light.sum()


def test_a_right_hip_is_seen_as_it_lies_on_the_film():
    (sample,) = prepare(radiograph(noise()), hip(Box(10, 20, 210, 220)), SIZE_PX)
    assert sample.pixels.shape == (1, SIZE_PX, SIZE_PX)
    assert sample.pixels.dtype == np.uint8
    assert sample.pixels.flags.c_contiguous


def test_a_mirrored_hip_is_the_plain_one_flipped():
    film, box = radiograph(noise()), Box(10.3, 20.7, 210.3, 220.7)
    (plain,) = prepare(film, hip(box), SIZE_PX)
    (mirrored,) = prepare(film, hip(box, Side.LEFT, mirrored=True), SIZE_PX)
    np.testing.assert_array_equal(mirrored.pixels, plain.pixels[:, :, ::-1])
    assert mirrored.pixels.flags.c_contiguous


def test_a_hip_of_unknown_side_is_seen_both_ways():
    plain, mirrored = prepare(
        radiograph(noise()), hip(Box(10, 20, 210, 220), Side.UNKNOWN), SIZE_PX
    )
    np.testing.assert_array_equal(mirrored.pixels, plain.pixels[:, :, ::-1])
    assert plain.affine[0, 0] > 0 > mirrored.affine[0, 0]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("box", [Box(50, 60, 250, 260), Box(40.4, 31.9, 263.7, 230.2)])
def test_a_landmark_lands_where_the_affine_says(mirrored, box):
    landmark = (141.5, 120.5)
    side = Side.LEFT if mirrored else Side.RIGHT
    (sample,) = prepare(spot(*landmark, 20), hip(box, side, mirrored=mirrored), SIZE_PX)
    on_film = sample.affine @ (*centre_of_light(sample), 1.0)
    np.testing.assert_allclose(on_film, (*landmark, 1.0), atol=0.05)


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_enlarged_landmark_lands_where_the_affine_says(mirrored):
    side = Side.LEFT if mirrored else Side.RIGHT
    box = hip(Box(120.25, 100.5, 160.25, 140.5), side, mirrored=mirrored)
    (sample,) = prepare(spot(141.5, 120.5, 4), box, SIZE_PX)
    on_film = sample.affine @ (*centre_of_light(sample), 1.0)
    np.testing.assert_allclose(on_film[:2], (141.5, 120.5), atol=0.05)


edge = st.floats(-3e3, 3e3)
length = st.floats(1, 3e3)
inside = st.floats(0, SIZE_PX)


@settings(deadline=None)
@given(edge, edge, length, length, inside, inside, st.booleans())
def test_the_affine_goes_to_the_film_and_back(x0, y0, width, height, x, y, mirrored):
    box = Box(x0, y0, x0 + width, y0 + height)
    affine = crop_affine(box, SIZE_PX, mirrored=mirrored)
    on_film = affine @ (x, y, 1.0)
    part = (box.x1 - on_film[0] if mirrored else on_film[0] - box.x0) / box.width
    assert part == pytest.approx(x / SIZE_PX, abs=1e-6)
    assert (on_film[1] - box.y0) / box.height == pytest.approx(y / SIZE_PX, abs=1e-6)
    np.testing.assert_allclose(np.linalg.solve(affine, on_film), (x, y, 1.0), atol=1e-6)


@settings(deadline=None)
@given(edge, edge, st.floats(0.05, 1), st.floats(0.05, 1), st.sampled_from((-1, 0, 1)))
def test_a_box_gives_back_the_head_that_it_was_cut_around(x, y, row_mm, column_mm, lateral):
    geometry = CropGeometry(SIZE_PX, crop_mm=150, lateral_mm=22, distal_mm=17)
    box = crop_box((x, y), (row_mm, column_mm), geometry, lateral=lateral)
    assert head_in_box(box, geometry, lateral=lateral) == pytest.approx((x, y), abs=1e-6)


def covered(start, stop, count):
    """How much of each of `count` pixels lies between `start` and `stop`."""
    pixel = np.arange(count)
    return np.clip(np.minimum(stop, pixel + 1) - np.maximum(start, pixel), 0, 1)


@settings(deadline=None)
@given(st.floats(0, 20), st.floats(65, 250), st.floats(0, 20), st.floats(65, 250))
def test_shrinking_keeps_the_mean(x0, width, y0, height):
    pixels = noise()
    square = resample(pixels, Box(x0, y0, x0 + width, y0 + height), SIZE_PX)
    total = covered(y0, y0 + height, 400) @ pixels @ covered(x0, x0 + width, 300)
    assert float(square.mean(dtype=float)) == pytest.approx(total / (width * height), rel=1e-5)


def test_a_cell_is_the_mean_of_what_it_covers():
    lines = np.array([[10], [20], [40]], np.uint16)
    means = area_means(lines, np.array([0.5, 1.25, 3.0]))
    np.testing.assert_allclose(means[:, 0], [(5 + 5) / 0.75, (15 + 40) / 1.75])


def test_whole_pixels_are_taken_as_they_are():
    pixels = noise()
    square = resample(pixels, Box(30, 40, 30 + SIZE_PX, 40 + SIZE_PX), SIZE_PX)
    np.testing.assert_array_equal(square, pixels[40 : 40 + SIZE_PX, 30 : 30 + SIZE_PX])


def test_what_lies_beyond_the_film_is_black_and_does_not_set_the_contrast():
    pixels = noise()
    box = Box(-100, 40, 100, 240)
    (sample,) = prepare(radiograph(pixels), hip(box), SIZE_PX)
    assert not sample.pixels[0, :, : SIZE_PX // 2].any()
    seen = sample.pixels[0, :, SIZE_PX // 2 :]
    assert (seen == 0).mean() == pytest.approx(0.01, abs=0.01)
    assert (seen == 255).mean() == pytest.approx(0.01, abs=0.01)


def test_contrast_runs_from_the_first_to_the_last_percentile_of_the_crop():
    ramp = np.linspace(1_000, 21_000, SIZE_PX**2, dtype=np.float32).reshape(SIZE_PX, SIZE_PX)
    seen = to_bytes(ramp)
    low, high = np.percentile(ramp, (1, 99))
    expected = np.clip(np.rint((ramp - low) / (high - low) * 255), 0, 255)
    np.testing.assert_allclose(seen, expected, atol=1)
    assert (seen.min(), seen.max()) == (0, 255)


def test_a_flat_crop_has_no_contrast_to_stretch():
    assert not to_bytes(np.full((SIZE_PX, SIZE_PX), 700, np.float32)).any()


def test_unequal_spacing_gives_a_square_of_the_patient():
    geometry = CropGeometry(SIZE_PX, crop_mm=80, lateral_mm=0, distal_mm=0)
    spacing_mm = (0.5, 0.25)
    y_mm, x_mm = (np.indices((400, 800)) + 0.5) * np.array(spacing_mm)[:, None, None]
    disc = np.where(np.hypot(x_mm - 100, y_mm - 100) < 25, 50_000, 1_000)
    box = crop_box((400, 200), spacing_mm, geometry, lateral=-1)
    assert (box.width, box.height) == (320, 160)
    (sample,) = prepare(radiograph(disc), hip(box), SIZE_PX)
    y, x = np.nonzero(sample.pixels[0] > 127)
    assert np.ptp(x) == pytest.approx(np.ptp(y), abs=1)
    assert np.ptp(x) + 1 == pytest.approx(50 / 80 * SIZE_PX, abs=1)


FLUSH = {
    "left": Box(0, 100, 200, 300),
    "right": Box(100, 100, 300, 300),
    "top": Box(50, 0, 250, 200),
    "bottom": Box(50, 200, 250, 400),
    "right, between pixels": Box(150.4, 100.7, 300, 250.3),
    "bottom, between pixels": Box(50.3, 223.1, 227.2, 400),
    "right, enlarged": Box(270.5, 100, 300, 129.5),
    "bottom, enlarged": Box(50, 371.25, 78.75, 400),
}


@pytest.mark.parametrize("box", FLUSH.values(), ids=FLUSH)
def test_a_box_flush_with_the_films_edge_is_filled_to_its_last_cell(box):
    pixels = noise()
    square = resample(pixels, box, SIZE_PX)
    assert not np.isnan(square).any()
    if box.width >= SIZE_PX:
        for row in (0, SIZE_PX - 1):
            for column in (0, SIZE_PX - 1):
                cell = box.width / SIZE_PX
                x, y = box.x0 + column * cell, box.y0 + row * cell
                weights = covered(x, x + cell, 300), covered(y, y + cell, 400)
                mean = weights[1] @ pixels @ weights[0] / (weights[0].sum() * weights[1].sum())
                assert square[row, column] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("beyond_px", [1, 2, 3, 50])
@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_of_a_box_that_reaches_beyond_one_edge_only_the_cells_beyond_are_empty(edge, beyond_px):
    cell, size = 4, 40  # px, cells
    span_px = cell * size
    shift = cell * beyond_px
    x0 = {"left": -shift, "right": 300 - span_px + shift}.get(edge, 60)
    y0 = {"top": -shift, "bottom": 400 - span_px + shift}.get(edge, 80)
    box = Box(x0, y0, x0 + span_px, y0 + span_px)
    if beyond_px >= size:
        with pytest.raises(Refused):
            resample(noise(), box, size)
        return
    empty = np.isnan(resample(noise(), box, size))
    expected = np.zeros_like(empty)
    lines = slice(0, beyond_px) if edge in ("left", "top") else slice(size - beyond_px, size)
    expected[(slice(None), lines) if edge in ("left", "right") else lines] = True
    np.testing.assert_array_equal(empty, expected)


def test_a_cell_that_lies_on_the_film_in_part_is_empty():
    boxes = {  # cells of 4 px, two and a half of them beyond one edge of the film
        "left": Box(-10, 80, 150, 240),
        "right": Box(150, 80, 310, 240),
        "top": Box(60, -10, 220, 150),
        "bottom": Box(60, 250, 220, 410),
    }
    for edge, box in boxes.items():
        lines = slice(0, 3) if edge in ("left", "top") else slice(37, 40)
        beyond = (slice(None), lines) if edge in ("left", "right") else (lines,)
        empty = np.isnan(resample(noise(), box, 40))
        assert empty[beyond].all()
        assert empty.sum() == 3 * 40


def test_both_hips_of_a_film_are_cropped_as_each_alone():
    film, boxes = radiograph(noise(1400, 1200)), [Box(50, 80, 450, 480), Box(700, 100, 1150, 550)]
    hips = [hip(boxes[0]), hip(boxes[1], Side.LEFT, mirrored=True)]
    together = prepare_hips(film, hips, SIZE_PX)
    for samples, each in zip(together, hips, strict=True):
        (alone,) = prepare(film, each, SIZE_PX)
        assert np.abs(samples[0].pixels.astype(int) - alone.pixels).max() <= 2
        np.testing.assert_array_equal(samples[0].affine, alone.affine)


class Recorded(WholePixels):
    """Pixels that note each area that is asked for."""

    def area(self, box, step_px):
        self.asked.append((box, step_px))
        return super().area(box, step_px)


def test_a_film_is_decoded_once_for_all_hips_and_as_finely_as_the_smallest_needs():
    pixels = noise(1400, 1200)
    source = Recorded(pixels)
    object.__setattr__(source, "asked", [])
    film = Radiograph(radiograph(pixels).film, source)
    boxes = Box(60, 80, 444, 464), Box(560, 100, 1200, 740)  # 6 and 10 px a cell
    prepare_hips(film, [hip(box) for box in boxes], SIZE_PX)
    assert source.asked == [(Box(60, 80, 1200, 740), 6.0)]
    source.asked.clear()
    prepare(film, hip(Box(60, 80, 100, 120)), SIZE_PX)
    assert source.asked == [(Box(60, 80, 100, 120), 1.0)]


@pytest.mark.parametrize(
    "box",
    [Box(-300, 0, -100, 200), Box(301, 0, 501, 200), Box(0, 401, 200, 601), Box(0, -250, 200, -1)],
)
def test_a_box_beside_the_film_is_refused(box):
    with pytest.raises(Refused) as refused:
        prepare(radiograph(noise()), hip(box), SIZE_PX)
    assert refused.value.code is Code.HIP_OUTSIDE_IMAGE


def test_a_box_that_meets_the_film_in_less_than_one_cell_is_refused():
    with pytest.raises(Refused):
        prepare(radiograph(noise()), hip(Box(-199, 0, 1, 200)), SIZE_PX)
