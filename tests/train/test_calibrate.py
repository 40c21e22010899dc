import numpy as np
import pytest

from hipedge.rules.calibration import fit_temperature, mean_nll
from hipedge.rules.flags import softmax
from hipedge.train.calibrate import (
    FALLBACK,
    calibrate,
    choose_golden,
    fit_operating_points,
    least_confidence,
)
from hipedge.types import CATEGORIES, Category

THA = CATEGORIES.index(Category.TOTAL_HIP_ARTHROPLASTY)


def cases(n, temperature, seed=0):
    """Logits whose truth is drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal((n, 8))).astype(np.float32)
    truth = np.array([rng.choice(8, p=softmax(one, temperature)) for one in logits])
    return logits, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_cases_is_found(temperature):
    assert fit_temperature(*cases(4000, temperature)) == pytest.approx(temperature, rel=0.06)


def test_the_temperature_is_that_of_least_loss():
    logits, truth = cases(300, 1.7)
    best = fit_temperature(logits, truth)
    losses = [mean_nll(logits, truth, best * factor) for factor in (0.97, 1.0, 1.03)]
    assert losses[1] == min(losses)


def test_a_network_that_is_always_right_gets_the_bound():
    logits = (20 * np.eye(8)).astype(np.float32)
    assert fit_temperature(logits, np.arange(8)) == pytest.approx(0.05, rel=1e-3)


def test_both_aims_are_met_on_the_cases_they_were_fitted_to():
    logits, truth = cases(3000, 1.0)
    probabilities = np.array([softmax(one, 1.0) for one in logits])
    points, borrowed = fit_operating_points(probabilities, truth)
    assert borrowed == ()
    for category, threshold in points["sensitive"].items():
        of_it = truth == CATEGORIES.index(category)
        assert (probabilities[of_it, CATEGORIES.index(category)] >= threshold).mean() >= 0.95
    for category, threshold in points["specific"].items():
        others = truth != CATEGORIES.index(category)
        assert (probabilities[others, CATEGORIES.index(category)] < threshold).mean() >= 0.95


def test_the_thresholds_are_as_tight_as_can_be():
    probabilities = np.zeros((40, 8))
    probabilities[:20, THA] = np.linspace(0.05, 1.0, 20)
    probabilities[20:, THA] = np.linspace(0.0, 0.95, 20)
    truth = np.repeat([THA, 0], 20)
    points, _ = fit_operating_points(probabilities, truth)
    category = Category.TOTAL_HIP_ARTHROPLASTY
    # One of twenty may be missed, and one of twenty flagged in vain.
    assert points["sensitive"][category] == pytest.approx(0.10)
    assert points["specific"][category] == np.nextafter(probabilities[38, THA], 2)


def test_where_each_meets_both_aims_sensitive_still_flags_more():
    probabilities = np.zeros((60, 8))
    probabilities[:30, THA] = 0.9
    probabilities[30:, THA] = 0.1
    points, _ = fit_operating_points(probabilities, np.repeat([THA, 0], 30))
    category = Category.TOTAL_HIP_ARTHROPLASTY
    assert 0.1 < points["sensitive"][category] < points["specific"][category] <= 0.9


def test_a_rare_category_borrows_and_is_named():
    logits, truth = cases(2000, 1.0)
    truth[truth == THA] = 0
    truth[:19] = THA
    points, borrowed = fit_operating_points(np.array([softmax(v, 1.0) for v in logits]), truth)
    assert borrowed == (Category.TOTAL_HIP_ARTHROPLASTY,)
    for thresholds in points.values():
        own = [value for category, value in thresholds.items() if category not in borrowed]
        assert thresholds[Category.TOTAL_HIP_ARTHROPLASTY] == np.median(own)


def test_with_too_few_cases_of_everything_the_thresholds_say_so():
    logits, truth = cases(40, 1.0)
    fitted = calibrate(logits, truth)
    assert len(fitted.borrowed) == 7
    assert set(fitted.operating_points["sensitive"].values()) == {FALLBACK["sensitive"]}


def test_the_least_sure_are_uncertain_and_never_those_over_a_half():
    confident = np.full((100, 8), 0.01)
    confident[:, 0] = 0.93
    assert least_confidence(confident) == 0.5
    unsure = np.full((1000, 8), 0.0)
    unsure[:, 0] = np.linspace(0.2, 1.0, 1000)
    assert (unsure[:, 0] < least_confidence(unsure)).mean() == pytest.approx(0.05, abs=0.002)


def test_calibration_lowers_the_loss():
    fitted = calibrate(*cases(1000, 3.0))
    assert fitted.nll[1] < fitted.nll[0]


def test_golden_samples_show_every_category():
    truth = np.array([0] * 500 + [1] * 3 + list(range(2, 8)) * 20)
    chosen = choose_golden(truth, 64)
    assert len(chosen) == len(set(chosen)) == 64
    counts = np.bincount(truth[chosen], minlength=8)
    assert counts[1] == 3
    assert counts.min() == 3
    assert counts.max() - np.delete(counts, 1).min() <= 1
    assert len(choose_golden(truth[:10], 64)) == 10
