"""Nominal 95 % intervals hold the truth about 95 % of the time; `docs/study.md` has the figures."""

import pytest

from tests.study.coverage import coverage, false_non_inferiority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("hips", [200, 5_000])
@pytest.mark.parametrize("statistic", ["accuracy", "κ"])
def test_intervals_of_accuracy_and_kappa_hold_the_truth(statistic, hips):
    for method, rate in coverage(statistic, hips).by_method.items():
        assert 0.93 <= rate <= 0.97, method


def test_intervals_of_macro_f1_hold_the_truth_in_large_studies():
    for method, rate in coverage("macro F1", 5_000).by_method.items():
        assert 0.93 <= rate <= 0.97, method


# 2.5 % by design, and three standard errors of 4,000 simulations.
MOST_ERRORS = 0.025 + 0.0074


@pytest.mark.parametrize("hips", [200, 5_000])
def test_non_inferior_accuracy_is_rarely_found_at_the_margin(hips):
    assert false_non_inferiority("accuracy", hips)["Tango"] <= MOST_ERRORS


@pytest.mark.parametrize("hips", [200, 5_000])
def test_non_inferior_macro_f1_is_rarely_found_at_the_margin(hips):
    assert false_non_inferiority("macro F1", hips)["bootstrap"] <= MOST_ERRORS
