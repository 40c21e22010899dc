"""What the truth says must be what the pixels show."""

import numpy as np
import pytest

from hipedge.phantom.anatomy import LANDMARKS_MM, Build, landmark_of, pelvis_and_femur
from hipedge.phantom.hip import build_joint
from hipedge.phantom.lesions import centre_edge_deg, draw_lesion
from hipedge.phantom.patient import GRADE_SHARES, draw_identity, draw_leg, draw_person
from hipedge.phantom.relief import with_relief
from hipedge.types import Category, Side
from tests.phantom.conftest import bilateral_seed, film_of

LESIONS = [
    (category, grade)
    for category, grades in GRADE_SHARES.items()
    for grade in grades
    if category is not Category.NORMAL
]
FRACTURES = (Category.FEMORAL_NECK_FRACTURE, Category.INTERTROCHANTERIC_FRACTURE)


def bone_and_metal(film):
    paths = film.patient.paths_mm(film.view)
    hard = [path for name, path in paths.items() if name not in ("muscle", "fat", "lead")]
    return np.sum(hard, axis=0)


@pytest.fixture(scope="module")
def seed():
    return bilateral_seed()


@pytest.fixture(scope="module")
def normal(seed, coarse):
    return coarse(film_of(seed))


@pytest.mark.parametrize(("category", "grade"), LESIONS)
def test_a_lesion_changes_its_own_hip_and_nothing_else(category, grade, seed, normal, coarse):
    film = coarse(film_of(seed, right=(category, grade)))
    changed = np.abs(bone_and_metal(film) - bone_and_metal(normal)) > 0.5
    x, y = film.centre_px(Side.RIGHT)
    columns = np.flatnonzero(changed.any(axis=0))
    rows = np.flatnonzero(changed.any(axis=1))
    assert changed.sum() > 30
    # One pixel is a millimetre on the detector: nothing beyond this hip is touched.
    middle = film.view.project(np.zeros((1, 3)))[0, 0]
    assert columns.max() < middle
    assert columns.min() > x - 130
    assert rows.min() > y - 110
    if category not in FRACTURES and category is not Category.DEVELOPMENTAL_DYSPLASIA:
        assert np.abs(columns - x).min() < 30


@pytest.mark.parametrize("side", [Side.RIGHT, Side.LEFT])
def test_metal_is_on_the_side_that_the_truth_says(side, seed, coarse):
    hip = (Category.TOTAL_HIP_ARTHROPLASTY, "uncemented_total_hip")
    film = coarse(film_of(seed, **{side.value: hip}))
    metal = film.patient.paths_mm(film.view)["titanium"]
    x = (np.arange(metal.shape[1]) + 0.5) @ metal.sum(axis=0) / metal.sum()
    middle = film.view.project(np.zeros((1, 3)))[0, 0]
    # On a frontal film the patient's right is on the image's left.
    assert (x < middle) == (side is Side.RIGHT)
    assert film.hip(side).category is Category.TOTAL_HIP_ARTHROPLASTY


@pytest.mark.parametrize("start", [0, 10, 20])
def test_the_right_hip_lies_left_of_the_left_one(start):
    film = film_of(bilateral_seed(start))
    assert film.centre_px(Side.RIGHT)[0] < film.centre_px(Side.LEFT)[0] - 200


def test_the_centre_is_the_middle_of_the_femoral_head(seed):
    film = film_of(seed)
    for side in film.sides:
        hip = film.hip(side)
        femur = hip.pieces[1].outer
        away = np.linalg.norm(femur.vertices - hip.centre_mm, axis=1)
        on_head = femur.vertices[np.abs(away - np.median(away[away < 26])) < 1.5]
        assert len(on_head) > 500
        assert np.linalg.norm(landmark_of(femur, "head") - hip.centre_mm) < 0.1


def test_one_side_does_not_change_what_the_other_side_is_drawn(seed):
    ill = film_of(seed, right=(Category.OSTEOARTHRITIS, "kl4"))
    well = film_of(seed)
    np.testing.assert_array_equal(
        ill.hip(Side.LEFT).pieces[1].outer.vertices, well.hip(Side.LEFT).pieces[1].outer.vertices
    )
    assert ill.technique == well.technique
    assert ill.view == well.view


def joint_of(category, grade, seed):
    rng = np.random.default_rng(seed)
    person = draw_person(draw_identity(0, rng), rng)
    lesion = draw_lesion(category, grade, rng)
    return (
        person,
        lesion,
        lesion.surfaces(build_joint(person, lesion.shape(person.shape), draw_leg(rng), rng)),
    )


def joint_space_mm(joint):
    """The narrowest space of the half of the socket that bears, above the head's centre."""
    away = joint.hemipelvis.vertices - joint.femur.at("head")
    distance = np.linalg.norm(away, axis=1)
    return distance[away[:, 2] > 0.0].min() - joint.femur.radius_mm


@pytest.mark.parametrize("seed", range(5))
def test_a_normal_head_stands_free_in_its_socket(seed):
    person, _, joint = joint_of(Category.NORMAL, "kl0", seed)
    space = joint_space_mm(joint)
    assert 2.7 <= space <= person.shape.space_mm + 0.1


@pytest.mark.parametrize("seed", range(5))
def test_a_normal_head_is_covered_as_planned(seed):
    person, _, joint = joint_of(Category.NORMAL, "kl0", seed)
    covered = centre_edge_deg(joint.hemipelvis, joint.centre, joint.femur.at("head"))
    assert covered == pytest.approx(person.shape.centre_edge_deg, abs=2.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("grade", "low", "high"), [("kl2", 2.0, 3.0), ("kl3", 0.8, 2.0), ("kl4", 0.0, 0.8)]
)
def test_an_arthritic_joint_is_as_narrow_as_its_grade_says(grade, low, high, seed):
    _, lesion, joint = joint_of(Category.OSTEOARTHRITIS, grade, seed)
    assert low <= lesion.narrowest_mm <= high
    assert joint_space_mm(joint) == pytest.approx(max(lesion.narrowest_mm, 0.2), abs=1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_contained_dysplastic_head_is_too_little_covered(seed):
    _, lesion, joint = joint_of(Category.DEVELOPMENTAL_DYSPLASIA, "crowe1_contained", seed)
    covered = centre_edge_deg(joint.hemipelvis, joint.centre, joint.femur.at("head"))
    assert lesion.centre_edge_deg < 20
    assert covered < 23


def test_two_fifths_of_each_abnormal_category_are_mild():
    for category, shares in GRADE_SHARES.items():
        assert sum(shares.values()) == pytest.approx(1.0)
        if category is not Category.NORMAL:
            assert sum(list(shares.values())[:2]) >= 0.4


def test_the_grades_are_those_of_the_page_on_categories(pytestconfig):
    page = (pytestconfig.rootpath / "docs/categories.md").read_text(encoding="utf-8")
    for category, shares in GRADE_SHARES.items():
        assert f"`{category.value}`" in page
        for grade in shares:
            assert f"`{grade}`" in page


def test_a_film_that_ends_at_a_hip_still_shows_the_heads(monkeypatch):
    monkeypatch.setattr("hipedge.phantom.film.CUT_SHARE", 1.0)
    for start in range(6):
        film = film_of(start)
        box = film.shutter_px
        for side in film.sides:
            x, y = film.centre_px(side)
            assert box.x0 + 30 < x < box.x1 - 30
            assert box.y0 + 30 < y < box.y1 - 30


def test_relief_changes_the_trochanters_but_neither_head_nor_landmarks():
    _, femur = pelvis_and_femur(Build((0.0,) * 10, 1.0))
    rough = with_relief(femur, np.random.default_rng(0))
    moved = np.linalg.norm(rough.mesh.vertices - femur.mesh.vertices, axis=1)
    on_head = np.linalg.norm(femur.mesh.vertices - femur.at("head"), axis=1) < 27.0
    assert moved[on_head].max() == 0.0
    assert moved.max() > 2.0
    for landmark in LANDMARKS_MM:
        np.testing.assert_array_equal(rough.at(landmark), femur.at(landmark))
