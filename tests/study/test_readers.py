"""A reader study's figures, against numbers worked out beside them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar

from hipedge.errors import InputError
from hipedge.study.cases import match_predictions
from hipedge.study.inputs import read_labels, read_predictions, read_reads
from hipedge.study.reader_analysis import ReaderSettings, analyse_readers
from hipedge.study.reader_study import match_reads
from hipedge.study.report.pictures import NoPictures
from hipedge.study.report.reader_study import write_reader_study

SETTINGS = ReaderSettings(replicates=400)


@pytest.fixture(scope="module")
def study(simulated):
    labels = read_labels(simulated / "labels.csv")
    cases = match_predictions(labels, read_predictions(simulated / "predictions.csv"))
    return match_reads(read_reads(simulated / "reads.csv"), labels, cases)


@pytest.fixture(scope="module")
def results(study):
    return analyse_readers(study, SETTINGS)


def table_of(results, key):
    return next(table for table in results.tables if table.key == key)


def on_hips(study, chosen):
    """The study on the chosen hips only."""
    return replace(
        study,
        cases=study.cases.select(chosen),
        answers=study.answers[:, :, chosen],
        confidence=study.confidence[:, :, chosen],
        seconds=study.seconds[:, :, chosen],
    )


def first_hips(study):
    """Which hips are their patient's first: one a patient."""
    first = np.zeros(len(study.cases), dtype=bool)
    first[np.unique(study.cases.patients, return_index=True)[1]] = True
    return first


def test_each_readers_figures_agree_with_scikit_learn(study, results):
    for name, _, phase, found in results.raters[1:]:
        answers = study.answers[study.readers.index(name), study.phases.index(phase)]
        assert found["accuracy", None].value == np.mean(answers == study.cases.truth)
        assert found["macro F1", None].value == pytest.approx(
            f1_score(study.cases.truth, answers, average="macro")
        )


def test_differences_are_the_models_less_the_readers(study, results):
    model = study.model_correct.mean()
    for reader, phase, metric, *_, difference, _p, _holm in table_of(
        results, "model-less-readers"
    ).rows:
        if metric == "accuracy":
            r, p = study.readers.index(reader), study.phases.index(phase)
            assert difference.value == pytest.approx(model - study.correct[r, p].mean())


def test_a_grade_counts_as_the_mean_of_its_readers(study, results):
    rows = table_of(results, "model-less-grades").rows
    junior = next(r for r in rows if r[0] == "junior" and r[2] == "alone" and r[3] == "accuracy")
    of_grade = [r for r, grade in enumerate(study.grades) if grade == "junior"]
    assert junior[1] == len(of_grade) == 2
    assert junior[5].value == pytest.approx(study.correct[of_grade, 0].mean())


def test_a_paired_interval_is_narrower_than_one_of_unrelated_readers(study, results):
    """A reader's two phases share their noise, so the gain's interval must be the narrower."""
    row = next(r for r in table_of(results, "assistance").rows if r[:2] == ("R6", "accuracy"))
    paired = row[4].shown.high - row[4].shown.low
    raters = {(name, phase): found for name, _, phase, found in results.raters}
    widths = [
        raters["R6", phase]["accuracy", None].intervals["percentile"]
        for phase in ("alone", "assisted")
    ]
    apart = np.hypot(*(w.high - w.low for w in widths))
    assert paired < apart


def test_mcnemar_is_given_for_independent_hips_only(study, results):
    assert "p (McNemar, exact)" not in table_of(results, "model-less-readers").columns
    alone = on_hips(study, first_hips(study))
    rows = table_of(analyse_readers(alone, SETTINGS), "model-less-readers").rows
    a, b = alone.model_correct, alone.correct[5, 0]
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    found = next(row[-1] for row in rows if row[:3] == ("R6", "alone", "accuracy"))
    assert float(found) == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-4)


def test_pairwise_kappa_agrees_with_scikit_learn(study, results):
    for p in range(2):
        expected = cohen_kappa_score(study.answers[1, p], study.answers[4, p])
        assert results.kappas[p, 1, 4] == pytest.approx(expected)
        assert results.kappas[p, 4, 1] == pytest.approx(expected)


def test_the_range_of_kappa_is_that_of_the_pairs(results):
    rows = {(row[0], row[1]): row[2].value for row in table_of(results, "agreement").rows}
    assert rows["alone", "lowest Cohen's κ"] == np.nanmin(results.kappas[0])
    assert rows["assisted", "highest Cohen's κ"] == np.nanmax(results.kappas[1])


def test_automation_bias_counts_what_the_model_changed(study, results):
    row = table_of(results, "automation-bias").rows[0]
    alone, assisted = study.correct[0]
    at_risk = alone & ~study.model_correct
    assert row[2] == f"{np.sum(at_risk & ~assisted)} of {at_risk.sum()}"
    could_help = ~alone & study.model_correct
    assert row[5].value == pytest.approx(assisted[could_help].mean())


def test_reading_times_are_compared_where_both_phases_were_timed(study, results):
    row = table_of(results, "reading-time").rows[0]
    alone, assisted = study.seconds[0]
    assert row[2].value == np.median(alone)
    assert row[4].value == pytest.approx(np.exp(np.mean(np.log(assisted) - np.log(alone))))
    assert row[4].shown.high < 1


def test_multi_reader_figures_are_the_readers_means_and_aucs(study, results):
    accuracy = results.multi_reader["accuracy"]
    np.testing.assert_allclose(accuracy.figures_of_merit, study.correct.mean(axis=2).T)
    assert accuracy.random_readers.error > accuracy.fixed_readers.error
    abnormal = study.cases.truth > 0
    rating = np.where(study.answers[2, 0] > 0, 1, -1) * study.confidence[2, 0]
    found = results.multi_reader["AUC, any abnormality"].figures_of_merit[0, 2]
    assert found == pytest.approx(roc_auc_score(abnormal, rating))


def test_readers_who_all_answer_alike_leave_undefined_what_is_undefined(study):
    same = replace(study, answers=np.repeat(study.answers[:1, :1], 6, 0).repeat(2, 1))
    found = analyse_readers(same, ReaderSettings(replicates=100))
    assert found.multi_reader["accuracy"].random_readers.interval is None
    gains = [row[4] for row in table_of(found, "assistance").rows]
    assert all(gain.value == 0 and gain.shown.low == gain.shown.high == 0 for gain in gains)
    normal = replace(study, answers=np.zeros_like(study.answers))
    agreement = table_of(analyse_readers(normal, ReaderSettings(replicates=100)), "agreement")
    assert not next(row for row in agreement.rows if row[1] == "Fleiss' κ")[2].defined


def in_one_phase(study, phase):
    p = study.phases.index(phase)
    return replace(
        study,
        phases=(phase,),
        answers=study.answers[:, [p]],
        confidence=study.confidence[:, [p]],
        seconds=study.seconds[:, [p]],
    )


def test_a_study_of_one_phase_compares_model_and_readers_and_no_more(study):
    found = analyse_readers(in_one_phase(study, "alone"), ReaderSettings(replicates=100))
    keys = {table.key for table in found.tables}
    assert {"model-less-readers", "non-inferiority"} <= keys
    assert not keys & {"assistance", "automation-bias", "multi-reader"}


def test_readers_who_never_read_alone_give_no_verdict(study, tmp_path):
    assisted = in_one_phase(study, "assisted")
    found = analyse_readers(assisted, ReaderSettings(replicates=100))
    assert found.non_inferiority == ()
    keys = {table.key for table in found.tables}
    assert "model-less-readers" in keys
    assert "non-inferiority" not in keys
    report = write_reader_study(found, tmp_path, sources={}, pictures=NoPictures())
    text = report.read_text(encoding="utf-8")
    assert "readers alone:" not in text
    assert "Non-inferiority</h2>" not in text
    assert "Non-inferiority is not judged" in text


def test_one_reader_is_no_reader_study(study):
    single = replace(study, readers=("R1",), grades=("junior",), answers=study.answers[:1])
    with pytest.raises(InputError, match="at least two readers"):
        analyse_readers(single, SETTINGS)
