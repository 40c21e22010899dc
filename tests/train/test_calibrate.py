import numpy as np
import pytest

from hipedge.rules.calibration import fit_temperature, mean_nll
from hipedge.rules.flags import softmax
from hipedge.train.calibrate import (
    PLACEHOLDERS,
    calibrate,
    choose_golden,
    least_confidence,
)
from hipedge.types import CATEGORIES, Category


def cases(n, temperature, seed=0):
    """Logits whose truth is drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal((n, 8))).astype(np.float32)
    truth = np.array([rng.choice(8, p=softmax(hip, temperature)) for hip in logits])
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


def test_the_operating_points_are_fitted_jointly_to_the_calibrated_probabilities():
    logits, truth = cases(3000, 1.0)
    fitted = calibrate(logits, truth)
    probabilities = softmax(logits, fitted.temperature)
    normal = truth == CATEGORIES.index(Category.NORMAL)
    sensitive, specific = fitted.operating_points
    flagged = specific.flags(probabilities, hardware=True)
    flagged |= probabilities.max(axis=1) < fitted.min_confidence
    assert flagged[normal].mean() <= 0.10
    assert fitted.fit.specific.flag_rate == flagged[normal].mean()
    assert (sensitive.name, specific.name) == ("sensitive", "specific")


def test_too_few_hips_give_placeholders_and_the_number_needed():
    fitted = calibrate(*cases(40, 1.0))
    assert fitted.fit is None
    assert "at least 100 are needed" in fitted.too_few
    for point in fitted.operating_points:
        assert set(point.thresholds.values()) == {PLACEHOLDERS[point.name]}


def test_few_hips_without_a_finding_are_uncertain_and_none_over_a_half():
    confident = np.full((100, 8), 0.01)
    confident[:, 0] = 0.93
    assert least_confidence(confident, np.zeros(100, np.int64)) == 0.5
    unsure = np.full((1000, 8), 0.0)
    unsure[:, 0] = np.linspace(0.2, 1.0, 1000)
    low = least_confidence(unsure, np.zeros(1000, np.int64))
    assert (unsure[:, 0] < low).mean() == pytest.approx(0.02, abs=0.002)
    assert least_confidence(unsure, np.ones(1000, np.int64)) == 0.0


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
