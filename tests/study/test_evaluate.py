"""What an evaluation reports, against numbers worked out by hand or by scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from hipedge.errors import InputError
from hipedge.rules.operating_points import OperatingPoint
from hipedge.study.cases import match_predictions
from hipedge.study.estimates import CATEGORY_LABELS, POINTS, Estimate
from hipedge.study.evaluate import EvaluationSettings, evaluate
from hipedge.study.inputs import FilmName, Label, Prediction, read_labels, read_predictions
from hipedge.study.intervals import clustered_wilson
from hipedge.study.sources import split_cases
from hipedge.types import ABNORMAL, Category, FlagCriterion, Side

QUICK = EvaluationSettings(replicates=200)


@pytest.fixture(scope="module")
def cases(simulated):
    labels = read_labels(simulated / "labels.csv")
    return match_predictions(labels, read_predictions(simulated / "predictions.csv"))


@pytest.fixture(scope="module")
def evaluation(cases):
    settings = EvaluationSettings(
        replicates=400,
        prevalence={"any acute fracture": 0.05},
        operating_points=(OperatingPoint("strict", {Category.FEMORAL_NECK_FRACTURE: 0.9}),),
    )
    return evaluate(split_cases(cases, ["internal", "external"]), settings)


def table_of(data, key):
    return next(table for table in data.tables if table.key == key)


def made(answers):
    """Cases from (patient, side, truth, answer, probability of the answer); -1 is unread."""
    labels, predictions = [], []
    for row, (patient, side, truth, answer, sure) in enumerate(answers):
        film = FilmName(case=f"{patient}-{row}")
        labels.append(Label(row, film, side, truth, patient))
        share = [(1 - sure) / 7] * 8
        if answer >= 0:
            share[answer] = sure
            predictions.append(Prediction(film, side, answer, tuple(share)))
        else:
            predictions.append(Prediction(film, None, code="truncated"))
    return match_predictions(labels, predictions)


def test_overall_figures_agree_with_scikit_learn(cases, evaluation):
    names, codes = cases.groups["split"]
    internal = cases.select((codes == names.index("internal")) & cases.answered)
    found = evaluation.data_sets[0].overall
    truth, answer = internal.truth, internal.answer
    assert found["accuracy"].value == pytest.approx(sk.accuracy_score(truth, answer))
    assert found["macro F1"].value == pytest.approx(sk.f1_score(truth, answer, average="macro"))
    by_category = [sk.average_precision_score(truth == k, internal.probabilities[:, k])
                   for k in range(8)]  # fmt: skip
    assert found["macro average precision"].value == pytest.approx(np.mean(by_category))


def test_every_interval_holds_its_value_and_is_not_empty(evaluation):
    count = 0
    for data in evaluation.data_sets:
        for table in data.tables:
            for cell in (cell for row in table.rows for cell in row):
                if isinstance(cell, Estimate) and cell.defined:
                    for name, interval in cell.intervals.items():
                        if interval is not None and name != "percentile":
                            assert interval.low <= cell.value + 1e-9, (table.key, name)
                            assert interval.high >= cell.value - 1e-9, (table.key, name)
                            count += 1
    assert count > 300


def test_patients_with_several_hips_get_clustered_intervals(evaluation):
    auc = table_of(evaluation.data_sets[0], "categories").rows[0][7]
    assert next(iter(auc.intervals)) == "obuchowski"


def test_independent_hips_get_delongs_interval():
    hips = [(str(i), Side.RIGHT, i % 2, (i % 2) ^ (i % 7 == 0), 0.4 + i / 200) for i in range(80)]
    data = evaluate({"all": made(hips)}, QUICK).data_sets[0]
    assert next(iter(table_of(data, "categories").rows[0][7].intervals)) == "delong"


def test_unread_hips_are_left_out_and_counted_as_errors():
    hips = [(str(i), Side.RIGHT, 0, 0, 0.9) for i in range(8)]
    hips += [(str(i), Side.RIGHT, 3, 3, 0.9) for i in range(8, 16)]
    hips += [(str(i), Side.RIGHT, 3, -1, 0.9) for i in range(16, 20)]
    data = evaluate({"all": made(hips)}, QUICK).data_sets[0]
    assert data.overall["accuracy"].value == 1.0
    assert data.as_errors["accuracy"].value == 0.8
    assert ("no answer: truncated", 4) in table_of(data, "flow").rows
    assert data.questions["any acute fracture"]["sensitivity"].value == 1.0
    assert data.confusion[3, 8] == 4


def test_a_category_without_cases_is_undefined_and_not_zero():
    hips = [(str(i), Side.RIGHT, i % 2, i % 2, 0.9) for i in range(20)]
    rows = table_of(evaluate({"all": made(hips)}, QUICK).data_sets[0], "categories").rows
    dysplasia = rows[CATEGORY_LABELS.index("developmental dysplasia")]
    assert dysplasia[1] == 0
    assert not dysplasia[2].defined
    assert not dysplasia[7].defined
    assert dysplasia[3].value == 1.0


def test_a_patient_is_positive_where_any_hip_is():
    hips = [
        ("a", Side.RIGHT, 0, 0, 0.9), ("a", Side.LEFT, 3, 3, 0.9),
        ("b", Side.RIGHT, 0, 3, 0.9), ("b", Side.LEFT, 0, 0, 0.9),
        ("c", Side.RIGHT, 3, 0, 0.9), ("d", Side.RIGHT, 0, 0, 0.9),
    ]  # fmt: skip
    data = evaluate({"all": made(hips)}, QUICK).data_sets[0]
    by_name = {row[0]: row[1:] for row in table_of(data, "patients").rows}
    patients, accuracy, sensitivity, specificity, *_ = by_name["any acute fracture"]
    assert patients == 2
    assert accuracy.value == 0.5
    assert sensitivity.value == 0.5
    assert specificity.value == 0.5
    assert by_name["every hip right"][1].value == 0.5


def test_predictive_values_are_stated_at_the_prevalence_asked_for(evaluation):
    found = evaluation.data_sets[0].questions["any acute fracture"]
    sensitivity, specificity = found["sensitivity"].value, found["specificity"].value
    expected = 0.05 * sensitivity / (0.05 * sensitivity + 0.95 * (1 - specificity))
    assert found["PPV at prevalence"].value == pytest.approx(expected)
    assert found["PPV at prevalence"].value < found["PPV"].value
    note = table_of(evaluation.data_sets[0], "questions").note
    assert note == "Stated prevalence: any acute fracture 5.0%."


def test_thresholds_are_judged_on_the_probabilities(cases, evaluation):
    names, codes = cases.groups["split"]
    internal = cases.select((codes == names.index("internal")) & cases.scored)
    (row,) = table_of(evaluation.data_sets[0], "thresholds").rows
    called = internal.probabilities[:, 3] >= 0.9
    assert row[3].value == pytest.approx(called[internal.truth == 3].mean())
    flags = table_of(evaluation.data_sets[0], "operating-points").rows
    assert flags[0][2].value == pytest.approx(called[internal.truth > 0].mean())


def test_flag_rates_are_those_of_hips_and_films_without_a_finding(cases):
    point = OperatingPoint("half", dict.fromkeys(ABNORMAL, 0.5), FlagCriterion.AGAINST_NORMAL)
    settings = EvaluationSettings(replicates=100, operating_points=(point,), flag_hardware=True)
    (row,) = table_of(evaluate({"all": cases}, settings).data_sets[0], "flag-rates").rows
    scored = cases.select(cases.scored)
    margins = point.margins(scored.probabilities, hardware=True)
    flagged = (margins >= 0).any(axis=1)
    films = {
        film: [i for i, other in enumerate(scored.films) if other == film] for film in scored.films
    }
    clean = [hips for hips in films.values() if not scored.truth[hips].any()]
    assert row[1].value == pytest.approx(flagged[scored.truth == 0].mean())
    assert row[2].value == pytest.approx(np.mean([flagged[hips].any() for hips in clean]))
    assert row[3].value == pytest.approx(np.mean([flagged[h].any() for h in films.values()]))
    urgent = (margins[:, 3:5] >= 0).any(axis=1)
    assert row[4].value == pytest.approx(urgent[scored.truth == 3].mean())
    assert row[1].shown.low < row[1].value < row[1].shown.high


def test_implants_raise_no_flag_unless_the_site_wants_it(cases):
    points = (OperatingPoint("any", {Category.TOTAL_HIP_ARTHROPLASTY: 0.5}),)
    for wanted in (False, True):
        settings = EvaluationSettings(replicates=100, operating_points=points, flag_hardware=wanted)
        data = evaluate({"all": cases}, settings).data_sets[0]
        rows = {row[1]: row for row in table_of(data, "operating-points").rows}
        assert (rows["any abnormality"][2].value > 0) is wanted
        assert ("any abnormality but hardware" in rows) is not wanted


def test_groups_add_up_to_the_whole(evaluation):
    data = evaluation.data_sets[0]
    for group in ("site", "sex", "age", "vendor"):
        assert (
            sum(row[1] for row in table_of(data, f"by-{group}").rows) == data.overall["accuracy"].n
        )


def test_data_sets_are_compared_with_the_first(evaluation):
    rows = evaluation.differences.rows
    accuracy = next(row for row in rows if row[1] == "accuracy")
    internal, external = (data.overall["accuracy"].value for data in evaluation.data_sets)
    assert accuracy[0] == "external less internal"
    assert accuracy[4].value == pytest.approx(external - internal)
    assert accuracy[4].shown.low < accuracy[4].value < accuracy[4].shown.high


def test_disagreements_begin_with_missed_fractures(evaluation):
    rows = table_of(evaluation.data_sets[0], "disagreements").rows
    remarks = [row[-1] == "missed fracture" for row in rows]
    assert any(remarks)
    assert remarks == sorted(remarks, reverse=True)
    assert all(row[2] != row[3] for row in rows)


def test_predictions_without_probabilities_have_no_auc_and_say_nothing_of_it():
    labels = [Label(i, FilmName(case=str(i)), Side.RIGHT, i % 3, str(i)) for i in range(30)]
    plain = [Prediction(FilmName(case=str(i)), Side.RIGHT, i % 3) for i in range(30)]
    data = evaluate({"all": match_predictions(labels, plain)}, QUICK).data_sets[0]
    assert "macro AUC" not in data.overall
    assert data.rocs == ()
    assert data.reliability is None


def test_nothing_answered_is_an_error_and_so_is_an_unknown_prevalence(cases):
    nothing = made([("a", Side.RIGHT, 0, -1, 0.9)])
    with pytest.raises(InputError, match="no labelled hip has an answer"):
        evaluate({"all": nothing}, QUICK)
    with pytest.raises(InputError, match="no category or question is called hip"):
        evaluate({"all": cases}, EvaluationSettings(replicates=100, prevalence={"hip": 0.1}))


def test_a_split_that_no_label_has_is_an_error(cases):
    with pytest.raises(InputError, match="no label has the split later"):
        split_cases(cases, ["later"])


def ends(interval):
    return interval.low, interval.high


def clustered_cases():
    """100 hips of 70 patients with every kind of answer, and the arrays that they came from."""
    rng = np.random.default_rng(21)
    patients = [str(i if i < 70 else i - 70) for i in range(100)]
    truth = rng.integers(0, 8, 100)
    answer = np.where(rng.random(100) < 0.7, truth, rng.integers(0, 8, 100))
    answer[rng.choice(100, 9, replace=False)] = -1
    sure = rng.uniform(0.5, 0.99, 100)
    rows = [
        (p, Side.RIGHT, int(t), int(a), float(s))
        for p, t, a, s in zip(patients, truth, answer, sure, strict=True)
    ]
    return made(rows), truth, answer, np.unique(patients, return_inverse=True)[1]


def test_every_proportion_has_wilsons_interval_among_its_own_denominator():
    cases, truth, answer, patient = clustered_cases()
    data = evaluate({"all": cases}, QUICK).data_sets[0]
    read = answer >= 0
    for k, row in enumerate(table_of(data, "categories").rows):
        found = dict(zip(("sensitivity", "specificity", "PPV", "NPV", "F1"), row[2:7], strict=True))
        assert row[:2] == (CATEGORY_LABELS[k], np.sum((truth == k) & read))
        for name, among, success in (
            ("sensitivity", read & (truth == k), answer == k),
            ("specificity", read & (truth != k), answer != k),
            ("PPV", answer == k, truth == k),
            ("NPV", read & (answer != k), truth != k),
        ):
            assert found[name].n == among.sum(), name
            assert found[name].value == pytest.approx(success[among].mean()), name
            expected = clustered_wilson(success[among], patient[among])
            assert ends(found[name].intervals["wilson"]) == pytest.approx(ends(expected)), name
        assert "wilson" not in found["F1"].intervals
        assert found["F1"].n == row[1]
        assert found["F1"].value == pytest.approx(sk.f1_score(truth[read] == k, answer[read] == k))


def test_unanswered_hips_as_errors_count_in_every_denominator_but_the_predictive_values():
    cases, truth, answer, patient = clustered_cases()
    data = evaluate({"all": cases}, QUICK).data_sets[0]
    read = answer >= 0
    rows = table_of(data, "categories-intention-to-diagnose").rows
    for k, (label, n, sensitivity, specificity, ppv, npv, _) in enumerate(rows):
        assert (label, n) == (CATEGORY_LABELS[k], np.sum(truth == k))
        assert sensitivity.value == pytest.approx(np.mean(answer[truth == k] == k))
        rejected = read & (answer != k)
        assert specificity.value == pytest.approx(rejected[truth != k].mean())
        expected = clustered_wilson(rejected[truth != k], patient[truth != k])
        assert ends(specificity.intervals["wilson"]) == pytest.approx(ends(expected))
        assert ppv.value == pytest.approx(np.mean(truth[answer == k] == k))
        assert npv.value == pytest.approx(np.mean(truth[rejected] != k))
    accuracy = data.as_errors["accuracy"]
    assert accuracy.n == 100
    expected = clustered_wilson(truth == answer, patient)
    assert ends(accuracy.intervals["wilson"]) == pytest.approx(ends(expected))


def test_binary_questions_are_answered_by_category_and_ranked_by_probability():
    cases, truth, answer, _ = clustered_cases()
    data = evaluate({"all": cases}, QUICK).data_sets[0]
    read = answer >= 0
    rows = {row[0]: row for row in table_of(data, "questions").rows}
    for name, positive in (("any abnormality", range(1, 8)), ("any acute fracture", (3, 4))):
        is_so, call = np.isin(truth, positive)[read], np.isin(answer, positive)[read]
        score = cases.probabilities[read][:, list(positive)].sum(axis=1)
        _, n, sensitivity, specificity, ppv, npv, f1, area, precision = rows[name]
        assert n == is_so.sum()
        assert sensitivity.value == pytest.approx(sk.recall_score(is_so, call))
        assert specificity.value == pytest.approx(sk.recall_score(~is_so, ~call))
        assert ppv.value == pytest.approx(sk.precision_score(is_so, call))
        assert npv.value == pytest.approx(sk.precision_score(~is_so, ~call))
        assert f1.value == pytest.approx(sk.f1_score(is_so, call))
        assert area.value == pytest.approx(sk.roc_auc_score(is_so, score))
        assert area.n == precision.n == read.sum()
        assert precision.value == pytest.approx(sk.average_precision_score(is_so, score))


def test_the_columns_of_auc_hold_each_category_against_the_rest():
    cases, truth, answer, _ = clustered_cases()
    data = evaluate({"all": cases}, QUICK).data_sets[0]
    read = answer >= 0
    for k, row in enumerate(table_of(data, "categories").rows):
        score = cases.probabilities[read, k]
        assert row[7].value == pytest.approx(sk.roc_auc_score(truth[read] == k, score))
        assert row[8].value == pytest.approx(sk.average_precision_score(truth[read] == k, score))
    curve = data.rocs[2]
    assert curve.name == CATEGORY_LABELS[2]
    assert sk.auc(curve.false, curve.true) == pytest.approx(curve.auc.value)
    assert [roc.name for roc in data.rocs[8:]] == ["any abnormality", "any acute fracture"]


def test_the_ece_shows_the_interval_that_corrects_for_bias(evaluation):
    overall = evaluation.data_sets[0].overall
    assert list(overall["ECE"].intervals) == ["bca", "percentile"]
    assert list(overall["Brier score"].intervals) == ["percentile", "bca"]
    assert overall["ECE"].unit == overall["macro AUC"].unit == ""


def test_the_confusion_matrix_counts_every_hip_once():
    cases, truth, answer, _ = clustered_cases()
    data = evaluate({"all": cases}, QUICK).data_sets[0]
    for k, row in enumerate(table_of(data, "confusion").rows):
        assert row[0] == CATEGORY_LABELS[k]
        expected = [np.sum((truth == k) & (answer == j)) for j in (*range(8), -1)]
        assert list(row[1:]) == expected
    assert data.confusion.sum() == 100


def test_the_flow_counts_hips_patients_and_reasons():
    cases, _, answer, patient = clustered_cases()
    rows = dict(table_of(evaluate({"all": cases}, QUICK).data_sets[0], "flow").rows)
    assert rows["labelled hips"] == 100
    assert rows["patients"] == np.unique(patient).size == 70
    assert rows["hips with an answer"] == rows["hips with probabilities"] == np.sum(answer >= 0)
    assert rows["no answer: truncated"] == 9
    assert rows["predictions without a label, excluded"] == 0


def test_a_patient_with_an_unanswered_hip_has_an_answer_only_if_another_is_positive():
    hips = [
        ("a", Side.RIGHT, 3, 3, 0.9), ("a", Side.LEFT, 0, -1, 0.9),
        ("b", Side.RIGHT, 0, 0, 0.9), ("b", Side.LEFT, 0, -1, 0.9),
        ("c", Side.RIGHT, 0, 0, 0.9), ("c", Side.LEFT, 0, 0, 0.9),
    ]  # fmt: skip
    data = evaluate({"all": made(hips)}, QUICK).data_sets[0]
    table = table_of(data, "patients")
    assert [row[0] for row in table.rows] == [
        "every hip right", *CATEGORY_LABELS[1:], "any abnormality", "any acute fracture",
    ]  # fmt: skip
    by_name = {row[0]: row[1:] for row in table.rows}
    n, accuracy, sensitivity, specificity, ppv, npv = by_name["any acute fracture"]
    assert (n, accuracy.n) == (1, 3)
    assert accuracy.value == pytest.approx(2 / 3)
    assert (sensitivity.value, specificity.value) == (1.0, 0.5)
    assert (ppv.value, npv.value) == (1.0, 1.0)
    every = by_name["every hip right"]
    assert every[0] == every[1].n == 3
    assert every[1].value == pytest.approx(1 / 3)
    assert every[2:] == (None,) * 4


def flagged_cases():
    """Six hips with recorded flags: osteoarthritis at 0.5, 0.4 and 0.3, normal at 0.5 and 0.1."""
    chances = [(1, 0.5, True), (1, 0.4, False), (1, 0.3, False), (0, 0.5, True), (0, 0.1, False)]
    labels, predictions = [], []
    for i, (truth, chance, flag) in enumerate(chances):
        film = FilmName(case=str(i))
        labels.append(Label(i, film, Side.RIGHT, truth, str(i)))
        probabilities = (1 - chance, chance, *[0.0] * 6)
        predictions.append(Prediction(film, Side.RIGHT, 0, probabilities, flagged=flag))
    film = FilmName(case="unread")
    labels.append(Label(9, film, Side.RIGHT, 1, "9"))
    return match_predictions(labels, [*predictions, Prediction(film, None, code="truncated")])


def test_flags_and_thresholds_count_probabilities_that_reach_them():
    points = (OperatingPoint("low", {Category.OSTEOARTHRITIS: 0.4}),)
    settings = EvaluationSettings(replicates=100, operating_points=points)
    data = evaluate({"all": flagged_cases()}, settings).data_sets[0]
    rows = {row[:2]: row[2:] for row in table_of(data, "operating-points").rows}
    question = "any abnormality but hardware"
    assert {name for name, _ in rows} == {"as recorded", "low"}
    for name, sensitivity, with_errors in (("as recorded", 1 / 3, 1 / 4), ("low", 2 / 3, 2 / 4)):
        found = rows[name, question]
        assert found[0].value == pytest.approx(sensitivity)
        assert found[1].value == found[5].value == 0.5
        assert found[4].value == pytest.approx(with_errors)
    (row,) = table_of(data, "thresholds").rows
    assert row[:3] == ("low", "osteoarthritis", "0.4000")
    assert row[3].value == pytest.approx(2 / 3)
    assert [cell.value for cell in row[4:]] == pytest.approx([0.5, 2 / 3, 0.5])


def test_without_flags_and_operating_points_there_is_no_table_of_them(cases):
    data = evaluate({"all": cases}, EvaluationSettings(replicates=100)).data_sets[0]
    assert not {"operating-points", "thresholds"} & {table.key for table in data.tables}


def test_sub_groups_have_their_own_figures_and_a_row_for_those_not_stated():
    labels, predictions = [], []
    for i in range(30):
        film = FilmName(case=str(i))
        site = ("B", "A", None)[i % 3]
        labels.append(Label(i, film, Side.RIGHT, 3 * (i % 2), str(i), site=site, sex="F"))
        answer = 3 * (i % 2) if i % 5 else 0
        predictions.append(Prediction(film, Side.RIGHT, answer))
    data = evaluate({"all": match_predictions(labels, predictions)}, QUICK).data_sets[0]
    keys = {table.key for table in data.tables}
    assert "by-site" in keys
    assert "by-sex" not in keys
    rows = table_of(data, "by-site").rows
    assert [row[:2] for row in rows] == [("A", 10), ("B", 10), ("not stated", 10)]
    for row, start in zip(rows, (1, 0, 2), strict=True):
        indices = np.arange(start, 30, 3)
        truth = 3 * (indices % 2)
        answer = np.where(indices % 5, truth, 0)
        assert row[2].value == pytest.approx(np.mean(truth == answer))
        assert row[5].value == pytest.approx(np.mean(answer[truth == 3] == 3))
        assert row[6].value == 1.0


def test_data_sets_differ_by_second_less_first_with_independent_samples():
    def data_set(errors):
        return made([(str(i), Side.RIGHT, 0, int(i < errors), 0.9) for i in range(200)])

    found = evaluate({"a": data_set(10), "b": data_set(60), "c": data_set(10)}, QUICK)
    rows = {(row[0], row[1]): row[2:] for row in found.differences.rows}
    first, second, difference, p = rows["b less a", "accuracy"]
    assert (first.value, second.value) == (0.95, 0.7)
    assert difference.value == pytest.approx(-0.25)
    assert -0.35 < difference.shown.low < -0.25 < difference.shown.high < -0.15
    assert float(p) == pytest.approx(2 / 201, abs=1e-4)
    *_, same, p = rows["c less a", "accuracy"]
    assert same.value == 0.0
    assert same.shown.low < 0 < same.shown.high
    assert float(p) > 0.5
    assert same.unit == POINTS
    assert rows["b less a", "ECE"][2].unit == ""


def test_the_reliability_table_leaves_out_empty_bins():
    hips = [(str(i), Side.RIGHT, 0, 0 if i < 6 else 1, 0.9) for i in range(8)]
    ((n, confidence, accuracy),) = table_of(
        evaluate({"all": made(hips)}, QUICK).data_sets[0], "reliability"
    ).rows
    assert n == 8
    assert (confidence.value, accuracy.value) == pytest.approx((0.9, 0.75))


def test_disagreements_give_both_probabilities_and_put_the_most_confident_first():
    hips = [
        ("a", Side.LEFT, 0, 1, 0.6), ("b", Side.RIGHT, 0, 1, 0.8), ("c", Side.RIGHT, 3, 0, 0.5),
        ("d", Side.RIGHT, 3, 4, 0.9), ("e", Side.RIGHT, 4, -1, 0.9), ("f", Side.RIGHT, 0, 0, 0.9),
    ]  # fmt: skip
    rows = table_of(evaluate({"all": made(hips)}, QUICK).data_sets[0], "disagreements").rows
    assert [row[0] for row in rows] == ["c-2", "e-4", "d-3", "b-1", "a-0"]
    assert [row[-1] for row in rows] == ["missed fracture"] * 2 + [""] * 3
    assert rows[4][1:4] == ("left", "normal", "osteoarthritis")
    assert (rows[4][4].value, rows[4][5].value) == pytest.approx((0.6, 0.4 / 7))
    assert rows[0][1:4] == ("right", "femoral neck fracture", "normal")
    assert rows[1][3:6] == ("no answer", None, None)


def test_a_data_set_is_chosen_by_its_name_and_without_a_split_there_is_one(cases):
    chosen = split_cases(cases, ["external"])
    assert list(chosen) == ["external"]
    names, codes = cases.groups["split"]
    assert len(chosen["external"]) == np.sum(codes == names.index("external"))
    assert set(split_cases(cases, [])) == {"internal", "external"}
    unsplit = made([("a", Side.RIGHT, 0, 0, 0.9)])
    assert list(split_cases(unsplit, [])) == ["all"]
    with pytest.raises(InputError, match="have no column split"):
        split_cases(unsplit, ["internal"])


def test_a_prevalence_of_one_category_adds_its_predictive_values_to_its_row(cases):
    settings = EvaluationSettings(replicates=100, prevalence={"osteoarthritis": 0.2})
    data = evaluate({"all": cases}, settings).data_sets[0]
    table = table_of(data, "categories")
    column = table.columns.index("PPV at prevalence")
    cells = {row[0]: row[column] for row in table.rows}
    sensitivity, specificity = (
        table.rows[1][table.columns.index(name)].value for name in ("sensitivity", "specificity")
    )
    expected = 0.2 * sensitivity / (0.2 * sensitivity + 0.8 * (1 - specificity))
    assert cells.pop("osteoarthritis").value == pytest.approx(expected)
    assert set(cells.values()) == {None}
    assert "osteoarthritis 20.0%" in table.note
    assert "PPV at prevalence" not in table_of(data, "questions").columns
