from dataclasses import replace

import numpy as np
import pytest

from hipedge.imaging.area import WholePixels
from hipedge.imaging.geometry import is_turned
from hipedge.locate.heads import Heads
from hipedge.locate.learned import (
    HEAT_PX,
    THUMBNAIL_PX,
    LearnedLocator,
    LocatorScores,
    both_looks,
    make_thumbnail,
    peak,
    read_turns,
)
from hipedge.locate.rules import locate
from hipedge.locate.upright import turn_upright, turned_orientation
from hipedge.types import CropGeometry, Film, Mark, Radiograph, Side

GEOMETRY = CropGeometry(size_px=64, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)


def scores(left=None, right=None, turns=0, log_distance=-0.7, hip=None):
    """What a network would say of heads at these cells (x, y) of the heat map.

    `hip` is its logit that the thumbnail shows a hip, None for a network without that output.
    """
    heat = np.full((2, HEAT_PX, HEAT_PX), -9.0, np.float32)
    for one, head in zip(heat, (left, right), strict=True):
        if head is not None:
            one[head[1], head[0]] = 9.0
    present = np.array([-5.0 if head is None else 5.0 for head in (left, right)], np.float32)
    turned = 9.0 * np.eye(4, dtype=np.float32)[turns]
    return LocatorScores(heat, present, turned, log_distance, hip)


def film(pixels, path, **values):
    return Radiograph(Film(path, "s", "p", pixels.shape, **values), WholePixels(pixels))


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (37, 500), (2140, 1760)])
def test_a_thumbnail_shows_the_whole_film_centred(shape):
    pixels = np.full(shape, 1000, np.uint16)
    pixels[shape[0] // 2 :] = 60000
    thumbnail = make_thumbnail(pixels)
    shown = np.argwhere(thumbnail.pixels > 0)
    height, width = shape
    assert thumbnail.pixels.shape == (256, 256)
    assert thumbnail.from_film((width / 2, height / 2)) == pytest.approx((128, 128), abs=1.0)
    assert np.ptp(shown[:, 1]) + 1 == pytest.approx(256 * width / max(shape), abs=2)
    corner = thumbnail.on_film(thumbnail.from_film((12.5, 7.25)))
    assert corner == pytest.approx((12.5, 7.25))


def test_a_thumbnail_has_square_pixels_on_the_patient():
    thumbnail = make_thumbnail(np.ones((200, 200), np.uint16), (0.5, 0.25))
    assert thumbnail.step_px[0] * 0.25 == pytest.approx(thumbnail.step_px[1] * 0.5)


def test_the_parts_of_a_picture_are_scored_once():
    rng = np.random.default_rng(0)
    shown = []

    def score(thumbnail):
        shown.append(thumbnail.tobytes())
        return scores((16, 32), (48, 32))

    find = LearnedLocator(score)
    whole = rng.integers(0, 60_000, (400, 700)).astype(np.uint16)
    parts = [whole[:, :350], whole[:, 350:]]
    assert [find.quarter_turns(part) for part in parts] == [0, 0]
    for pixels in (whole, *parts):
        find(pixels)
    assert len(shown) == len(set(shown)) == 3


def test_heads_are_read_in_pixels_of_the_film():
    find = LearnedLocator(lambda _: scores((16, 32), (48, 32)))
    heads = find(np.ones((1024, 1024), np.uint16), None)
    assert heads.image_left == pytest.approx((16.5 * 16, 32.5 * 16))
    assert heads.image_right == pytest.approx((48.5 * 16, 32.5 * 16))
    assert heads.distance_px == pytest.approx(32 * 16)
    assert heads.likeness == pytest.approx(1 / (1 + np.exp(-5)))


def test_a_single_head_brings_the_ruler_that_the_network_gives():
    find = LearnedLocator(lambda _: scores(None, (20, 20), log_distance=np.log(0.4)))
    heads = find(np.ones((512, 512), np.uint16), None)
    assert heads.image_left is None
    assert heads.distance_px == pytest.approx(0.4 * 512)


def test_no_head_is_none():
    assert LearnedLocator(lambda _: scores())(np.ones((99, 99), np.uint16), None) is None


@pytest.mark.parametrize(("sure", "count"), [(5.0, 2), (-0.1, 0)])
def test_a_hip_that_is_hardly_seen_counts_beside_one_that_is_surely_there(sure, count):
    answer = scores((16, 32), (48, 32))
    answer.present[:] = sure, -0.5
    heads = LearnedLocator(lambda _: answer)(np.ones((99, 99), np.uint16), None)
    seen = [heads.image_left, heads.image_right] if heads else []
    assert len(seen) - seen.count(None) == count


def looking_twice(first, second, shape=(512, 512)):
    """The heads that two answers give, and the thumbnails that were looked at."""
    thumbnails, answers = [], iter((first, second))

    def score(thumbnail):
        thumbnails.append(thumbnail)
        return next(answers)

    rows = np.linspace(1000, 60000, shape[0])[:, None]
    film = (rows + np.linspace(0, 5000, shape[1])).astype(np.uint16)
    return LearnedLocator(score)(film, None), thumbnails, film


def test_the_second_look_is_closer_about_the_heads_and_places_them():
    first = scores((20, 32), (44, 32), hip=5.0)
    heads, thumbnails, film = looking_twice(first, scores((14, 32), (50, 32), hip=5.0))
    # 24 cells of 64 are 192 pixels of the film: the second look is 2.2 times as wide, about (260,
    # 260), so that its 36 cells are 237 pixels.
    distance = 36 / 64 * (2.2 * 192)
    assert heads.distance_px == pytest.approx(distance, abs=4)
    assert heads.image_left == pytest.approx((260 - distance / 2, 260), abs=4)
    around = film[48:472, 48:472]
    np.testing.assert_array_equal(thumbnails[1], make_thumbnail(around).pixels)


@pytest.mark.parametrize(
    ("first", "second", "is_hip"), [(3.0, 3.0, True), (3.0, -2.0, True), (3.0, -4.0, False)]
)
def test_both_looks_decide_whether_there_is_a_hip(first, second, is_hip):
    heads, _, _ = looking_twice(
        scores((20, 32), (44, 32), hip=first), scores((20, 32), (44, 32), hip=second)
    )
    assert (heads is not None) == is_hip


def test_a_second_hip_that_the_second_look_does_not_see_is_none():
    first, second = scores((20, 32), (44, 32), hip=5.0), scores((20, 32), None, hip=5.0)
    first.present[1] = 6.0
    heads, _, _ = looking_twice(first, second)
    assert heads.image_left is not None
    assert heads.image_right is None


def test_a_head_that_is_hardly_seen_at_first_is_looked_at_again():
    first, second = scores((16, 32), hip=1.0), scores((32, 32), hip=3.0)
    first.present[0] = -1.0
    heads, thumbnails, _ = looking_twice(first, second)
    assert heads is not None
    assert len(thumbnails) == 2


def test_heads_at_the_edge_of_a_film_are_looked_at_on_the_film():
    first = scores((0, 0), hip=5.0, log_distance=0.0)
    heads, thumbnails, film = looking_twice(first, scores((32, 32), hip=5.0))
    assert thumbnails[1].shape == (256, 256)
    assert 0 <= heads.image_left[0] < film.shape[1]


@pytest.mark.parametrize(
    ("left", "right", "seen"),
    [(0, 40, (False, True)), (2, 40, (True, True)), (20, 63, (True, False)), (0, 63, (True, True))],
)
def test_of_two_heads_one_that_the_edge_of_the_film_cuts_off_does_not_count(left, right, seen):
    film = make_thumbnail(np.ones((256, 256), np.uint16))
    look = scores((left, 32), (right, 32), hip=5.0)
    heads = both_looks(look, film, look, film)
    assert (heads.image_left is not None, heads.image_right is not None) == seen
    assert heads.distance_px == pytest.approx(4 * (right - left))


def test_a_network_of_older_hipedge_looks_once():
    heads, thumbnails, _ = looking_twice(scores((16, 32), (48, 32)), None)
    assert heads is not None
    assert len(thumbnails) == 1


def test_a_peak_between_cells_is_found_between_them():
    heat = np.full((HEAT_PX, HEAT_PX), -20.0, np.float32)
    heat[10, 30] = heat[10, 31] = 1.0
    assert peak(heat) == pytest.approx((31 * THUMBNAIL_PX / HEAT_PX, 42.0), abs=1e-3)


@pytest.mark.parametrize("turns", range(4))
def test_four_answers_that_agree_say_how_a_film_is_turned(turns):
    assert read_turns([scores(turns=(turns - j) % 4) for j in range(4)]) == turns


def test_answers_that_contradict_one_another_turn_nothing():
    assert read_turns([scores(turns=2) for _ in range(4)]) == 0


def logits(*probabilities):
    return replace(scores(), turns=np.log(np.array(probabilities, np.float32)))


SURE_OF = {turns: scores(turns=turns) for turns in range(4)}
DOUBTFUL = logits(0.25, 0.25, 0.25, 0.25)
DISAGREES = logits(0.02, 0.96, 0.01, 0.01)


@pytest.mark.parametrize(
    ("answers", "turns", "looks"),
    [
        ((SURE_OF[0],), 0, 1),
        ((SURE_OF[2], SURE_OF[1]), 2, 2),
        ((DOUBTFUL, SURE_OF[3], SURE_OF[2]), 0, 2),
        ((DOUBTFUL, DOUBTFUL, DOUBTFUL, DOUBTFUL), 0, 4),
        ((DISAGREES, DISAGREES, DISAGREES, DISAGREES), 0, 4),
    ],
    ids=["upright", "turned", "upright at a second look", "doubtful", "contradictory"],
)
def test_a_film_is_looked_at_until_its_turns_are_sure(answers, turns, looks):
    left = iter(answers)
    asked = []

    def score(thumbnail):
        asked.append(thumbnail)
        return next(left)

    # Each quarter of the film is of another brightness, so that no two thumbnails are the same.
    film = np.kron(np.array([[1, 2], [3, 4]]), np.full((30, 30), 1000)).astype(np.uint16)
    assert LearnedLocator(score).quarter_turns(film) == turns
    assert len(asked) == looks


def picture_and_score(upright):
    """A network that knows one film: it compares the thumbnail with each turn of it."""
    known = make_thumbnail(upright).pixels.astype(int)

    def score(thumbnail):
        errors = [np.abs(np.rot90(thumbnail, k) - known).sum() for k in range(4)]
        return scores((16, 32), (48, 32), turns=int(np.argmin(errors)))

    return LearnedLocator(score)


@pytest.mark.parametrize("turns", range(4))
def test_a_turned_film_comes_upright_to_the_bit(turns, tmp_path):
    upright = np.random.default_rng(0).integers(0, 65535, (90, 60)).astype(np.uint16)
    turned = film(np.rot90(upright, -turns).copy(), tmp_path)
    locator = picture_and_score(upright)
    again = turn_upright(turned, locator.quarter_turns(turned.pixels))
    np.testing.assert_array_equal(again.pixels, upright)
    assert again.film.shape == (90, 60)
    names = {0: set(), 1: {Mark.TURNED_90}, 2: {Mark.TURNED_180}, 3: {Mark.TURNED_270}}
    assert again.film.marks == names[turns]


def test_spacing_turns_with_the_film(tmp_path):
    lying = film(np.zeros((60, 90), np.uint16), tmp_path, spacing_mm=(0.2, 0.3))
    assert turn_upright(lying, 1).film.spacing_mm == (0.3, 0.2)
    assert turn_upright(lying, 2).film.spacing_mm == (0.2, 0.3)


@pytest.mark.parametrize(
    ("turns", "orientation"),
    [(0, ("L", "F")), (1, ("F", "R")), (2, ("R", "H")), (3, ("H", "L"))],
)
def test_orientation_turns_with_the_film(turns, orientation):
    """As seen on paper: lay a film with L at the right and F below on its side, and read."""
    assert turned_orientation(("L", "F"), turns) == orientation
    assert turned_orientation(orientation, -turns) == ("L", "F")


def located(radiograph, turns):
    heads = Heads((20.0, 40.0), (70.0, 40.0), 50.0, 1.0)
    turned = turn_upright(radiograph, turns)
    found = locate(turned, GEOMETRY, find=lambda *_: heads)
    return turned.film.marks | found.marks, [hip.side for hip in found.hips]


def test_where_the_header_says_it_too_the_sides_are_known(tmp_path):
    lying = film(np.zeros((90, 90), np.uint16), tmp_path, orientation=("H", "L"))
    marks, sides = located(lying, 1)
    assert marks == {Mark.TURNED_90}
    assert sides == [Side.RIGHT, Side.LEFT]


@pytest.mark.parametrize(
    ("orientation", "turns"), [(("L", "F"), 1), (("L", "F"), 2), (("F", "R"), 0)]
)
def test_where_the_header_says_otherwise_it_is_marked_and_the_sides_are_unclear(
    tmp_path, orientation, turns
):
    radiograph = film(np.zeros((90, 90), np.uint16), tmp_path, orientation=orientation)
    marks, sides = located(radiograph, turns)
    assert {Mark.HEADER_DISAGREES, Mark.SIDE_UNCLEAR} <= marks
    assert sides == [Side.UNKNOWN, Side.UNKNOWN]


def test_without_a_header_a_turned_film_has_the_usual_sides(tmp_path):
    marks, sides = located(film(np.zeros((90, 90), np.uint16), tmp_path), 3)
    assert marks == {Mark.TURNED_270}
    assert sides == [Side.RIGHT, Side.LEFT]


def test_upside_down_by_the_header_is_turned():
    assert is_turned(("R", "H"))
    assert not is_turned(("L", "F"))
    assert not is_turned(None)
