"""Each statistic against an implementation or a worked example that is not ours."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the independent implementations are not installed")

from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn import metrics as sk
from statsmodels.stats import contingency_tables, inter_rater, multitest, proportion

from hipedge.study import agreement, auc, comparisons, intervals, metrics, mrmc, resampling, scores

K = 8


@pytest.fixture(scope="module")
def study():
    """Truth (N,), probabilities (N, K) with ties, and answers (N,)."""
    rng = np.random.default_rng(11)
    truth = rng.choice(K, 600, p=[0.4, 0.2, 0.1, 0.05, 0.05, 0.05, 0.1, 0.05])
    logits = rng.normal(size=(600, K))
    logits[np.arange(600), truth] += 2
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities = np.round(probabilities, 2)
    return truth, probabilities, probabilities.argmax(axis=1)


def statistics_of(truth, answers):
    cells = metrics.confusion_cells(truth, answers, K)
    patterns = metrics.patterns_of(cells, np.arange(len(cells)), K * (K + 1))
    matrix = (patterns.multiplicity @ patterns.counts).reshape(1, K, K + 1)
    return {key: value[0] for key, value in metrics.confusion_statistics(matrix).items()}


def test_confusion_statistics_agree_with_scikit_learn(study):
    truth, _, answers = study
    found = statistics_of(truth, answers)
    assert found["accuracy", None] == pytest.approx(sk.accuracy_score(truth, answers), abs=1e-12)
    assert found["balanced accuracy", None] == pytest.approx(
        sk.balanced_accuracy_score(truth, answers), abs=1e-12
    )
    assert found["macro F1", None] == pytest.approx(
        sk.f1_score(truth, answers, average="macro"), abs=1e-12
    )
    for k in range(K):
        is_k, said_k = truth == k, answers == k
        expected = {
            "sensitivity": sk.recall_score(is_k, said_k),
            "specificity": sk.recall_score(~is_k, ~said_k),
            "PPV": sk.precision_score(is_k, said_k),
            "NPV": sk.precision_score(~is_k, ~said_k),
            "F1": sk.f1_score(is_k, said_k),
        }
        for name, value in expected.items():
            assert found[name, k] == pytest.approx(value, abs=1e-12), (name, k)


def test_a_hip_without_an_answer_is_a_miss_and_a_false_alarm():
    found = statistics_of(np.array([0, 0, 1, 1]), np.array([0, -1, 1, -1]))
    assert found["accuracy", None] == 0.5
    assert found["sensitivity", 1] == 0.5
    assert found["specificity", 1] == 0.5
    assert found["PPV", 1] == 1.0
    assert found["NPV", 1] == 1.0


def test_predictive_values_at_the_prevalence_of_the_data_are_those_of_the_data(study):
    truth, _, answers = study
    cells = metrics.confusion_cells(truth, answers, K)
    patterns = metrics.patterns_of(cells, np.arange(len(cells)), K * (K + 1))
    matrix = (patterns.multiplicity @ patterns.counts).reshape(1, K, K + 1)
    found = metrics.confusion_statistics(matrix, prevalence={3: float(np.mean(truth == 3))})
    assert found["PPV at prevalence", 3][0] == pytest.approx(found["PPV", 3][0], abs=1e-12)
    assert found["NPV at prevalence", 3][0] == pytest.approx(found["NPV", 3][0], abs=1e-12)


def test_patterns_stand_for_exactly_the_patients_behind_them():
    cells = np.array([5, 3, 3, 5, 1, 2, 2, 2])
    patients = np.array([0, 0, 1, 1, 2, 3, 4, 4])
    patterns = metrics.patterns_of(cells, patients, 6)
    assert patterns.multiplicity.sum() == 5
    by_row = {tuple(c): m for c, m in zip(patterns.counts, patterns.multiplicity, strict=True)}
    assert by_row[0, 0, 0, 1, 0, 1] == 2
    assert by_row[0, 0, 2, 0, 0, 0] == 1


def test_weighted_auc_and_average_precision_agree_with_scikit_learn(study):
    truth, probabilities, _ = study
    weights = np.random.default_rng(5).multinomial(600, np.full(600, 1 / 600), size=4)
    for k in range(K):
        ranked = scores.rank_scores(probabilities[:, k], truth == k)
        area, precision = scores.weighted_auc_and_ap(weights.astype(float), ranked)
        for row, weight in enumerate(weights):
            drawn = np.repeat(np.arange(600), weight)
            is_k, score = truth[drawn] == k, probabilities[drawn, k]
            assert area[row] == pytest.approx(sk.roc_auc_score(is_k, score), abs=1e-12)
            assert precision[row] == pytest.approx(
                sk.average_precision_score(is_k, score), abs=1e-12
            )


def test_macro_auc_brier_and_ece_agree_with_independent_code(study):
    truth, _, _ = study
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet(np.ones(K), 600)
    tables = scores.score_tables(probabilities, truth)
    found = scores.score_statistic(np.ones((1, 600)), tables)[0]
    assert found[0] == pytest.approx(
        sk.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"), abs=1e-12
    )
    one_hot = np.eye(K)[truth]
    brier = sum(sk.brier_score_loss(one_hot[:, k], probabilities[:, k]) for k in range(K))
    assert found[2] == pytest.approx(brier, abs=1e-12)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    ece = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found[3] == pytest.approx(ece, abs=1e-12)


def test_delong_gives_the_variance_that_proc_publishes_for_the_wfns_score():
    """pROC, tests/testthat: AUC and variance of `wfns` in aSAH (Robin et al. 2011, BMC
    Bioinformatics 12:77). The counts per score follow from the sensitivities and specificities
    that the same tests list: n/72 with a good and n/41 with a poor outcome.
    """
    good, poor = [37, 20, 3, 8, 4], [2, 12, 1, 8, 18]
    score = np.repeat(np.tile(np.arange(1.0, 6.0), 2), good + poor)
    outcome = np.repeat([False, True], [72, 41])
    found = auc.placements(score, outcome)
    assert found.auc == pytest.approx(0.823678861788618, abs=1e-14)
    assert auc.delong_variance(found) == pytest.approx(0.00146991470882363, abs=1e-16)


def naive_clustered_variance(score, positive, clusters):
    """Obuchowski 1997 by double loops, from the paper's formulas."""

    def psi(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    m, n = positive.sum(), (~positive).sum()
    x, y = score[positive], score[~positive]
    theta = sum(psi(a, b) for a in x for b in y) / (m * n)
    names = np.unique(clusters)
    up, down, plus, minus = [], [], [], []
    for name in names:
        mine = clusters == name
        xs, ys = score[mine & positive], score[mine & ~positive]
        up.append(sum(sum(psi(a, b) for b in y) / n for a in xs) - len(xs) * theta)
        down.append(sum(sum(psi(a, b) for a in x) / m for b in ys) - len(ys) * theta)
        plus.append(len(xs) > 0)
        minus.append(len(ys) > 0)
    i10, i01, i = sum(plus), sum(minus), len(names)
    s10 = i10 / ((i10 - 1) * m) * np.sum(np.square(up))
    s01 = i01 / ((i01 - 1) * n) * np.sum(np.square(down))
    s11 = i / (i - 1) * np.dot(up, down)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def test_clustered_variance_agrees_with_the_formulas_written_out():
    rng = np.random.default_rng(3)
    clusters = rng.integers(0, 40, 90)
    positive = rng.random(90) < 0.4
    score = np.round(rng.normal(size=90) + positive + rng.normal(size=40)[clusters], 1)
    found = auc.clustered_variance(auc.placements(score, positive), positive, clusters)
    assert found == pytest.approx(naive_clustered_variance(score, positive, clusters), rel=1e-12)


def test_clustered_variance_is_near_delong_where_every_hip_is_its_own_patient():
    rng = np.random.default_rng(4)
    positive = rng.random(2000) < 0.4
    score = rng.normal(size=2000) + positive
    placed = auc.placements(score, positive)
    clustered = auc.clustered_variance(placed, positive, np.arange(2000))
    assert clustered == pytest.approx(auc.delong_variance(placed), rel=2e-3)


def test_clustered_variance_grows_where_hips_of_a_patient_are_alike():
    rng = np.random.default_rng(6)
    positive = np.repeat(rng.random(300) < 0.4, 2)
    score = np.repeat(rng.normal(size=300), 2) + positive
    placed = auc.placements(score, positive)
    clustered = auc.clustered_variance(placed, positive, np.repeat(np.arange(300), 2))
    assert clustered == pytest.approx(2 * auc.delong_variance(placed), rel=0.02)


def test_the_roc_curve_is_scikit_learns(study):
    truth, probabilities, _ = study
    false, true = auc.roc_curve(probabilities[:, 2], truth == 2)
    expected_false, expected_true, _ = sk.roc_curve(
        truth == 2, probabilities[:, 2], drop_intermediate=False
    )
    np.testing.assert_allclose(false, expected_false, atol=1e-12)
    np.testing.assert_allclose(true, expected_true, atol=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (218, 228), (1, 3)])
def test_wilson_agrees_with_statsmodels(successes, n):
    found = intervals.wilson(successes, n)
    low, high = proportion.proportion_confint(successes, n, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_clustered_wilson_is_wilson_for_independent_hips_and_wider_for_pairs():
    rng = np.random.default_rng(8)
    right = rng.random(200) < 0.8
    assert intervals.clustered_wilson(right, np.arange(200)) == intervals.wilson(right.sum(), 200)
    doubled = intervals.clustered_wilson(np.repeat(right, 2), np.repeat(np.arange(200), 2))
    once = intervals.wilson(right.sum(), 200)
    assert doubled.high - doubled.low == pytest.approx(once.high - once.low, rel=0.01)


def test_mcnemar_agrees_with_statsmodels():
    rng = np.random.default_rng(9)
    first, second = rng.random(200) < 0.8, rng.random(200) < 0.7
    table = [[np.sum(first & second), np.sum(first & ~second)],
             [np.sum(~first & second), np.sum(~first & ~second)]]  # fmt: skip
    expected = contingency_tables.mcnemar(table, exact=True).pvalue
    assert comparisons.mcnemar_exact(first, second) == pytest.approx(expected, rel=1e-9)
    assert comparisons.mcnemar_exact(first, first) == 1.0


def test_holm_agrees_with_statsmodels_and_leaves_the_undefined_out():
    p_values = np.array([0.01, 0.04, 0.03, 0.2])
    expected = multitest.multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(comparisons.holm(p_values), expected)
    with_nan = comparisons.holm(np.append(p_values, np.nan))
    np.testing.assert_allclose(with_nan[:4], expected)
    assert np.isnan(with_nan[4])


def test_cohens_kappa_agrees_with_scikit_learn_and_with_irrcac(study):
    truth, _, answers = study
    matrix = sk.confusion_matrix(truth, answers)[np.newaxis].astype(float)
    assert agreement.cohen_kappa(matrix)[0] == pytest.approx(
        sk.cohen_kappa_score(truth, answers), abs=1e-12
    )
    # irrCAC's overview, data set cont3x3abstractors (Gwet 2014).
    abstractors = np.array([[[13, 0, 0], [0, 20, 7], [0, 4, 56]]], dtype=float)
    assert agreement.cohen_kappa(abstractors)[0] == pytest.approx(0.7964094, abs=5e-8)


# irrCAC's README: 15 patients, 6 psychiatrists, 5 categories (Fleiss 1971, table 1, in part).
SIX_RATERS = np.array(
    [[0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0],
     [2, 0, 4, 0, 0], [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6],
     [1, 0, 0, 5, 0], [1, 1, 0, 4, 0], [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1]]
)  # fmt: skip
# irrCAC's README: cac.raw4raters, with missing answers (0 here).
FOUR_RATERS = np.array(
    [[1, 1, 0, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
     [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [0, 5, 5, 5], [0, 0, 1, 1], [0, 0, 3, 0]]
)  # fmt: skip


def counts_of(answers, n_categories):
    return np.stack([np.sum(answers == k, axis=1) for k in range(1, n_categories + 1)], axis=1)


@pytest.mark.parametrize(
    ("chance", "counts", "value", "error", "interval", "precision"),
    [
        ("gwet", SIX_RATERS, 0.4448007, 0.08418757, (0.264, 0.625), 5e-8),
        ("fleiss", SIX_RATERS, 0.4139265, 0.08119291, (0.24, 0.588), 5e-8),
        ("gwet", counts_of(FOUR_RATERS, 5), 0.77544, 0.14295, (0.461, 1), 5e-6),
        ("fleiss", counts_of(FOUR_RATERS, 5), 0.76117, 0.15302, (0.424, 1), 5e-6),
    ],
)
def test_agreement_and_its_error_are_what_irrcac_publishes(
    chance, counts, value, error, interval, precision
):
    found = agreement.agreement_by_formula(agreement.RaterCounts(counts), chance=chance)
    assert found[0] == pytest.approx(value, abs=precision)
    assert found[1] == pytest.approx(error, abs=precision)
    assert (found[2].low, found[2].high) == pytest.approx(interval, abs=6e-4)


def test_gwets_ac1_of_two_raters_is_what_irrcac_publishes():
    table = {(0, 0): 13, (1, 1): 20, (1, 2): 7, (2, 1): 4, (2, 2): 56}
    counts = np.array([np.bincount(pair, minlength=3) for pair, n in table.items()
                       for _ in range(n)])  # fmt: skip
    value, error, _ = agreement.agreement_by_formula(agreement.RaterCounts(counts), chance="gwet")
    assert value == pytest.approx(0.8493305, abs=5e-8)
    # For a table of two raters irrCAC divides by n, for raw answers (as here) by n - 1.
    assert error * np.sqrt(99 / 100) == pytest.approx(0.04321747, abs=5e-8)


def test_fleiss_kappa_agrees_with_statsmodels():
    counts = np.random.default_rng(1).multinomial(6, np.full(K, 1 / K), size=80)
    sums = agreement.RaterCounts(counts).terms().sum(axis=0, keepdims=True)
    assert agreement.fleiss_kappa(sums)[0] == pytest.approx(
        inter_rater.fleiss_kappa(counts), abs=1e-12
    )


def test_agreement_is_undefined_where_every_answer_is_the_same():
    counts = np.zeros((20, K), dtype=int)
    counts[:, 0] = 6
    value, _, interval = agreement.agreement_by_formula(
        agreement.RaterCounts(counts), chance="fleiss"
    )
    assert np.isnan(value)
    assert interval is None
    assert np.isnan(agreement.cohen_kappa(np.array([[[9.0, 0.0], [0.0, 0.0]]]))[0])


# Van Dyke's data (1993), AUCs of five readers under two treatments, and what OR-DBM MRMC 2.51
# (Schartz, Hillis, Pesce and Berbaum; printed in RJafroc, inst/Iowa/VanDyke.txt) makes of them.
VAN_DYKE = np.array(
    [[0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
     [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169]]
)  # fmt: skip
JACKKNIFED = mrmc.ErrorCovariances(0.00080229, 0.00034661, 0.00034407, 0.00023903)


def test_obuchowski_rockette_gives_what_or_dbm_publishes_for_van_dyke():
    found = mrmc.obuchowski_rockette(VAN_DYKE, JACKKNIFED)
    assert found.reader_variance == pytest.approx(0.00153500, abs=2e-8)
    assert found.reader_by_test_variance == pytest.approx(0.00020040, abs=2e-8)
    random = found.random_readers
    assert random.value == pytest.approx(0.04380032, abs=1e-8)
    assert random.error == pytest.approx(0.02075, abs=5e-6)
    assert random.degrees_of_freedom == pytest.approx(15.26, abs=0.005)
    assert random.p_value == pytest.approx(0.0517, abs=5e-5)
    assert (random.interval.low, random.interval.high) == pytest.approx(
        (-0.00036, 0.08796), abs=1e-5
    )
    fixed = found.fixed_readers
    assert fixed.error == pytest.approx(0.01872, abs=5e-6)
    assert fixed.p_value == pytest.approx(0.0193, abs=5e-5)
    assert (fixed.interval.low, fixed.interval.high) == pytest.approx((0.00711, 0.08049), abs=1e-5)


def test_obuchowski_rockette_gives_what_mrmcaov_publishes_for_van_dyke():
    """MRMCaov for MATLAB 0.2, README (Smith and Hillis 2020): unbiased covariances."""
    unbiased = mrmc.ErrorCovariances(0.00078839, 0.00034167, 0.00033906, 0.00023561)
    found = mrmc.obuchowski_rockette(VAN_DYKE, unbiased)
    assert found.reader_variance == pytest.approx(0.0015365, abs=6e-8)
    assert found.reader_by_test_variance == pytest.approx(0.00020776, abs=2e-8)
    assert found.random_readers.degrees_of_freedom == pytest.approx(15.034, abs=2e-3)
    assert found.random_readers.p_value == pytest.approx(0.051162, abs=1e-5)


def test_the_jackknife_covariance_of_accuracy_is_the_sample_covariance():
    right = (np.random.default_rng(7).random((50, 2, 3)) < 0.7).astype(float)
    left_out = (right.sum(axis=0) - right) / 49
    found = mrmc.jackknife_covariance(left_out).reshape(6, 6)
    np.testing.assert_allclose(found, np.cov(right.reshape(50, 6).T) / 50, atol=1e-12)


def test_equal_readers_leave_the_analysis_undefined_and_one_reader_is_refused():
    nothing = mrmc.ErrorCovariances(0.0, 0.0, 0.0, 0.0)
    found = mrmc.obuchowski_rockette(np.full((2, 4), 0.8), nothing)
    assert found.random_readers.interval is None
    assert np.isnan(found.random_readers.p_value)
    with pytest.raises(ValueError, match="two readers"):
        mrmc.obuchowski_rockette(np.full((2, 1), 0.8), nothing)


def test_replicates_do_not_depend_on_how_they_are_divided():
    multiplicity = np.array([3, 1, 6], dtype=np.int64)
    whole = resampling.draw_weights(multiplicity, 0, 8)
    parts = [resampling.draw_weights(multiplicity, i, i + 2) for i in range(0, 8, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert (whole.sum(axis=1) == 10).all()


def test_bca_agrees_with_scipy():
    from scipy.stats import bootstrap as scipy_bootstrap

    sample = np.random.default_rng(12).exponential(size=60)

    def mean(weights):
        return weights @ sample[:, np.newaxis] / weights.sum(axis=1, keepdims=True)

    ours = resampling.bootstrap(mean, np.ones(60, dtype=np.int64), replicates=20_000).bca(0)
    theirs = scipy_bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.02 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.02 * width)


def test_patterns_and_patients_have_the_same_bootstrap_distribution(study):
    truth, _, answers = study
    patients = np.arange(600) // 2
    cells = metrics.confusion_cells(truth, answers, K)
    patterns = metrics.patterns_of(cells, patients, K * (K + 1))
    by_pattern = metrics.bootstrap_confusion(patterns, K, replicates=4000)
    each = np.zeros((300, K * (K + 1)))
    np.add.at(each, (patients, cells), 1)
    own = metrics.Patterns(each, np.ones(300, dtype=np.int64))
    by_patient = metrics.bootstrap_confusion(own, K, replicates=4000, seed=1)
    for name in metrics.OVERALL:
        a, b = by_pattern.replicates(name), by_patient.replicates(name)
        assert by_pattern.value(name) == pytest.approx(by_patient.value(name), abs=1e-12)
        assert a.mean() == pytest.approx(b.mean(), abs=6 * b.std() / np.sqrt(2000))
        assert a.std() == pytest.approx(b.std(), rel=0.08)


def test_a_category_that_is_mostly_absent_gets_no_bootstrap_interval():
    truth = np.array([0] * 99 + [1])
    cells = metrics.confusion_cells(truth, truth, 2)
    found = metrics.bootstrap_confusion(
        metrics.patterns_of(cells, np.arange(100), 6), 2, replicates=500
    )
    assert found.value("sensitivity", 1) == 1.0
    assert found.result.percentile(found.column("sensitivity", 1)) is None
    assert found.result.percentile(found.column("accuracy")) is not None


def test_the_published_intervals_come_out_of_the_counts_that_they_imply():
    """The study prints percentages only. 95.61 % (92.82–98.17) is what 218 of 228 give, and
    90.11 % (89.28–90.98) what 4,145 of 4,600 give: the counts are inferred, not published.
    """
    for right, n, low, high in [(218, 228, 92.82, 98.17), (4145, 4600, 89.28, 90.98)]:
        cells = metrics.confusion_cells(np.ones(n, int), (np.arange(n) < right).astype(int), 2)
        found = metrics.bootstrap_confusion(
            metrics.patterns_of(cells, np.arange(n), 6), 2, replicates=10_000
        )
        interval = found.result.percentile(found.column("accuracy"))
        # A replicate's grid is 100 / n; the ends of a 10,000-replicate interval scatter by
        # about 0.03 of its standard error more.
        slack = 100 / n + 0.1 * 100 * np.sqrt(right / n * (1 - right / n) / n)
        assert 100 * found.value("accuracy") == pytest.approx(100 * right / n)
        assert 100 * interval.low == pytest.approx(low, abs=slack)
        assert 100 * interval.high == pytest.approx(high, abs=slack)


def test_non_inferiority_is_read_off_the_interval():
    spread = np.linspace(-0.02, 0.02, 1001)
    assert comparisons.non_inferiority(-0.01, spread - 0.01).verdict == "non-inferior"
    assert comparisons.non_inferiority(-0.04, spread - 0.04).verdict == "not shown"
    assert comparisons.non_inferiority(-0.08, spread - 0.08).verdict == "inferior"
    assert comparisons.non_inferiority(0.03, spread + 0.03).verdict == "superior"
    assert comparisons.non_inferiority(0.0, np.full(1001, np.nan)).verdict == "undefined"


def test_a_bootstrap_p_value_is_near_the_exact_one_for_a_clear_case():
    sign = np.repeat([1.0, -1.0], [62, 38])

    def mean(weights):
        return weights @ sign[:, np.newaxis] / weights.sum(axis=1, keepdims=True)

    drawn = resampling.bootstrap(mean, np.ones(100, dtype=np.int64), replicates=10_000)
    found = resampling.bootstrap_p_value(drawn.replicates[:, 0])
    assert found == pytest.approx(binomtest(62, 100).pvalue, abs=0.012)


@pytest.mark.parametrize(("only_new", "only_old", "n"), [(40, 20, 160), (3, 9, 60), (0, 0, 50),
                                                          (7, 0, 7), (12, 12, 400)])  # fmt: skip
def test_tangos_interval_is_what_the_restricted_likelihood_gives(only_new, only_old, n):
    """At each end the score, with the nuisance fitted numerically, is the normal quantile."""
    found = comparisons.tango_interval(only_new, only_old, n)
    assert found.low <= (only_new - only_old) / n <= found.high
    for end in (found.low, found.high):
        if abs(end) > 1 - 1e-6:
            continue

        def loss(share, end=end):
            both = 1 - 2 * share - end
            counts = only_new, only_old, n - only_new - only_old
            chances = share + end, share, both
            return -sum(k * np.log(p) for k, p in zip(counts, chances, strict=True) if k)

        low, high = max(0.0, -end), (1 - end) / 2
        share = minimize_scalar(
            loss, bounds=(low + 1e-12, high - 1e-12), method="bounded", options={"xatol": 1e-12}
        ).x
        variance = (2 * share + end - end**2) / n
        score = ((only_new - only_old) / n - end) / np.sqrt(variance)
        assert abs(score) == pytest.approx(1.959964, abs=2e-3)


def test_accuracy_against_one_reader_is_judged_by_tangos_test():
    rng = np.random.default_rng(14)
    old = rng.random(300) < 0.85
    new = np.where(rng.random(300) < 0.1, rng.random(300) < 0.8, old)
    judged = comparisons.paired_non_inferiority(new, old)
    assert judged.verdict in ("non-inferior", "superior")
    assert judged.p_value < 0.025
    assert judged.difference == pytest.approx(new.mean() - old.mean())
    wide = comparisons.paired_non_inferiority(new[:20], old[:20], margin=0.001)
    assert (wide.p_value < 0.025) == (wide.interval.low > -0.001)
