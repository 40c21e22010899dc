"""The flag rule over arrays: what is compared with a threshold, and who may flag at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hipedge.rules.flags import flag_margins, flag_scores, softmax
from hipedge.rules.operating_points import OperatingPoint
from hipedge.types import (
    ABNORMAL,
    ACUTE_FRACTURES,
    CATEGORIES,
    HARDWARE,
    Category,
    FlagCriterion,
)

NECK = CATEGORIES.index(Category.FEMORAL_NECK_FRACTURE)
NORMAL = CATEGORIES.index(Category.NORMAL)
HALF = dict.fromkeys(ABNORMAL, 0.5)


def probabilities(n, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(len(CATEGORIES)), n)


def test_the_rule_over_many_hips_is_the_rule_of_each():
    hips = probabilities(50).reshape(5, 10, -1)
    for criterion in FlagCriterion:
        together = flag_margins(hips, HALF, criterion, flag_hardware=True)
        assert together.shape == hips.shape
        for index in np.ndindex(hips.shape[:2]):
            alone = flag_margins(hips[index], HALF, criterion, flag_hardware=True)
            np.testing.assert_array_equal(together[index], alone)


def test_a_score_that_equals_its_threshold_flags():
    hips = probabilities(20)
    for row in hips:
        thresholds = {Category.FEMORAL_NECK_FRACTURE: float(row[NECK])}
        assert OperatingPoint("at", thresholds).flags(row, hardware=False)
        above = {Category.FEMORAL_NECK_FRACTURE: float(np.nextafter(row[NECK], 1))}
        assert not OperatingPoint("above", above).flags(row, hardware=False)


def test_normal_never_flags_nor_does_a_category_without_a_threshold():
    certain = np.eye(len(CATEGORIES))
    thresholds = {Category.NORMAL: 0.0, Category.OSTEOARTHRITIS: 0.5}
    point = OperatingPoint("one category", thresholds)
    flagged = point.flags(certain, hardware=True)
    assert [CATEGORIES[k] for k in np.flatnonzero(flagged)] == [Category.OSTEOARTHRITIS]


def test_hardware_flags_only_where_the_site_asks_for_it():
    certain = np.eye(len(CATEGORIES))
    point = OperatingPoint("half", HALF)
    flagged = {CATEGORIES[k] for k in np.flatnonzero(point.flags(certain, hardware=False))}
    assert flagged == set(ABNORMAL) - set(HARDWARE)
    assert point.flags(certain, hardware=True).sum() == len(ABNORMAL)


def test_between_a_category_and_normal_alone_the_score_is_the_probability():
    for p in (0.0, 0.03, 0.5, 0.97, 1.0):
        hip = np.zeros(len(CATEGORIES))
        hip[NECK], hip[NORMAL] = p, 1 - p
        assert flag_scores(hip, FlagCriterion.AGAINST_NORMAL)[NECK] == pytest.approx(p)


@given(st.integers(0, 10_000), st.floats(0.2, 5.0))
def test_against_normal_no_score_is_lower_than_the_probability(seed, temperature):
    logits = np.random.default_rng(seed).normal(0, 3, (4, len(CATEGORIES)))
    probabilities = softmax(logits, temperature)
    scores = flag_scores(probabilities, FlagCriterion.AGAINST_NORMAL)
    abnormal = [CATEGORIES.index(category) for category in ABNORMAL]
    assert (scores[:, abnormal] >= probabilities[:, abnormal] - 1e-12).all()
    assert (scores[:, abnormal] <= 1).all()


def test_a_sure_implant_is_no_fracture_however_improbable_normal_is():
    hip = np.full(len(CATEGORIES), 1e-4)
    hip[CATEGORIES.index(Category.TOTAL_HIP_ARTHROPLASTY)] = 1 - hip[1:].sum()
    point = OperatingPoint(
        "low", dict.fromkeys(ACUTE_FRACTURES, 0.05), FlagCriterion.AGAINST_NORMAL
    )
    assert not point.flags(hip, hardware=False)


def test_hesitation_between_two_fractures_flags_against_normal_alone():
    hip = np.full(len(CATEGORIES), 0.0)
    hip[NECK] = hip[NECK + 1] = 0.48
    hip[NORMAL] = 0.04
    assert not OperatingPoint("p", HALF).flags(hip, hardware=False)
    against_normal = OperatingPoint("margin", HALF, FlagCriterion.AGAINST_NORMAL)
    assert against_normal.flags(hip, hardware=False)


def test_a_probability_that_was_rounded_to_nothing_is_no_flag():
    hip = np.zeros(len(CATEGORIES))
    hip[CATEGORIES.index(Category.OSTEOARTHRITIS)] = 1.0
    scores = flag_scores(hip, FlagCriterion.AGAINST_NORMAL)
    assert np.isfinite(scores).all()
    assert scores[NECK] == 0.0


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_softmax_sums_to_one_over_the_last_axis(temperature):
    logits = np.random.default_rng(1).normal(0, 50, (3, 4, len(CATEGORIES)))
    np.testing.assert_allclose(softmax(logits, temperature).sum(axis=-1), 1.0)
