"""Samples: all categories and grades, masks, seeds, and backgrounds that must not be used."""

import pickle

import numpy as np
import pytest

from hipedge.errors import InputError
from hipedge.insertion import AgeClass, DrawInserted, prepare_backgrounds, read_manifest
from hipedge.insertion.generate import draw
from hipedge.insertion.hip import distance_from
from hipedge.insertion.lesions import insert_lesion
from hipedge.insertion.lesions.femur import Fragment, femur_layer, moved_layer, shifted_femur
from hipedge.phantom.patient import GRADE_SHARES
from hipedge.types import CATEGORIES, Category, CropGeometry
from tests.insertion.conftest import write_film, write_manifest

GEOMETRY = CropGeometry(size_px=96, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
GRADES = [(category, grade) for category in Category for grade in GRADE_SHARES[category]]


@pytest.fixture
def samples(simulated):
    return DrawInserted(simulated, GEOMETRY)


@pytest.fixture
def hip(simulated):
    return simulated.hip(0)


@pytest.mark.parametrize(("category", "grade"), GRADES)
def test_every_grade_is_inserted_and_masked(samples, category, grade):
    sample = samples.sample(3, category=category, grade=grade)
    assert sample.pixels.shape == sample.mask.shape == (1, 96, 96)
    assert (sample.pixels.dtype, sample.mask.dtype) == (np.uint8, bool)
    assert (sample.category, sample.grade) == (category, grade)
    assert sample.pixels.std() > 20
    assert sample.mask.any() == (category is not Category.NORMAL)
    assert sample.mask.mean() < 0.6


@pytest.mark.parametrize(("category", "grade"), GRADES)
def test_a_lesion_changes_the_hip_and_a_plain_normal_one_does_not(hip, rng, category, grade):
    changed = insert_lesion(hip, hip.canvas.pixels, category, grade, rng).pixels
    difference = np.abs(changed - hip.canvas.pixels)
    assert np.isfinite(changed).all()
    if (category, grade) == (Category.NORMAL, "kl0"):
        assert not difference.any()
    else:
        assert difference.max() > (2 if category is Category.NORMAL else 15)


@pytest.mark.parametrize("grade", ["arco2", "arco3a", "arco3b"])
def test_osteonecrosis_stays_in_the_head(hip, rng, grade):
    pixels = insert_lesion(
        hip, hip.canvas.pixels, Category.FEMORAL_HEAD_OSTEONECROSIS, grade, rng
    ).pixels
    found = hip.found
    outside = distance_from(pixels.shape, *found.head_px) > 1.35 * found.radius_px
    assert np.abs(pixels - hip.canvas.pixels)[outside].max() < 1.0


def test_a_femur_that_is_not_moved_leaves_the_film_as_it_was(hip, rng):
    same = shifted_femur(hip, hip.canvas.pixels, np.zeros(2), rng)
    assert np.abs(same - hip.canvas.pixels).max() < 0.01


def test_a_fragment_moves_rigidly(hip, rng):
    layer = femur_layer(hip, hip.canvas.pixels)
    shift = np.array([[1.0, 0.0, 4.0], [0.0, 1.0, 7.0]])  # read from 4 right, 7 below
    moved = moved_layer(hip, [Fragment(layer, hip.femur, shift)], rng)
    covered = hip.femur[107:307, 104:304] > 0.999
    expected = layer[107:307, 104:304]
    assert np.abs(moved[100:300, 100:300] - expected)[covered].max() < 1.0


def test_implants_are_brighter_than_nearly_all_bone(hip, rng):
    for category in (Category.TOTAL_HIP_ARTHROPLASTY, Category.INTERNAL_FIXATION):
        for grade in GRADE_SHARES[category]:
            pixels = insert_lesion(hip, hip.canvas.pixels, category, grade, rng).pixels
            metal = np.abs(pixels - hip.canvas.pixels) > 60
            assert np.percentile(pixels[metal], 90) > 0.9 * np.percentile(hip.canvas.pixels, 99)


def test_the_same_seed_gives_the_same_sample_and_another_does_not(samples):
    first, again, other = (samples.sample(np.random.SeedSequence((1, k))) for k in (5, 5, 6))
    assert (first.pixels == again.pixels).all()
    assert (first.mask == again.mask).all()
    assert first.pixels.shape == other.pixels.shape
    assert (first.pixels != other.pixels).any()
    assert [s.grade for s in samples.samples(1, 2, first=5)] == [first.grade, other.grade]


def test_a_worker_process_gets_the_names_of_files_and_no_pixels(samples):
    pickled = pickle.dumps(samples)
    assert len(pickled) < 200_000
    again = pickle.loads(pickled).sample(5)
    assert (again.pixels == samples.sample(5).pixels).all()


def test_it_is_called_as_a_phantom_is(samples):
    pixels, category, mask = samples(np.random.SeedSequence(4))
    sample = samples.sample(np.random.SeedSequence(4))
    assert pixels.shape == mask.shape == (1, 96, 96)
    assert CATEGORIES[category] is sample.category
    assert (mask == sample.mask).all()


def test_categories_come_as_often_as_they_are_asked_for(simulated):
    shares = {Category.NORMAL: 3.0, Category.OSTEOARTHRITIS: 1.0}
    found = [s.category for s in DrawInserted(simulated, GEOMETRY, shares=shares).samples(0, 60)]
    assert set(found) == set(shares)
    assert 35 <= found.count(Category.NORMAL) <= 54


def test_a_child_is_only_ever_normal_and_unchanged(samples):
    found = [s for s in samples.samples(0, 80) if s.background.age_class is AgeClass.CHILD]
    assert found
    assert {(s.category, s.grade) for s in found} == {(Category.NORMAL, "kl0")}


def test_samples_are_of_one_split(simulated):
    test = DrawInserted(simulated, GEOMETRY, "test")
    assert {s.background.patient for s in test.samples(0, 8)} == {"patient-3"}


def test_a_split_without_an_adult_is_refused(simulated):
    with pytest.raises(InputError, match="no background of an adult in the split val"):
        DrawInserted(simulated, GEOMETRY, "val")


def test_metal_that_nobody_mentioned_is_reported_and_not_used(simulated):
    assert [(out.path, out.reason) for out in simulated.left_out] == [
        ("internal_fixation-north-5.png", "suspected: metal")
    ]


def test_what_a_caller_suspects_is_reported_too(tmp_path):
    name, (x, y), mm = write_film(tmp_path, 0)
    rows = read_manifest(
        write_manifest(tmp_path, [(name, "train", "p", "adult", "right", x, y, mm)])
    )

    def seen_by_a_model(canvas):
        return ["fracture, by the model"] if canvas.pixels.max() > 200 else []

    with pytest.raises(InputError, match="suspected: fracture, by the model"):
        prepare_backgrounds(rows, tmp_path / "cache", suspect=seen_by_a_model)


def test_harmless_changes_are_made_in_normal_hips_too(hip):
    crops = [
        draw(hip, GEOMETRY, Category.NORMAL, "kl0", np.random.default_rng(seed))[0]
        for seed in range(4)
    ]
    assert len({crop.tobytes() for crop in crops}) == 4
