"""locate: how many hips, the side and box of each, and the marks of the film."""

import numpy as np
import pytest

from hipedge.errors import Code, Refused
from hipedge.imaging.area import WholePixels
from hipedge.imaging.geometry import (
    HEAD_DISTANCE_MM,
    HEAD_RADIUS_MM,
    crop_box,
    is_mirrored,
)
from hipedge.locate.given import GivenHip
from hipedge.locate.heads import Heads
from hipedge.locate.rules import locate
from hipedge.types import Box, CropGeometry, Laterality, Mark, Radiograph, Side
from tests.builders import film

GEOMETRY = CropGeometry(size_px=224, crop_mm=150, lateral_mm=20, distal_mm=15)
LEFT_HEAD, RIGHT_HEAD = (600.0, 900.0), (1500.0, 920.0)
BOTH = Heads(LEFT_HEAD, RIGHT_HEAD, 900.0, 0.6)
AT_LEFT = Heads(LEFT_HEAD, None, 900.0, 0.4)
AT_RIGHT = Heads(None, RIGHT_HEAD, 900.0, 0.4)
USUAL, FLIPPED, TURNED = ("L", "F"), ("R", "F"), ("F", "L")


def radiograph(**header):
    return Radiograph(film(**header), WholePixels(np.zeros((2140, 1760), np.uint16)))


def located(heads, *given, **header):
    """What `locate` says where the pixels show `heads`, which are in pixels of the film."""
    shown = radiograph(**header)
    found = heads and on_overview(heads, shown.overview)
    return locate(shown, GEOMETRY, given, find=lambda pixels, spacing_mm: found)


def on_overview(heads, overview):
    x0, y0 = overview.origin_px
    left, right = (
        head and ((head[0] - x0) / overview.step_px, (head[1] - y0) / overview.step_px)
        for head in (heads.image_left, heads.image_right)
    )
    return Heads(left, right, heads.distance_px / overview.step_px, heads.likeness)


def sides(result):
    return [hip.side for hip in result.hips]


@pytest.mark.parametrize("orientation", [None, USUAL, ("LH", "FP"), ("", "")])
def test_the_patients_right_is_at_the_images_left(orientation):
    result = located(BOTH, orientation=orientation)
    assert sides(result) == [Side.RIGHT, Side.LEFT]
    assert [hip.centre_px for hip in result.hips] == [LEFT_HEAD, RIGHT_HEAD]
    assert [hip.mirrored for hip in result.hips] == [False, True]
    assert not result.marks


@pytest.mark.parametrize("orientation", [FLIPPED, ("RH", "F")])
def test_on_a_flipped_film_the_right_hip_is_mirrored(orientation):
    result = located(BOTH, orientation=orientation)
    assert sides(result) == [Side.LEFT, Side.RIGHT]
    assert [hip.mirrored for hip in result.hips] == [False, True]


@pytest.mark.parametrize("orientation", [USUAL, FLIPPED])
@pytest.mark.parametrize("side", [Side.RIGHT, Side.LEFT])
def test_the_network_sees_every_hips_lateral_side_at_the_left(side, orientation):
    result = located(BOTH, orientation=orientation)
    (hip,) = (hip for hip in result.hips if hip.side is side)
    # The crop reaches farther to the lateral side, so the head lies off its middle, medially.
    head = (hip.centre_px[0] - hip.box.x0) / hip.box.width
    assert (1 - head if hip.mirrored else head) > 0.5
    assert hip.mirrored == is_mirrored(side, orientation)


@pytest.mark.parametrize(
    ("heads", "laterality"), [(BOTH, None), (AT_LEFT, None), (AT_RIGHT, Laterality.RIGHT)]
)
def test_a_film_turned_on_its_side_leaves_the_sides_open(heads, laterality):
    result = located(heads, orientation=TURNED, laterality=laterality)
    assert set(sides(result)) == {Side.UNKNOWN}
    assert result.marks == {Mark.SIDE_UNCLEAR}


@pytest.mark.parametrize("laterality", [None, Laterality.BOTH, Laterality.UNPAIRED])
def test_a_bilateral_film_needs_no_laterality(laterality):
    assert not located(BOTH, laterality=laterality).marks


@pytest.mark.parametrize("laterality", [Laterality.RIGHT, Laterality.LEFT])
def test_both_hips_are_screened_though_the_header_names_one(laterality):
    result = located(BOTH, laterality=laterality)
    assert sides(result) == [Side.RIGHT, Side.LEFT]
    assert result.marks == {Mark.HEADER_DISAGREES}


@pytest.mark.parametrize(
    ("heads", "laterality", "orientation", "side", "mirrored"),
    [
        (AT_LEFT, Laterality.RIGHT, None, Side.RIGHT, False),
        (AT_RIGHT, Laterality.LEFT, None, Side.LEFT, True),
        (AT_RIGHT, Laterality.RIGHT, FLIPPED, Side.RIGHT, True),
        (AT_LEFT, Laterality.LEFT, FLIPPED, Side.LEFT, False),
    ],
)
def test_a_single_hips_side_is_the_headers(heads, laterality, orientation, side, mirrored):
    result = located(heads, laterality=laterality, orientation=orientation)
    (hip,) = result.hips
    assert (hip.side, hip.mirrored) == (side, mirrored)
    assert not result.marks


@pytest.mark.parametrize("heads", [AT_LEFT, AT_RIGHT])
@pytest.mark.parametrize("laterality", [None, Laterality.UNPAIRED])
def test_a_single_hip_without_a_header_is_of_unknown_side(heads, laterality):
    result = located(heads, laterality=laterality)
    assert sides(result) == [Side.UNKNOWN]
    assert not result.hips[0].mirrored
    assert result.marks == {Mark.SIDE_UNCLEAR}


@pytest.mark.parametrize(
    ("heads", "laterality", "orientation"),
    [
        (AT_LEFT, Laterality.LEFT, None),
        (AT_RIGHT, Laterality.RIGHT, USUAL),
        (AT_LEFT, Laterality.RIGHT, FLIPPED),
    ],
)
def test_where_the_pelvis_lies_on_the_wrong_side_nothing_is_corrected(
    heads, laterality, orientation
):
    result = located(heads, laterality=laterality, orientation=orientation)
    assert sides(result) == [Side.UNKNOWN]
    assert result.marks == {Mark.HEADER_DISAGREES, Mark.SIDE_UNCLEAR}


def test_one_hip_on_a_film_said_to_be_of_both_is_work_for_a_person():
    result = located(AT_LEFT, laterality=Laterality.BOTH)
    assert result.marks == {Mark.ONE_HIP_FOUND, Mark.HEADER_DISAGREES, Mark.SIDE_UNCLEAR}


def test_the_box_follows_the_spacing():
    for hip in located(BOTH, spacing_mm=(0.2, 0.1)).hips:
        assert (hip.box.width, hip.box.height) == pytest.approx((1500, 750))
    right, left = located(BOTH, spacing_mm=(0.2, 0.1)).hips
    assert (right.box.x0 + right.box.x1) / 2 == pytest.approx(LEFT_HEAD[0] - 200)
    assert (left.box.x0 + left.box.x1) / 2 == pytest.approx(RIGHT_HEAD[0] + 200)
    assert (left.box.y0 + left.box.y1) / 2 == pytest.approx(RIGHT_HEAD[1] + 75)


@pytest.mark.parametrize("heads", [BOTH, AT_LEFT])
def test_without_spacing_the_distance_between_the_heads_is_the_ruler(heads):
    for hip in located(heads).hips:
        assert hip.box.width == pytest.approx(150 / HEAD_DISTANCE_MM * 900)
        assert hip.box.height == pytest.approx(hip.box.width)


def test_a_single_hips_box_reaches_to_where_the_pixels_show_its_lateral_side():
    (hip,) = located(AT_RIGHT, spacing_mm=(0.2, 0.2)).hips
    assert hip.side is Side.UNKNOWN
    assert hip.box == crop_box(RIGHT_HEAD, (0.2, 0.2), GEOMETRY, lateral=1)


def test_the_confidence_is_the_likeness():
    assert [hip.confidence for hip in located(BOTH).hips] == [0.6, 0.6]


def test_a_film_without_a_hip_is_refused():
    with pytest.raises(Refused) as refused:
        locate(radiograph(), GEOMETRY)
    assert refused.value.code is Code.NO_HIP_FOUND


def never(pixels, spacing_mm):
    raise AssertionError("the pixels were searched")


def test_a_given_hip_wins_and_no_other_is_sought():
    given = (GivenHip(Side.LEFT, (1000.0, 700.0)),)
    result = locate(radiograph(spacing_mm=(0.2, 0.2)), GEOMETRY, given, find=never)
    (hip,) = result.hips
    assert (hip.side, hip.centre_px, hip.confidence) == (Side.LEFT, (1000.0, 700.0), 1.0)
    assert hip.mirrored
    assert hip.box == crop_box((1000.0, 700.0), (0.2, 0.2), GEOMETRY, lateral=1)
    assert not result.marks


def test_a_given_box_is_what_the_network_sees():
    box = Box(100, 200, 700, 800)
    result = locate(radiograph(), GEOMETRY, (GivenHip(Side.RIGHT, box),), find=never)
    (hip,) = result.hips
    assert hip.box == box
    # 20 mm lateral and 15 mm distal of the head, at 4 pixels a millimetre.
    assert hip.centre_px == pytest.approx((480, 440))


def test_an_oblong_box_is_made_square_on_the_patient():
    film = radiograph(spacing_mm=(0.2, 0.1))
    given = (GivenHip(Side.UNKNOWN, Box(100, 200, 500, 500)),)
    (hip,) = locate(film, GEOMETRY, given, find=never).hips
    assert (hip.box.x0, hip.box.y0, hip.box.x1, hip.box.y1) == pytest.approx((0, 200, 600, 500))


def test_two_given_centres_are_a_ruler():
    given = (GivenHip(Side.RIGHT, (300.0, 400.0)), GivenHip(Side.LEFT, (690.0, 400.0)))
    for hip in locate(radiograph(), GEOMETRY, given, find=never).hips:
        assert hip.box.width == pytest.approx(150 / HEAD_DISTANCE_MM * 390)


def test_one_given_centre_is_measured_by_the_pelvis_on_the_film():
    (hip,) = located(BOTH, GivenHip(Side.RIGHT, (300.0, 400.0))).hips
    assert hip.box.width == pytest.approx(150 / HEAD_DISTANCE_MM * 900)


def test_one_given_centre_without_a_pelvis_is_measured_by_the_films_width_and_marked():
    result = located(None, GivenHip(Side.RIGHT, (300.0, 400.0)))
    box = result.hips[0].box
    assert (box.width, box.height) == pytest.approx((150 / 240 * 1760,) * 2)
    assert result.marks == {Mark.SPACING_DOUBTFUL}
    lying = Radiograph(film(shape=(1760, 2140)), WholePixels(np.zeros((1760, 2140), np.uint16)))
    given = [GivenHip(Side.RIGHT, (300.0, 400.0))]
    (hip,) = locate(lying, GEOMETRY, given, find=lambda *_: None).hips
    assert hip.box.width == pytest.approx(150 / 400 * 2140)


def given_result(*given, find=never, **header):
    return locate(radiograph(**header), GEOMETRY, given, find=find)


def test_a_given_radius_is_a_ruler_and_goes_before_the_distance():
    right = GivenHip(Side.RIGHT, (300.0, 400.0), 56.0)
    left = GivenHip(Side.LEFT, (990.0, 400.0), 84.0)
    for given, radius_px in (((right,), 56.0), ((left,), 84.0), ((right, left), 70.0)):
        result = given_result(*given)
        for hip in result.hips:
            assert hip.box.width == pytest.approx(150 / HEAD_RADIUS_MM * radius_px)
        assert not result.marks


def test_a_box_is_a_ruler_for_the_hip_beside_it_and_goes_before_the_radius():
    box = Box(1000, 200, 1600, 750)
    right = GivenHip(Side.RIGHT, (300.0, 400.0), 56.0)
    beside, boxed = given_result(right, GivenHip(Side.LEFT, box)).hips
    assert beside.box.width == pytest.approx(600)
    assert beside.box.height == pytest.approx(600)
    assert boxed.box == Box(1000, 175, 1600, 775)


def test_given_centres_with_a_spacing_that_fits_them_need_no_other_ruler():
    right = GivenHip(Side.RIGHT, (300.0, 400.0), 140.0)  # 28 mm
    left = GivenHip(Side.LEFT, (1250.0, 400.0))  # 190 mm apart
    result = given_result(right, left, spacing_mm=(0.2, 0.2))
    assert [hip.box.width for hip in result.hips] == pytest.approx([750, 750])
    assert not result.marks


@pytest.mark.parametrize("factor", [0.1, 10.0])
@pytest.mark.parametrize(
    ("given", "side_px"),
    [
        ((GivenHip(Side.RIGHT, (300.0, 400.0), 140.0),), 150 / HEAD_RADIUS_MM * 140),
        (
            (GivenHip(Side.RIGHT, (300.0, 400.0)), GivenHip(Side.LEFT, (1250.0, 400.0))),
            150 / HEAD_DISTANCE_MM * 950,
        ),
    ],
    ids=["radius", "distance"],
)
def test_a_spacing_that_the_marks_contradict_is_replaced_and_marked(given, side_px, factor):
    result = given_result(*given, spacing_mm=(0.2 * factor, 0.2 * factor))
    assert [hip.box.width for hip in result.hips] == pytest.approx([side_px] * len(given))
    assert result.marks == {Mark.SPACING_DOUBTFUL}


def test_a_given_centre_on_a_film_smaller_than_its_crop_is_measured_by_the_pelvis():
    given = GivenHip(Side.RIGHT, (300.0, 400.0))
    assert not given_result(given, spacing_mm=(0.075, 0.075)).marks  # 160 mm high
    result = located(BOTH, given, spacing_mm=(0.07, 0.07))
    assert result.hips[0].box.width == pytest.approx(150 / HEAD_DISTANCE_MM * 900)
    assert result.marks == {Mark.SPACING_DOUBTFUL}


# The heads are 900 px apart.
@pytest.mark.parametrize(
    ("mm", "age_years", "ages", "credible"),
    [
        (0.2, None, None, True),
        (0.02, None, None, False),
        (0.5, None, None, False),
        (0.33, None, None, True),
        (0.34, None, None, False),
        # 90 mm: a child, or an adult on a film that was shrunk to half.
        (0.1, None, None, True),
        (0.1, None, (0.0, 99.0), True),
        (0.1, None, (17.9, 99.0), True),
        (0.1, None, (18.0, 99.0), False),
        (0.1, None, (22.0, 97.0), False),
        (0.1, 5.0, (22.0, 97.0), True),
        (0.1, 17.9, (22.0, 97.0), True),
        (0.1, 18.0, None, False),
        (0.1, 60.0, (0.0, 99.0), False),
        (0.049, 5.0, None, False),
        (0.051, 5.0, None, True),
        (0.121, 60.0, None, False),
        (0.123, 60.0, None, True),
    ],
)
@pytest.mark.parametrize("heads", [BOTH, AT_LEFT], ids=["both", "one"])
def test_a_spacing_that_no_patient_of_the_age_can_have_comes_from_the_heads_and_is_marked(
    heads, mm, age_years, ages, credible
):
    shown = radiograph(spacing_mm=(mm, mm), age_years=age_years)
    found = on_overview(heads, shown.overview)
    result = locate(shown, GEOMETRY, find=lambda *_: found, age_range_years=ages)
    assert (Mark.SPACING_DOUBTFUL not in result.marks) == credible
    for hip in result.hips:
        side_px = 150 / mm if credible else 150 / HEAD_DISTANCE_MM * 900
        assert (hip.box.width, hip.box.height) == pytest.approx((side_px, side_px))


def test_hips_that_a_wrong_spacing_hides_are_found_without_it():
    shown = radiograph(spacing_mm=(0.02, 0.02))

    def find(pixels, spacing_mm):
        return None if spacing_mm else on_overview(BOTH, shown.overview)

    result = locate(shown, GEOMETRY, find=find)
    assert [hip.centre_px for hip in result.hips] == [LEFT_HEAD, RIGHT_HEAD]
    assert result.marks == {Mark.SPACING_DOUBTFUL}


def test_a_given_hip_of_unknown_side_is_marked():
    result = located(BOTH, GivenHip(Side.UNKNOWN, (300.0, 400.0)))
    assert result.marks == {Mark.SIDE_UNCLEAR}


@pytest.mark.parametrize(
    ("laterality", "marks"),
    [
        (Laterality.LEFT, set()),
        (Laterality.RIGHT, {Mark.HEADER_DISAGREES}),
        (Laterality.BOTH, {Mark.HEADER_DISAGREES, Mark.ONE_HIP_FOUND}),
    ],
)
def test_a_given_hip_is_held_against_the_header(laterality, marks):
    result = located(BOTH, GivenHip(Side.LEFT, (300.0, 400.0)), laterality=laterality)
    assert result.marks == marks
    assert sides(result) == [Side.LEFT]
