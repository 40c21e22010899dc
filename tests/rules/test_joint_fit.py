"""Joint operating points: what they promise about hips holds on the hips they were fitted to."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hipedge.errors import InputError
from hipedge.rules.flags import flag_scores, softmax
from hipedge.rules.joint_fit import (
    CRITERION,
    FEWEST_WITHOUT_FINDING,
    FLOOR_SCORE,
    SENSITIVE_LIMIT,
    fit_operating_points,
)
from hipedge.types import ABNORMAL, ACUTE_FRACTURES, CATEGORIES, Category

NORMAL = CATEGORIES.index(Category.NORMAL)
K = len(CATEGORIES)


def hips(seed, *, normal=400, each=60, separation=2.0, counts=None):
    """Probabilities and truths of a model whose true logit leads by about `separation`."""
    rng = np.random.default_rng(seed)
    numbers = {Category.NORMAL: normal, **dict.fromkeys(ABNORMAL, each), **(counts or {})}
    truth = np.repeat(np.arange(K), [numbers[category] for category in CATEGORIES])
    logits = rng.normal(0, 1, (len(truth), K))
    logits[np.arange(len(truth)), truth] += separation
    return softmax(logits, 1.0), truth


def flagged(fitted, probabilities):
    return fitted.point.flags(probabilities, hardware=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 4.0))
def test_specific_flags_at_most_a_tenth_of_the_hips_without_a_finding(seed, separation):
    probabilities, truth = hips(seed, normal=150, each=25, separation=separation)
    specific = fit_operating_points(probabilities, truth).specific
    rate = flagged(specific, probabilities)[truth == NORMAL].mean()
    assert rate <= 0.10
    assert specific.flag_rate == rate
    assert specific.reached


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 4.0))
def test_sensitive_gives_95_percent_of_each_acute_fracture_an_urgent_flag(seed, separation):
    probabilities, truth = hips(seed, normal=150, each=40, separation=separation)
    fit = fit_operating_points(probabilities, truth)
    margins = fit.sensitive.point.margins(probabilities, hardware=True)
    urgent = (margins[:, [CATEGORIES.index(c) for c in ACUTE_FRACTURES]] >= 0).any(axis=1)
    for category in ACUTE_FRACTURES:
        found = urgent[truth == CATEGORIES.index(category)].mean()
        assert fit.sensitive.sensitivity[category] == found
        assert found >= 0.95 or not fit.sensitive.reached
    assert fit.sensitive.flag_rate <= SENSITIVE_LIMIT


def test_sensitive_never_flags_less_than_specific():
    for seed in range(5):
        fit = fit_operating_points(*hips(seed))
        for category, threshold in fit.sensitive.point.thresholds.items():
            assert threshold <= fit.specific.point.thresholds[category]


def test_a_model_that_knows_nothing_of_fractures_cannot_have_the_sensitive_point():
    probabilities, truth = hips(1, separation=0.0)
    sensitive = fit_operating_points(probabilities, truth).sensitive
    assert not sensitive.reached
    assert 0.3 < sensitive.flag_rate <= SENSITIVE_LIMIT


def test_the_sensitive_point_costs_no_more_flags_than_any_pair_of_thresholds_that_reaches_it():
    probabilities, truth = hips(3, normal=120, each=25, separation=1.5)
    fit = fit_operating_points(probabilities, truth)
    assert fit.sensitive.reached
    scores = flag_scores(probabilities, CRITERION)
    neck, trochanteric = (CATEGORIES.index(c) for c in ACUTE_FRACTURES)
    others = flagged(
        type(fit.sensitive)(
            point=type(fit.sensitive.point)(
                "others",
                {c: t for c, t in fit.specific.point.thresholds.items()
                 if c not in ACUTE_FRACTURES},
                CRITERION,
            ),
            flag_rate=0, film_flag_rate=0, sensitivity={}, reached=True,
        ),
        probabilities,
    )  # fmt: skip
    candidates = [np.quantile(scores[:, k], np.linspace(0.3, 1, 60)) for k in (neck, trochanteric)]
    best = 1.0
    for a, b in product(*candidates):
        urgent = (scores[:, neck] >= a) | (scores[:, trochanteric] >= b)
        if all(urgent[truth == k].mean() >= 0.95 for k in (neck, trochanteric)):
            best = min(best, (urgent | others)[truth == NORMAL].mean())
    assert fit.sensitive.flag_rate <= best + 0.02


def test_the_joint_search_finds_more_than_the_same_share_of_false_flags_for_every_category():
    probabilities, truth = hips(5, separation=1.5)
    # Osteoarthritis is hard to tell from normal here, the others are easy: it deserves the budget.
    fit = fit_operating_points(probabilities, truth)
    scores = flag_scores(probabilities, CRITERION)
    normal = scores[truth == NORMAL]
    uniform = 0.0
    for share in np.linspace(0.001, 0.1, 200):
        limits = np.quantile(normal, 1 - share, axis=0)
        flags = scores >= limits
        flags[:, NORMAL] = False
        if flags.any(axis=1)[truth == NORMAL].mean() <= 0.10:
            found = [flags.any(axis=1)[truth == CATEGORIES.index(c)].mean() for c in ABNORMAL]
            uniform = max(uniform, float(np.mean(found)))
    assert np.mean(list(fit.specific.sensitivity.values())) >= uniform - 0.03


def test_a_category_with_too_few_hips_keeps_to_the_floor():
    rare = Category.DEVELOPMENTAL_DYSPLASIA
    probabilities, truth = hips(2, counts={rare: 19})
    fit = fit_operating_points(probabilities, truth)
    assert fit.floored == (rare,)
    for fitted in fit.points:
        assert fitted.point.thresholds[rare] >= FLOOR_SCORE
        k = CATEGORIES.index(rare)
        alone = fitted.point.margins(probabilities, hardware=True)[:, k] >= 0
        assert alone[truth == NORMAL].mean() <= 0.01


def test_hips_that_are_uncertain_count_among_the_flagged():
    probabilities, truth = hips(4)
    normal = truth == NORMAL
    min_confidence = float(np.quantile(probabilities[normal].max(axis=1), 0.05))
    fit = fit_operating_points(probabilities, truth, min_confidence=min_confidence)
    any_flag = flagged(fit.specific, probabilities) | (probabilities.max(axis=1) < min_confidence)
    assert any_flag[normal].mean() <= 0.10
    assert fit.specific.flag_rate == any_flag[normal].mean()


def test_films_without_a_finding_are_counted_by_their_hips():
    probabilities, truth = hips(6)
    films = np.arange(len(truth)) // 2
    fit = fit_operating_points(probabilities, truth, films=films)
    flags = flagged(fit.specific, probabilities)
    clean = [f for f in np.unique(films) if (truth[films == f] == NORMAL).all()]
    assert fit.specific.film_flag_rate == np.mean([flags[films == f].any() for f in clean])
    assert fit.specific.film_flag_rate > fit.specific.flag_rate


def test_too_few_hips_without_a_finding_are_refused_with_the_number_needed():
    probabilities, truth = hips(0, normal=FEWEST_WITHOUT_FINDING - 1)
    with pytest.raises(InputError, match=f"99 hips .* at least {FEWEST_WITHOUT_FINDING}"):
        fit_operating_points(probabilities, truth)


def test_just_enough_hips_are_enough():
    few = dict.fromkeys(ABNORMAL, 19) | {Category.OSTEOARTHRITIS: 20}
    fit = fit_operating_points(*hips(0, normal=FEWEST_WITHOUT_FINDING, counts=few))
    assert set(fit.floored) == set(ABNORMAL) - {Category.OSTEOARTHRITIS}
    assert fit.hips_without_finding == FEWEST_WITHOUT_FINDING


def test_hips_of_no_category_in_number_are_refused():
    probabilities, truth = hips(0, each=19)
    with pytest.raises(InputError, match="no category has 20 hips"):
        fit_operating_points(probabilities, truth)


def test_a_well_separated_category_is_flagged_in_the_middle_of_the_gap():
    """Hardware has scores of 0.99 here, and all other hips have less than 0.001."""
    probabilities, truth = hips(7)
    k = CATEGORIES.index(Category.INTERNAL_FIXATION)
    probabilities[:, k] = np.where(truth == k, 0.0, 1e-4)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[truth == k] = 0.0
    probabilities[truth == k, k], probabilities[truth == k, NORMAL] = 0.99, 0.01
    for fitted in fit_operating_points(probabilities, truth).points:
        assert 0.05 < fitted.point.thresholds[Category.INTERNAL_FIXATION] < 0.9
        assert fitted.sensitivity[Category.INTERNAL_FIXATION] == 1.0


def test_a_model_that_tells_all_apart_flags_no_hip_without_a_finding():
    fit = fit_operating_points(*hips(0, separation=60.0))
    for fitted in fit.points:
        assert fitted.flag_rate == 0.0
        assert set(fitted.sensitivity.values()) == {1.0}
