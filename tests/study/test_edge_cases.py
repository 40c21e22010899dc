"""Where a statistic is at its limit, or undefined."""

import numpy as np
import pytest
from scipy.stats import norm, t

from hipedge.errors import InputError
from hipedge.study import (
    agreement,
    auc,
    comparisons,
    intervals,
    metrics,
    mrmc,
    power,
    resampling,
    scores,
)
from hipedge.study.estimates import Interval


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.05, "0.0500"),
        (1.0, "1.0000"),
        (0.0001, "0.0001"),
        (0.00009, "< 0.0001"),
        (float("nan"), "undefined"),
    ],
)
def test_a_p_value_has_four_digits(p, text):
    assert comparisons.p_text(p) == text


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.1, "superior"),
        (0.0, 0.1, "non-inferior"),
        (-0.049, 0.1, "non-inferior"),
        (-0.05, 0.1, "not shown"),
        (-0.2, -0.05, "not shown"),
        (-0.2, -0.051, "inferior"),
    ],
)
def test_a_limit_on_the_margin_or_on_zero_does_not_pass_it(low, high, verdict):
    found = comparisons.NonInferiority(0.0, Interval(low, high), 0.05, 0.5)
    assert found.verdict == verdict


def test_the_bootstraps_test_of_non_inferiority_counts_replicates_at_or_below_the_margin():
    replicates = np.array([-0.2, -0.1, -0.1, *[0.0] * 96])
    found = comparisons.non_inferiority(0.01, replicates, margin=0.1)
    assert found.p_value == pytest.approx((1 + 3) / 100)
    assert (found.difference, found.margin) == (0.01, 0.1)
    undefined = np.where(np.arange(99) < 6, np.nan, replicates)
    assert np.isnan(comparisons.non_inferiority(0.01, undefined).p_value)
    few = np.where(np.arange(99) < 4, np.nan, 0.0)
    assert comparisons.non_inferiority(0.0, few).p_value == pytest.approx(1 / 96)


def test_tangos_score_is_the_normal_score_of_the_discordant_pairs_at_no_difference():
    assert comparisons.tango_score(30, 10, 100, 0.0) == pytest.approx((30 - 10) / np.sqrt(40))
    assert comparisons.tango_score(0, 0, 50, 0.0) == 0.0


@pytest.mark.parametrize(("counts", "limit"), [((7, 0, 7), 1.0), ((0, 7, 7), -1.0)])
def test_tangos_interval_ends_at_a_difference_of_one(counts, limit):
    found = comparisons.tango_interval(*counts)
    assert limit in (found.low, found.high)
    assert -1 <= found.low < found.high <= 1


def test_tangos_interval_changes_sides_with_the_raters():
    first, second = comparisons.tango_interval(9, 3, 60), comparisons.tango_interval(3, 9, 60)
    assert (first.low, first.high) == pytest.approx((-second.high, -second.low), abs=1e-8)
    narrow = comparisons.tango_interval(9, 3, 60, confidence=0.5)
    assert first.low < narrow.low < 0.1 < narrow.high < first.high


def test_tangos_test_is_one_sided_towards_the_new():
    new, old = np.arange(100) < 90, np.arange(100) < 80
    better = comparisons.paired_non_inferiority(new, old, margin=0.05)
    worse = comparisons.paired_non_inferiority(old, new, margin=0.05)
    assert better.p_value == pytest.approx(norm.sf(comparisons.tango_score(10, 0, 100, -0.05)))
    assert (better.difference, worse.difference) == (0.1, -0.1)
    assert better.p_value < 0.001
    assert worse.p_value > 0.5


def test_holm_of_undefined_p_values_is_undefined():
    assert np.isnan(comparisons.holm(np.full(3, np.nan))).all()


def test_wilson_is_undefined_without_cases_and_narrower_at_less_confidence():
    assert intervals.wilson(0, 0) is None
    assert intervals.wilson(1, 1).high == 1.0
    assert intervals.clustered_wilson(np.array([], bool), np.array([], np.int64)) is None
    narrow, wide = intervals.wilson(5, 10, confidence=0.5), intervals.wilson(5, 10)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


def test_clustered_wilson_takes_the_number_of_patients_where_all_succeed():
    patients = np.array([0, 0, 1, 1, 2])
    every = intervals.clustered_wilson(np.ones(5, bool), patients)
    assert every == intervals.wilson(3, 3)


def test_clustered_wilson_never_counts_more_than_the_hips():
    """One of two hips of each patient succeeds: the clusters do not vary at all, or hardly."""
    patients = np.repeat(np.arange(20), 2)
    alternating = np.tile([True, False], 20)
    assert intervals.clustered_wilson(alternating, patients) == intervals.wilson(10, 20)
    alternating[1] = True
    found = intervals.clustered_wilson(alternating, patients)
    expected = intervals.wilson(21, 40)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_clustered_wilson_uses_the_variance_between_patients():
    patients = np.repeat(np.arange(10), 3)
    success = np.repeat(np.arange(10) < 6, 3)
    success[0] = False
    p = success.mean()
    residual = success.reshape(10, 3).sum(axis=1) - 3 * p
    variance = 10 / 9 * np.sum(residual**2) / 30**2
    n = p * (1 - p) / variance
    assert intervals.clustered_wilson(success, patients) == intervals.wilson(p * n, n)


def test_an_auc_needs_both_kinds_and_its_variance_two_of_each():
    score = np.array([0.1, 0.4, 0.35, 0.8])
    assert auc.placements(score, np.zeros(4, bool)) is None
    assert auc.placements(score, np.ones(4, bool)) is None
    single = np.array([False, False, False, True])
    assert np.isnan(auc.delong_variance(auc.placements(score, single)))
    assert np.isnan(auc.delong_variance(auc.placements(score, ~single)))
    pair = np.array([False, False, True, True])
    assert auc.delong_variance(auc.placements(score, pair)) == pytest.approx(0.125)


def test_placements_are_the_fractions_of_the_other_kind_on_the_wrong_side():
    score = np.array([1.0, 2.0, 2.0, 3.0])
    found = auc.placements(score, np.array([False, True, False, True]))
    assert found.of_positives.tolist() == [0.75, 1.0]
    assert found.of_negatives.tolist() == [1.0, 0.75]
    assert found.auc == 0.875


def test_a_clustered_variance_needs_two_patients_of_each_kind():
    score = np.array([0.1, 0.4, 0.35, 0.8, 0.6])
    positive = np.array([False, False, True, True, False])
    placed = auc.placements(score, positive)
    assert np.isnan(auc.clustered_variance(placed, positive, np.array([0, 1, 2, 2, 3])))
    assert np.isnan(auc.clustered_variance(placed, positive, np.array([0, 0, 1, 2, 0])))
    assert auc.clustered_variance(placed, positive, np.array([0, 1, 0, 1, 0])) >= 0


def test_the_interval_of_an_auc_is_symmetric_on_the_logit_scale():
    found = auc.auc_interval(0.8, 0.002)
    logit = np.log(0.8 / 0.2)
    half = 1.959964 * np.sqrt(0.002) / (0.8 * 0.2)
    expected = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-6)
    assert auc.auc_interval(1.0, 0.002) is None
    assert auc.auc_interval(0.0, 0.002) is None
    assert auc.auc_interval(0.8, 0.0) is None
    assert auc.auc_interval(0.8, float("nan")) is None


def test_a_percentile_interval_needs_95_percent_of_the_replicates():
    replicates = np.linspace(0, 1, 100)
    replicates[:5] = np.nan
    assert resampling.percentile_interval(replicates) is not None
    replicates[5] = np.nan
    assert resampling.percentile_interval(replicates) is None
    assert resampling.bca_interval(replicates, 0.5, 0.0) is None
    assert np.isnan(resampling.bootstrap_p_value(replicates))


def test_a_percentile_interval_leaves_out_its_tails():
    found = resampling.percentile_interval(np.linspace(0, 1, 1001), confidence=0.9)
    assert (found.low, found.high) == pytest.approx((0.05, 0.95))


def test_bca_without_bias_and_acceleration_is_the_percentile_interval():
    replicates = np.linspace(0, 1, 1001)
    plain = resampling.percentile_interval(replicates)
    found = resampling.bca_interval(replicates, 0.5, 0.0)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-9)


def test_bca_moves_with_bias_and_acceleration():
    replicates = np.linspace(0, 1, 1001)
    z = norm.ppf(0.3)
    for acceleration in (0.0, 0.1):
        ends = z + np.array([-1.959964, 1.959964])
        levels = norm.cdf(z + ends / (1 - acceleration * ends))
        found = resampling.bca_interval(replicates, 0.3, acceleration)
        assert (found.low, found.high) == pytest.approx(tuple(levels), abs=2e-3)


def test_bca_counts_ties_half_and_is_undefined_on_one_side():
    tied = np.repeat([0.4, 0.5, 0.6], [100, 800, 100])
    found = resampling.bca_interval(tied, 0.5, 0.0)
    plain = resampling.percentile_interval(tied)
    assert (found.low, found.high) == (plain.low, plain.high)
    assert resampling.bca_interval(tied, 0.3, 0.0) is None
    assert resampling.bca_interval(tied, 0.7, 0.0) is None
    assert resampling.bca_interval(tied, 0.5, float("nan")) is None


def test_a_p_value_counts_replicates_at_zero_on_both_sides():
    replicates = np.array([*[0.0] * 10, *[0.1] * 85, *[-0.1] * 4])
    assert resampling.bootstrap_p_value(replicates) == pytest.approx(2 * 15 / 100)
    assert resampling.bootstrap_p_value(-replicates) == pytest.approx(2 * 15 / 100)
    assert resampling.bootstrap_p_value(np.full(99, 1.0)) == pytest.approx(2 / 100)
    assert resampling.bootstrap_p_value(np.zeros(99)) == 1.0


def test_the_jackknife_leaves_out_one_unit_of_each_pattern():
    multiplicity = np.array([2, 1, 3], dtype=np.int64)
    weights, counts = resampling.leave_out_weights(multiplicity, 0, 3)
    assert weights.tolist() == [[1, 1, 3], [2, 0, 3], [2, 1, 2]]
    assert counts.tolist() == [2, 1, 3]
    rest, _ = resampling.leave_out_weights(multiplicity, 1, 3)
    assert rest.tolist() == weights[1:].tolist()


def test_the_jackknife_of_many_patterns_leaves_out_a_thousand_groups():
    multiplicity = np.full(2500, 2, dtype=np.int64)
    assert resampling.jackknife_groups(multiplicity) == 1000
    weights, counts = resampling.leave_out_weights(multiplicity, 0, 1000)
    assert (weights.sum(axis=0) == 2 * 999).all()
    assert set(weights.sum(axis=1)) == {5000 - 6, 5000 - 4}
    assert set(counts) == {1.0}


def test_the_acceleration_is_that_of_the_jackknife():
    sample = np.array([1.0, 2.0, 2.0, 9.0])

    def mean(weights):
        return weights @ sample[:, np.newaxis] / weights.sum(axis=1, keepdims=True)

    influence = sample - sample.mean()
    expected = np.sum(influence**3) / (6 * np.sum(influence**2) ** 1.5)
    for values, multiplicity in ((sample, [1, 1, 1, 1]), (np.array([1.0, 2.0, 9.0]), [1, 2, 1])):

        def statistic(weights, values=values):
            return weights @ values[:, np.newaxis] / weights.sum(axis=1, keepdims=True)

        drawn = resampling.bootstrap(statistic, np.array(multiplicity), replicates=10)
        assert drawn.acceleration[0] == pytest.approx(expected)
        assert drawn.values[0] == sample.mean()


def test_a_constant_has_no_acceleration():
    drawn = resampling.bootstrap(
        lambda w: np.ones((len(w), 1)), np.ones(5, np.int64), replicates=10
    )
    assert drawn.acceleration.tolist() == [0.0]


def test_weights_are_drawn_by_their_multiplicity():
    multiplicity = np.array([8, 1, 1], dtype=np.int64)
    weights = resampling.draw_weights(multiplicity, 0, 2000)
    assert (weights.sum(axis=1) == 10).all()
    assert weights.mean(axis=0) == pytest.approx([8, 1, 1], abs=0.1)
    single = resampling.draw_weights(np.ones(10, np.int64), 0, 2000)
    assert (single.sum(axis=1) == 10).all()
    assert single.mean(axis=0) == pytest.approx(np.ones(10), abs=0.1)
    assert single.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.15)


def test_blocks_fit_into_the_cache():
    assert resampling.block_length(1) == 2**19
    assert resampling.block_length(2**20) == 1
    assert resampling.block_length(1000) == 524


@pytest.mark.parametrize("chance", ["fleiss", "gwet"])
def test_agreement_of_one_case_has_a_value_and_no_interval(chance):
    counts = agreement.RaterCounts(np.array([[2, 1, 0]]))
    value, error, interval = agreement.agreement_by_formula(counts, chance=chance)
    assert np.isfinite(value)
    assert np.isnan(error)
    assert interval is None


def test_an_interval_of_agreement_stays_between_minus_one_and_one():
    disagreeing = agreement.RaterCounts(np.array([[1, 1]] * 3 + [[2, 0]]))
    _, _, low = agreement.agreement_by_formula(disagreeing, chance="gwet")
    agreeing = agreement.RaterCounts(np.array([[2, 0], [2, 0], [0, 2], [1, 1]]))
    _, error, high = agreement.agreement_by_formula(agreeing, chance="gwet")
    assert low.low == -1.0
    assert high.high == 1.0
    value = agreement.agreement_by_formula(agreeing, chance="gwet")[0]
    assert high.low == pytest.approx(max(-1.0, value - t.ppf(0.975, 3) * error))


def test_a_case_with_one_answer_counts_for_categories_only():
    terms = agreement.RaterCounts(np.array([[1, 0], [2, 0], [1, 1], [0, 0]])).terms()
    assert terms.tolist() == [[0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0.5, 0.5], [0, 0, 0, 0]]


def test_covariances_are_averaged_by_what_two_figures_share():
    covariance = np.arange(16.0).reshape(2, 2, 2, 2) ** 3
    found = mrmc.average_covariances(covariance)
    pairs = {"variance": [], "cov1": [], "cov2": [], "cov3": []}
    for i, j, k, m in np.ndindex(2, 2, 2, 2):
        name = {(1, 1): "variance", (0, 1): "cov1", (1, 0): "cov2", (0, 0): "cov3"}[i == k, j == m]
        pairs[name].append(covariance[i, j, k, m])
    assert found == mrmc.ErrorCovariances(**{name: np.mean(v) for name, v in pairs.items()})
    single = mrmc.average_covariances(np.ones((2, 1, 2, 1)))
    assert (single.cov2, single.cov3) == (0.0, 0.0)


def test_negative_covariance_between_readers_does_not_reduce_the_error():
    figures = np.array([[0.8, 0.7, 0.75], [0.85, 0.8, 0.78]])
    none = mrmc.obuchowski_rockette(figures, mrmc.ErrorCovariances(4e-4, 2e-4, 1e-4, 1e-4))
    negative = mrmc.obuchowski_rockette(figures, mrmc.ErrorCovariances(4e-4, 2e-4, 1e-4, 2e-4))
    assert negative.random_readers.error == none.random_readers.error
    assert negative.fixed_readers.error == none.fixed_readers.error
    assert none.random_readers.degrees_of_freedom == pytest.approx(2.0)
    assert none.fixed_readers.degrees_of_freedom == np.inf
    assert none.random_readers.value == pytest.approx(0.06)


def test_power_ignores_negative_components():
    def power_of(variance, cov2, cov3):
        covariances = mrmc.ErrorCovariances(4e-4, 2e-4, cov2, cov3)
        return power.multi_reader_power(
            0.03, 6, reader_by_test_variance=variance, covariances=covariances
        )

    assert power_of(-1e-3, 1e-4, 2e-4) == power_of(0.0, 1e-4, 1e-4)
    assert power_of(1e-4, 1e-4, 1e-4) < power_of(0.0, 1e-4, 1e-4)
    assert power_of(0.0, 2e-4, 1e-4) < power_of(0.0, 1e-4, 1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_a_proportion_that_is_planned_lies_between_0_and_1(value):
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        power.size_for_sensitivity(value, 0.05)
    with pytest.raises(InputError, match="half-width"):
        power.size_for_sensitivity(0.9, value)


def test_a_prevalence_of_one_needs_no_further_hips():
    size = power.size_for_sensitivity(0.9, 0.1, prevalence=1.0)
    assert size.hips == size.cases
    with pytest.raises(InputError, match="prevalence"):
        power.size_for_sensitivity(0.9, 0.1, prevalence=1.1)


def test_a_true_difference_changes_the_hips_that_non_inferiority_needs():
    equal = power.size_for_non_inferiority(0.15)
    better = power.size_for_non_inferiority(0.15, difference=0.02)
    worse = power.size_for_non_inferiority(0.15, difference=-0.02)
    assert better.hips < equal.hips < worse.hips
    z = norm.ppf(0.975) + norm.ppf(0.8)
    assert better.hips == int(np.ceil(z**2 * (0.15 - 0.02**2) / 0.07**2))
    assert better.by_simulation == pytest.approx(better.by_formula, abs=0.04)
    assert worse.by_simulation == pytest.approx(worse.by_formula, abs=0.04)


def test_no_gain_is_found_as_rarely_as_it_should_be():
    plan = power.ReaderStudyPlan(5, 0.8, 0.0)
    assert power.simulated_reader_power(plan, 120, 200) < 0.08


def test_a_planned_study_has_the_covariances_of_its_correlations():
    plan = power.ReaderStudyPlan(4, 0.7, 0.2, 0.5, 0.4, 0.3)
    found = plan.covariances(100)
    assert found.variance == pytest.approx(0.8 * 0.2 / 100)
    parts = (found.cov1, found.cov2, found.cov3)
    assert parts == pytest.approx(tuple(c * found.variance for c in (0.5, 0.4, 0.3)))


def test_bins_of_confidence_include_their_upper_edge():
    edges = np.array([0.0, 1 / 15, 1 / 15 + 1e-9, 0.5, 1.0])
    assert scores.calibration_bins(edges).tolist() == [0, 0, 1, 7, 14]


def test_the_brier_score_runs_from_0_to_2():
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    assert scores.brier_terms(certain, np.array([0, 1, 0])).tolist() == [0.0, 2.0, 0.5]
    assert certain[0].tolist() == [1.0, 0.0]


def test_a_replicate_without_one_kind_has_no_auc():
    ranked = scores.rank_scores(np.array([0.1, 0.9, 0.5]), np.array([False, True, True]))
    weights = np.array([[1.0, 1, 1], [0, 1, 2], [3, 0, 0]])
    area, precision = scores.weighted_auc_and_ap(weights, ranked)
    assert area[0] == precision[0] == 1.0
    assert np.isnan([*area[1:], *precision[1:]]).all()


def test_statistics_of_several_hips_per_patient_use_the_patients_weights():
    rng = np.random.default_rng(3)
    probabilities, truth = rng.dirichlet(np.ones(3), 8), rng.integers(0, 3, 8)
    patients = np.arange(8) // 2
    weights = np.array([[1.0, 2.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    by_patient = scores.score_statistic(
        weights,
        scores.score_tables(probabilities, truth, ((False, True, True),), patients=patients),
    )
    by_hip = scores.score_statistic(
        np.repeat(weights, 2, axis=1),
        scores.score_tables(probabilities, truth, ((False, True, True),)),
    )
    np.testing.assert_allclose(by_patient, by_hip)


def test_a_ratio_without_a_denominator_is_undefined():
    found = metrics.ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    assert found[0] == 0.5
    assert np.isnan(found[1])
    averaged = metrics.mean_of_defined(np.array([[1.0, np.nan, 0.0], [np.nan] * 3]))
    assert averaged[0] == 0.5
    assert np.isnan(averaged[1])


def test_two_readers_are_enough_for_the_analysis():
    figures = np.array([[0.8, 0.7], [0.85, 0.8]])
    found = mrmc.obuchowski_rockette(figures, mrmc.ErrorCovariances(4e-4, 2e-4, 2e-4, 1e-4))
    assert found.figures_of_merit is figures
    assert found.covariances.cov1 == 2e-4
    # By hand: the interaction's mean square is 0.000625, and R (cov2 - cov3) is 0.0002.
    assert found.random_readers.value == pytest.approx(0.075)
    assert found.random_readers.error == pytest.approx(np.sqrt(0.000625 + 0.0002))
    assert found.random_readers.degrees_of_freedom == pytest.approx((0.000825 / 0.000625) ** 2)
    assert found.fixed_readers.error == pytest.approx(np.sqrt(4e-4 - 2e-4 + 1e-4))


def test_a_gain_cannot_raise_accuracy_to_one():
    with pytest.raises(InputError, match="accuracy with the gain must lie between 0 and 1"):
        power.size_for_readers(power.ReaderStudyPlan(6, 0.97, 0.03))
