"""What an evaluation reports, against numbers worked out by hand or by scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from hipedge.errors import InputError
from hipedge.rules.operating_points import OperatingPoint
from hipedge.study.cases import match_predictions
from hipedge.study.estimates import CATEGORY_LABELS, Estimate
from hipedge.study.evaluate import EvaluationSettings, evaluate
from hipedge.study.inputs import FilmName, Label, Prediction, read_labels, read_predictions
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
