"""Paired comparisons, recomputed from the same replicates: who is compared with whom, and how."""

import numpy as np
import pytest
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from hipedge.study.cases import match_predictions
from hipedge.study.comparisons import p_text, tango_interval
from hipedge.study.inputs import FilmName, Label, Prediction, Read
from hipedge.study.reader_analysis import ReaderSettings, analyse_readers
from hipedge.study.reader_study import match_reads
from hipedge.study.resampling import draw_weights
from hipedge.types import Side

N = 60
SETTINGS = ReaderSettings(replicates=300, seed=5)
READERS = {"R1": "junior", "R2": "junior", "R3": "senior"}
# Which hips each rater gets wrong; R1 is far worse than the model alone, R3 as much better.
WRONG = {
    "model": set(range(0, 14)),
    ("R1", "alone"): set(range(10, 42)),
    ("R1", "assisted"): set(range(10, 30)),
    ("R2", "alone"): set(range(5, 22)),
    ("R2", "assisted"): set(range(6, 26)),
    ("R3", "alone"): {1},
    ("R3", "assisted"): {1, 2},
}
TRUTH = np.arange(N) % 3


def answers_of(rater):
    return [(k + 1) % 3 if i in WRONG[rater] else k for i, k in enumerate(TRUTH)]


def study_of(hips_per_patient=1, phases=("alone", "assisted")):
    films = [FilmName(case=str(i)) for i in range(N)]
    patients = [f"p{i // hips_per_patient}" for i in range(N)]
    labels = [
        Label(i, film, Side.RIGHT, int(k), patient)
        for i, (film, k, patient) in enumerate(zip(films, TRUTH, patients, strict=True))
    ]
    cases = match_predictions(
        labels,
        [
            Prediction(f, Side.RIGHT, int(k))
            for f, k in zip(films, answers_of("model"), strict=True)
        ],
    )
    reads = [
        Read(i, film, Side.RIGHT, reader, grade, phase, int(answer))
        for reader, grade in READERS.items()
        for phase in phases
        for i, (film, answer) in enumerate(zip(films, answers_of((reader, phase)), strict=True))
    ]
    return match_reads(reads, labels, cases)


@pytest.fixture(scope="module")
def results():
    return analyse_readers(study_of(), SETTINGS)


@pytest.fixture(scope="module")
def clustered():
    return analyse_readers(study_of(hips_per_patient=2), SETTINGS)


def rows_of(results, key):
    return next(table for table in results.tables if table.key == key).rows


def correct(rater):
    return np.array(answers_of(rater)) == TRUTH


def accuracy_replicates(rater):
    weights = draw_weights(np.ones(N, dtype=np.int64), 0, SETTINGS.replicates, seed=SETTINGS.seed)
    return weights @ correct(rater) / N


def f1_replicates(rater):
    weights = draw_weights(np.ones(N, dtype=np.int64), 0, SETTINGS.replicates, seed=SETTINGS.seed)
    answers = answers_of(rater)
    return np.array([f1_score(TRUTH, answers, sample_weight=w, average="macro") for w in weights])


def two_sided(replicates):
    at_most = (1 + np.sum(replicates <= 0)) / (1 + replicates.size)
    at_least = (1 + np.sum(replicates >= 0)) / (1 + replicates.size)
    return min(1.0, 2 * min(at_most, at_least))


def assert_is_difference(cell, first, second, replicates):
    """The cell is first less second, with the percentile interval of these replicates."""
    assert cell.value == pytest.approx(first - second)
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert (cell.shown.low, cell.shown.high) == pytest.approx((low, high))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("phase", ["alone", "assisted"])
def test_the_model_less_a_reader_is_resampled_with_the_same_patients(results, reader, phase):
    row = next(
        r for r in rows_of(results, "model-less-readers") if r[:3] == (reader, phase, "accuracy")
    )
    replicates = accuracy_replicates("model") - accuracy_replicates((reader, phase))
    model, other = correct("model").mean(), correct((reader, phase)).mean()
    assert (row[3].value, row[4].value) == pytest.approx((model, other))
    assert_is_difference(row[5], model, other, replicates)
    assert row[6] == p_text(two_sided(replicates))


def test_a_model_better_than_a_reader_has_a_positive_difference_and_a_worse_one_a_negative(results):
    found = {r[:3]: r[5] for r in rows_of(results, "model-less-readers")}
    assert found["R1", "alone", "accuracy"].shown.low > 0
    assert found["R3", "alone", "accuracy"].shown.high < 0


def test_macro_f1_is_compared_as_accuracy_is(results):
    row = next(
        r for r in rows_of(results, "model-less-readers") if r[:3] == ("R1", "alone", "macro F1")
    )
    first, second = (
        f1_score(TRUTH, answers_of(rater), average="macro") for rater in ("model", ("R1", "alone"))
    )
    replicates = f1_replicates("model") - f1_replicates(("R1", "alone"))
    assert_is_difference(row[5], first, second, replicates)


def test_a_grade_is_the_mean_of_its_readers_in_every_replicate(results):
    row = next(
        r
        for r in rows_of(results, "model-less-grades")
        if r[:4] == ("junior", 2, "alone", "accuracy")
    )
    raters = [("R1", "alone"), ("R2", "alone")]
    mean = np.mean([correct(rater).mean() for rater in raters])
    replicates = accuracy_replicates("model") - np.mean(
        [accuracy_replicates(rater) for rater in raters], axis=0
    )
    assert (row[4].value, row[5].value) == pytest.approx((correct("model").mean(), mean))
    assert_is_difference(row[6], correct("model").mean(), mean, replicates)
    names = list(dict.fromkeys(r[:2] for r in rows_of(results, "model-less-grades")))
    assert names == [("junior", 2), ("senior", 1), ("all readers", 3)]


@pytest.mark.parametrize(("reader", "gain"), [("R1", 12 / 60), ("R2", -3 / 60), ("R3", -1 / 60)])
def test_the_gain_from_assistance_is_assisted_less_alone(results, reader, gain):
    row = next(r for r in rows_of(results, "assistance") if r[:2] == (reader, "accuracy"))
    alone, assisted = (reader, "alone"), (reader, "assisted")
    assert (row[2].value, row[3].value) == (correct(alone).mean(), correct(assisted).mean())
    assert row[4].value == pytest.approx(gain)
    replicates = accuracy_replicates(assisted) - accuracy_replicates(alone)
    assert_is_difference(row[4], correct(assisted).mean(), correct(alone).mean(), replicates)


def exact_mcnemar(first, second):
    a, b = correct(first), correct(second)
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    return mcnemar(table, exact=True).pvalue


def test_mcnemar_compares_the_two_raters_of_its_row(results):
    for reader, phase, metric, *_, p_mcnemar in rows_of(results, "model-less-readers"):
        if metric == "accuracy":
            assert p_mcnemar == p_text(exact_mcnemar("model", (reader, phase)))
        else:
            assert p_mcnemar is None


def test_mcnemar_of_assistance_compares_a_readers_two_phases_and_no_groups(results):
    for name, metric, *_, p_mcnemar in rows_of(results, "assistance"):
        if metric == "accuracy" and name in READERS:
            expected = exact_mcnemar((name, "assisted"), (name, "alone"))
            assert p_mcnemar == p_text(expected)
        else:
            assert p_mcnemar is None


@pytest.mark.parametrize("key", ["model-less-readers", "model-less-grades", "assistance"])
def test_holms_correction_runs_over_all_rows_of_a_table(results, key):
    table = next(table for table in results.tables if table.key == key)
    columns = table.columns
    raw, adjusted = (
        [float(row[columns.index(name)].lstrip("< ")) for row in table.rows]
        for name in ("p", "p (Holm)")
    )
    np.testing.assert_allclose(adjusted, multipletests(raw, method="holm")[1], atol=2e-3)


def test_non_inferiority_to_a_reader_is_by_tangos_interval_and_the_models_side(results):
    verdicts = {(name, metric): verdict for name, metric, verdict in results.non_inferiority}
    for reader in READERS:
        model, other = correct("model"), correct((reader, "alone"))
        counts = int(np.sum(model & ~other)), int(np.sum(other & ~model))
        found = verdicts[reader, "accuracy"]
        assert found.interval == tango_interval(*counts, N)
        assert found.difference == pytest.approx(model.mean() - other.mean())
    assert verdicts["R1", "accuracy"].verdict == "superior"
    assert verdicts["R3", "accuracy"].verdict == "inferior"


def test_non_inferiority_to_a_group_is_by_the_paired_bootstrap(results):
    verdicts = {(name, metric): verdict for name, metric, verdict in results.non_inferiority}
    replicates = accuracy_replicates("model") - np.mean(
        [accuracy_replicates((reader, "alone")) for reader in READERS], axis=0
    )
    found = verdicts["all readers", "accuracy"]
    mean = np.mean([correct((reader, "alone")).mean() for reader in READERS])
    assert found.difference == pytest.approx(correct("model").mean() - mean)
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.p_value == (1 + np.sum(replicates <= -0.05)) / (1 + replicates.size)
    of_f1 = f1_replicates("model") - f1_replicates(("R3", "alone"))
    low, high = np.quantile(of_f1, [0.025, 0.975])
    f1 = verdicts["R3", "macro F1"]
    assert (f1.interval.low, f1.interval.high) == pytest.approx((low, high))


def test_the_table_of_non_inferiority_has_every_verdict_with_its_margin(results):
    rows = rows_of(results, "non-inferiority")
    assert [row[:2] for row in rows] == [found[:2] for found in results.non_inferiority]
    for row, (_, _, verdict) in zip(rows, results.non_inferiority, strict=True):
        assert row[2].value == verdict.difference
        assert row[2].shown == verdict.interval
        assert row[3].value == -0.05
        assert row[4:] == (p_text(verdict.p_value), verdict.verdict)


def test_hips_of_one_patient_are_drawn_together_and_have_no_test_for_independent_hips(clustered):
    for key in ("model-less-readers", "assistance"):
        table = next(table for table in clustered.tables if table.key == key)
        assert "p (McNemar, exact)" not in table.columns
    weights = draw_weights(np.ones(N // 2, dtype=np.int64), 0, SETTINGS.replicates, seed=5)
    difference = correct("model").astype(int) - correct(("R1", "alone"))
    replicates = np.repeat(weights, 2, axis=1) @ difference / N
    row = next(
        r for r in rows_of(clustered, "model-less-readers") if r[:3] == ("R1", "alone", "accuracy")
    )
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert (row[5].shown.low, row[5].shown.high) == pytest.approx((low, high))
    verdict = next(v for name, m, v in clustered.non_inferiority if (name, m) == ("R1", "accuracy"))
    assert (verdict.interval.low, verdict.interval.high) == pytest.approx((low, high))


def test_readers_without_a_phase_alone_are_compared_with_the_model_in_the_phase_they_have():
    only_assisted = analyse_readers(study_of(phases=("assisted",)), SETTINGS)
    row = rows_of(only_assisted, "model-less-readers")[0]
    assert row[:3] == ("R1", "assisted", "accuracy")
    assert row[4].value == correct(("R1", "assisted")).mean()
    assert only_assisted.non_inferiority == ()
