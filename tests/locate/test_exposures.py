"""Pictures of several exposures and long films: every hip is found, or the film is marked.

The pictures are joined from films of the drawn pelvis, and from real ones; they are searched with
the locator of the reference model.
"""

import numpy as np
import pytest
from PIL import Image

from hipedge.dicom.read import read
from hipedge.imaging.area import CroppedPixels, WholePixels
from hipedge.locate.exposures import parts_of, search
from hipedge.locate.given import GivenHips
from hipedge.locate.heads import Heads
from hipedge.locate.rules import locate
from hipedge.locate.upright import quarter_turns
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.types import Box, CropGeometry, Mark, Radiograph, Side
from tests.builders import film

GEOMETRY = CropGeometry(size_px=64, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)


def radiograph(pixels):
    return Radiograph(film(shape=pixels.shape), WholePixels(pixels))


def texture(height, width, seed=0):
    """A film that shows something everywhere."""
    return np.random.default_rng(seed).integers(5_000, 60_000, (height, width)).astype(np.uint16)


def blank(height, width, value=0):
    return np.full((height, width), value, np.uint16)


def corners(parts):
    return [pytest.approx((p.x0, p.y0, p.x1, p.y1), abs=8) for p in parts]


def parts(pixels):
    return [(p.x0, p.y0, p.x1, p.y1) for p in parts_of(radiograph(pixels))]


@pytest.mark.parametrize("shape", [(400, 400), (400, 610), (610, 400), (50, 60), (1, 1)])
def test_an_ordinary_film_is_searched_as_a_whole(shape):
    assert parts(texture(*shape)) == []


@pytest.mark.parametrize("value", [0, 30_000, 65_535])
def test_exposures_with_a_blank_band_between_them_are_parts(value):
    side_by_side = np.hstack([texture(400, 300), blank(400, 20, value), texture(400, 290)])
    assert parts(side_by_side) == corners([Box(0, 0, 300, 400), Box(320, 0, 610, 400)])
    stacked = np.vstack([texture(200, 300), blank(20, 300, value), texture(230, 300)])
    assert parts(stacked) == corners([Box(0, 0, 300, 200), Box(0, 220, 300, 450)])


def test_three_exposures_are_three_parts():
    band = blank(400, 20)
    picture = np.hstack([texture(400, 280), band, texture(400, 290), band, texture(400, 290)])
    assert len(parts(picture)) == 3


def test_collimated_borders_and_labels_are_no_exposures():
    bordered = np.pad(texture(400, 300), 50)
    assert parts(bordered) == []
    label = np.hstack([texture(400, 40), blank(400, 60), texture(400, 300)])
    assert parts(label) == []


def test_a_blank_picture_has_no_parts():
    assert parts(blank(400, 300)) == []


@pytest.mark.parametrize("length", [1000, 1240])
def test_of_an_elongated_picture_both_halves_are_parts(length):
    half = length / 2
    assert parts(texture(length, 640))[:2] == [(0, 0, 640, half), (0, half, 640, length)]
    assert parts(texture(640, length))[:2] == [(0, 0, half, 640), (half, 0, length, 640)]


def test_a_long_film_is_covered_by_overlapping_squares():
    halves, squares = parts(texture(1500, 500))[:2], parts(texture(1500, 500))[2:]
    assert len(halves) == 2
    assert squares[0] == (0, 0, 500, 500)
    assert squares[-1] == (0, 1000, 500, 1500)
    starts = [y0 for _, y0, _, _ in squares]
    assert max(np.diff(starts)) <= 250


def spots(radiograph):
    """A locator of bright spots: one or two, at any place, as far apart as half the film's side."""
    pixels = radiograph.overview.pixels
    rows, columns = np.nonzero(pixels == 65_535)
    if not len(columns):
        return None
    area = radiograph.overview
    middle = pixels.shape[1] / 2
    found = []
    for side in (columns < middle, columns >= middle):
        if side.any():
            found.append(area.on_film((columns[side].mean() + 0.5, rows[side].mean() + 0.5)))
        else:
            found.append(None)
    left, right = found
    apart = right[0] - left[0] if left and right else min(radiograph.film.shape) / 2
    return Heads(left, right, apart, 0.9)


def with_heads(*centres, height=400, width=400):
    pixels = texture(height, width)
    for x, y in centres:
        pixels[y - 6 : y + 6, x - 6 : x + 6] = 65_535
    return pixels


def points(found):
    heads = [head for pair in found.heads for head in (pair.image_left, pair.image_right) if head]
    return sorted((round(x), round(y)) for x, y in heads)


def test_both_films_of_a_picture_are_found_and_it_is_marked():
    pair = with_heads((100, 200), (300, 200))
    picture = np.vstack([pair, blank(30, 400), with_heads((120, 180), (320, 180))])
    found = search(radiograph(picture), spots)
    assert len(found.heads) == 2
    assert len(points(found)) == 4
    assert (
        np.abs(np.subtract(points(found), [(100, 200), (120, 610), (300, 200), (320, 610)])).max()
        < 6
    )
    assert not found.complete


def test_hips_of_one_exposure_beside_another_body_part_are_all_that_is_there():
    picture = np.hstack([with_heads((100, 200), (300, 200)), blank(400, 30), texture(400, 200)])
    whole = radiograph(picture)

    def find(part):
        return None if part is whole else spots(part)

    found = search(whole, find)
    assert len(points(found)) == 2
    assert found.complete


def test_one_hip_of_one_exposure_may_not_be_all():
    picture = np.hstack([with_heads((100, 200)), blank(400, 30), texture(400, 200)])
    whole = radiograph(picture)
    assert not search(whole, lambda part: None if part is whole else spots(part)).complete


def halves(picture, left, right):
    """A locator that sees both heads in a picture, and in its halves what it is told."""
    pair = Heads((200.0, 200.0), (500.0, 200.0), 300.0, 0.9)
    answers = iter([pair, left, right])
    return search(picture, lambda part: next(answers)), pair


@pytest.mark.parametrize(("half_px", "complete"), [(200.0, False), (270.0, True), (600.0, True)])
def test_a_half_of_a_pelvis_may_show_its_size_badly(half_px, complete):
    left = Heads((205.0, 195.0), None, 300.0, 0.9)
    right = Heads(None, (145.0, 205.0), half_px, 0.9)  # in the right half, which begins at 350
    found, pair = halves(radiograph(texture(400, 700)), left, right)
    assert found.complete is complete
    assert (found.heads == (pair,)) is complete


def test_two_films_of_a_left_hip_are_not_one_pelvis():
    left = Heads(None, (205.0, 195.0), 300.0, 0.9)
    right = Heads(None, (145.0, 205.0), 300.0, 0.9)
    found, _ = halves(radiograph(texture(400, 700)), left, right)
    assert len(found.heads) == 2
    assert not found.complete


def test_halves_that_are_two_films_of_one_hip_are_not_one_pelvis():
    picture = with_heads((200, 200), (500, 200), height=400, width=700)
    found = search(radiograph(picture), spots)  # a half says 175 px, the whole 300
    assert [round(heads.distance_px) for heads in found.heads] == [175, 175]
    assert not found.complete


def test_a_picture_in_whose_parts_nothing_is_found_counts_as_a_whole():
    whole = radiograph(texture(400, 700))
    heads = Heads((1.0, 2.0), None, 30.0, 0.9)
    found = search(whole, lambda part: heads if part is whole else None)
    assert found.heads == (heads,)
    assert not found.complete
    assert search(whole, lambda part: None).heads == ()


def test_a_hip_that_two_windows_see_is_found_once():
    found = search(radiograph(with_heads((150, 260), height=1400)), spots)
    assert len(points(found)) == 1


def test_found_exposures_are_in_reading_order():
    band = blank(30, 400)
    pair = with_heads((100, 200), (300, 200))
    found = search(radiograph(np.vstack([pair, band, pair, band, pair])), spots)
    tops = [heads.image_left[1] for heads in found.heads]
    assert tops == sorted(tops)
    assert len(tops) == 3


def test_a_picture_of_several_parts_is_turned_only_where_all_agree():
    pair = np.hstack([texture(400, 300, 1), blank(400, 20), texture(400, 300, 2)])
    answers = iter([2, 2, 2, 1, 3])
    assert quarter_turns(radiograph(pair), lambda *_: next(answers)) == 2
    assert quarter_turns(radiograph(pair), lambda *_: next(answers)) == 0
    assert quarter_turns(radiograph(texture(400, 300)), lambda *_: next(answers)) == 3


def test_a_cropped_film_has_the_pixels_of_its_part():
    pixels = texture(90, 120)
    part = CroppedPixels(WholePixels(pixels), (30, 20), (40, 50))
    np.testing.assert_array_equal(part.whole(), pixels[20:60, 30:80])
    area = part.area(Box(10, 5, 20, 15), 1.0)
    x, y = area.on_film((0, 0))
    height, width = area.pixels.shape
    top, left = round(20 + y), round(30 + x)
    np.testing.assert_array_equal(area.pixels, pixels[top : top + height, left : left + width])


def test_locate_marks_what_may_be_missing_and_gives_each_exposure_its_sides():
    pair = with_heads((100, 200), (300, 200))
    picture = radiograph(np.vstack([pair, blank(30, 400), pair]))

    def find(pixels, spacing_mm):
        return spots(radiograph(pixels))

    result = locate(picture, GEOMETRY, find=find)
    assert [hip.side for hip in result.hips] == [Side.RIGHT, Side.LEFT] * 2
    assert result.marks == {Mark.HIPS_MAY_BE_MISSING}


@pytest.fixture
def screened(tmp_path, reference_model):
    """Preprocess a picture as `hipedge screen` does, with the reference model's locator."""
    preprocess = Preprocessor(
        reference_model.card.input, GivenHips(), frozenset(), reference_model.locator
    )

    def screened(pixels):
        path = tmp_path / "picture.png"
        Image.fromarray((pixels >> 8).astype(np.uint8)).save(path)
        prepared = preprocess(path)
        assert isinstance(prepared, Prepared)
        return [hip for hip, _ in prepared.hips], prepared.marks

    return screened


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("gap", [0, 40])
def test_both_of_two_real_films_in_a_picture_are_found_and_marked(shared_data, screened, axis, gap):
    hip = read(shared_data / "wg04" / "RG2_UNC.dcm").pixels
    height, width = hip.shape
    band = blank(gap, width) if axis == 0 else blank(height, gap)
    hips, marks = screened(np.concatenate([hip, band, hip], axis))
    assert Mark.HIPS_MAY_BE_MISSING in marks
    first = np.array((903.0, 865.0))
    second = first + ((0, height + gap) if axis == 0 else (width + gap, 0))
    for centre in (first, second):
        distance = min(float(np.hypot(*np.subtract(found.centre_px, centre))) for found in hips)
        assert distance < 0.04 * height


@pytest.mark.parametrize("name", ["IMG0000366.jpg", "IMG0001900.jpg"])
def test_the_hips_of_a_real_film_that_goes_on_to_the_feet_are_found(shared_data, screened, name):
    (path,) = (shared_data / "fracatlas").rglob(name)
    pelvis = read(path).pixels
    alone, marks = screened(pelvis)
    assert len(alone) == 2
    assert Mark.HIPS_MAY_BE_MISSING not in marks
    height, width = pelvis.shape
    below = pelvis[-1:] * np.linspace(1.0, 0.3, 2 * height)[:, None]
    hips, marks = screened(np.vstack([pelvis, below.astype(np.uint16)]))
    for hip in alone:
        assert any(np.hypot(*np.subtract(hip.centre_px, found.centre_px)) < 0.05 * width
                   for found in hips)  # fmt: skip
