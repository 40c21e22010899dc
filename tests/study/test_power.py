"""Sample sizes, against published power and against the studies that they plan."""

import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from hipedge.errors import InputError
from hipedge.study.mrmc import ErrorCovariances
from hipedge.study.power import (
    ReaderStudyPlan,
    multi_reader_power,
    size_for_non_inferiority,
    size_for_readers,
    size_for_sensitivity,
)

# Van Dyke's data: the components that OR-DBM MRMC 2.51 prints (RJafroc, inst/Iowa/VanDyke.txt).
VAN_DYKE = (0.00080229, 0.00034661, 0.00034407, 0.00023903)


def with_cases(n):
    return ErrorCovariances(*(114 / n * part for part in VAN_DYKE))


def test_power_of_a_reader_study_is_what_rjafroc_publishes():
    """RJafroc, tests/testthat/test-SsSampleSizeRoc.R: 10 readers, 165 cases, power 0.80541995."""
    found = multi_reader_power(
        0.043800322, 10, reader_by_test_variance=0.00020040, covariances=with_cases(165)
    )
    assert found == pytest.approx(0.80541995, abs=5e-5)


def test_a_size_for_a_sensitivity_is_the_least_that_is_narrow_enough():
    size = size_for_sensitivity(0.95, 0.03, prevalence=0.05)
    assert size.hips == 20 * size.cases

    def width(n):
        low, high = proportion_confint(0.95 * n, n, method="wilson")
        return (high - low) / 2

    assert width(size.cases) <= 0.03 < width(size.cases - 1)
    assert size.by_simulation == pytest.approx(size.by_formula, abs=0.04)


def test_the_chance_of_a_narrow_interval_is_the_binomials():
    size = size_for_sensitivity(0.9, 0.1)
    chance = 0.0
    for count in range(size.cases + 1):
        low, high = proportion_confint(count, size.cases, method="wilson")
        chance += binom.pmf(count, size.cases, 0.9) * ((high - low) / 2 <= 0.1)
    assert size.by_formula == pytest.approx(chance, abs=1e-9)


def test_a_size_for_non_inferiority_follows_the_textbook():
    """n = (1.96 + 0.8416)² · 0.15 / 0.05² for equal accuracy and 15 % discordant hips."""
    size = size_for_non_inferiority(0.15)
    assert size.hips == 471
    assert size.by_formula == pytest.approx(0.80, abs=0.002)
    assert size.by_simulation == pytest.approx(0.80, abs=0.03)


def test_more_readers_need_fewer_hips():
    few = size_for_readers(ReaderStudyPlan(5, 0.8, 0.06), simulations=1)
    many = size_for_readers(ReaderStudyPlan(12, 0.8, 0.06), simulations=1)
    assert many.hips < few.hips


def test_a_planned_reader_study_has_the_power_that_was_planned():
    size = size_for_readers(ReaderStudyPlan(6, 0.8, 0.06), simulations=300)
    assert size.by_formula == pytest.approx(0.80, abs=0.01)
    assert size.by_simulation == pytest.approx(size.by_formula, abs=0.08)


@pytest.mark.parametrize(
    "plan",
    [
        lambda: size_for_sensitivity(1.2, 0.03),
        lambda: size_for_sensitivity(0.9, 0.0),
        lambda: size_for_non_inferiority(0.1, difference=-0.06),
        lambda: size_for_non_inferiority(0.01, difference=0.05),
        lambda: size_for_readers(ReaderStudyPlan(1, 0.8, 0.05)),
        lambda: size_for_non_inferiority(0.1, difference=float("nan")),
        lambda: size_for_readers(ReaderStudyPlan(6, 0.8, 0.05, neither=0.9)),
        lambda: size_for_readers(ReaderStudyPlan(6, 0.8, 0.06, same_reader=0.97)),
        lambda: size_for_readers(ReaderStudyPlan(6, 0.8, 0.06, same_phase=1.0, reader_sd=0.0)),
        lambda: size_for_readers(ReaderStudyPlan(6, 0.8, 0.06, reader_sd=-0.01)),
        lambda: size_for_readers(ReaderStudyPlan(3, 0.8, 0.01, reader_sd=0.05)),
    ],
)
def test_a_plan_that_cannot_be_is_an_input_error(plan):
    with pytest.raises(InputError):
        plan()
