"""Refitting on site, and the file that it writes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hipedge.errors import InputError
from hipedge.site import SITE_FILE, read_site_file, write_site_file
from hipedge.study.calibration import (
    at_temperature,
    calibrate,
    expected_calibration_error,
    fit_operating_points,
    fit_temperature,
    log_loss,
    reliability,
    rescale,
)
from hipedge.study.cases import match_predictions
from hipedge.study.inputs import FilmName, Label, Prediction, read_labels, read_predictions
from hipedge.types import CATEGORIES, Category, Side


@pytest.fixture(scope="module")
def cases(simulated):
    labels = read_labels(simulated / "labels.csv")
    return match_predictions(labels, read_predictions(simulated / "predictions.csv"))


@pytest.fixture(scope="module")
def sample():
    """Probabilities (N, K) that are right as often as they say, and the truth (N,)."""
    rng = np.random.default_rng(3)
    probabilities = rescale(rng.dirichlet(np.full(8, 0.5), 6000), 1.0)
    truth = (probabilities.cumsum(axis=1) > rng.random((6000, 1))).argmax(axis=1)
    return probabilities, truth


def test_the_temperature_that_was_put_in_comes_out(sample):
    probabilities, truth = sample
    assert fit_temperature(probabilities, truth) == pytest.approx(1.0, abs=0.05)
    assert fit_temperature(rescale(probabilities, 0.5), truth) == pytest.approx(2.0, abs=0.1)


def test_rescaling_is_softmax_at_another_temperature():
    logits = np.array([[2.0, 1.0, -1.0]])
    softmax = np.exp(logits) / np.exp(logits).sum()
    warmer = np.exp(logits / 3) / np.exp(logits / 3).sum()
    np.testing.assert_allclose(rescale(softmax, 3.0), warmer)


def test_merged_readings_cannot_be_rescaled():
    film = FilmName(case="1"), FilmName(case="2")
    labels = [Label(i, name, Side.RIGHT, 0, str(i)) for i, name in enumerate(film)]
    sure = (0.93, *[0.01] * 7)
    found = at_temperature(
        match_predictions(labels, [Prediction(film[0], Side.RIGHT, 0, sure),
                       Prediction(film[1], Side.UNKNOWN, 0, sure)]),
        2.0,
    )  # fmt: skip
    np.testing.assert_allclose(found.probabilities[0], rescale(np.array([sure]), 2.0)[0])
    assert found.scored.tolist() == [True, False]
    assert found.answer.tolist() == [0, 0]


def test_believable_probabilities_lie_on_the_diagonal(sample):
    probabilities, truth = sample
    top = probabilities.argmax(axis=1)
    curve = reliability(probabilities.max(axis=1), top == truth)
    many = curve.hips > 200
    np.testing.assert_allclose(curve.accuracy[many], curve.confidence[many], atol=0.1)
    assert curve.hips.sum() == len(truth)
    assert expected_calibration_error(probabilities, truth) < 0.03


def test_operating_points_keep_what_they_promise(cases):
    read = cases.select(cases.scored)
    sensitive, specific = fit_operating_points(read.probabilities, read.truth)
    assert Category.NORMAL not in sensitive.thresholds
    for category in sensitive.thresholds:
        score, is_k = read.probabilities[:, CATEGORIES.index(category)], None
        is_k = read.truth == CATEGORIES.index(category)
        assert np.mean(score[is_k] >= sensitive.thresholds[category]) >= 0.95
        assert np.mean(score[~is_k] < specific.thresholds[category]) >= 0.95
        assert sensitive.thresholds[category] <= specific.thresholds[category]


def brute_force_thresholds(score, positive):
    """The highest threshold with 95 % sensitivity and the lowest with 95 % specificity."""
    candidates = np.unique([*score, *np.nextafter(score, 1)])
    sensitive = max(t for t in candidates if np.mean(score[positive] >= t) >= 0.95)
    specific = min(t for t in candidates if np.mean(score[~positive] < t) >= 0.95)
    return min(sensitive, specific), max(sensitive, specific)


@pytest.mark.parametrize(("n", "separation"), [(20, 0.0), (47, 0.5), (100, 2.0), (20, 9.0)])
def test_thresholds_are_as_tight_as_the_data_allow(n, separation):
    rng = np.random.default_rng(n)
    truth = np.repeat([0, 1], [60, n])
    score = 1 / (1 + np.exp(-(rng.normal(size=60 + n) + separation * truth)))
    probabilities = np.column_stack([1 - score, score, *[np.zeros(60 + n)] * 6])
    points = fit_operating_points(probabilities, truth)
    found = tuple(point.thresholds[Category.OSTEOARTHRITIS] for point in points)
    assert found == brute_force_thresholds(score, truth == 1)


@pytest.mark.parametrize(("positives", "negatives"), [(19, 60), (60, 19)])
def test_a_threshold_needs_twenty_hips_with_the_category_and_twenty_without(positives, negatives):
    truth = np.repeat([1, 0], [positives, negatives])
    probabilities = np.column_stack([1 - truth * 0.9, truth * 0.9, *[np.zeros(len(truth))] * 6])
    assert fit_operating_points(probabilities, truth)[0].thresholds == {}


def test_two_hundred_hips_are_enough(cases):
    usable = cases.select(cases.scored & ~cases.merged)
    assert calibrate(usable.select(np.arange(len(usable)) < 200)).hips == 200


def test_a_category_with_too_few_cases_keeps_the_models_threshold(cases):
    few = cases.select((cases.truth != 7) | (np.cumsum(cases.truth == 7) <= 19))
    fitted = calibrate(few)
    assert fitted.left_out == ("internal_fixation",)
    assert all(Category.INTERNAL_FIXATION not in p.thresholds for p in fitted.operating_points)


def test_too_few_hips_are_refused(cases):
    few = cases.select(np.arange(len(cases)) < 199)
    with pytest.raises(InputError, match="too few to calibrate on: label at least 200"):
        calibrate(few)


@pytest.mark.parametrize("labelled", [Side.UNKNOWN, Side.RIGHT])
def test_hips_whose_side_the_model_did_not_know_are_left_out(labelled):
    films = [FilmName(case=str(i)) for i in range(300)]
    labels = [Label(i, film, labelled, i % 8, str(i)) for i, film in enumerate(films)]
    share = (0.3, *[0.1] * 7)
    unknown = [Prediction(film, Side.UNKNOWN, 0, share) for film in films]
    with pytest.raises(InputError, match="0 hips with probabilities and a known side"):
        calibrate(match_predictions(labels, unknown))


def test_cross_fitting_says_what_a_new_patient_can_expect(cases):
    fitted = calibrate(cases)
    assert fitted.temperature_factor > 1
    assert fitted.log_loss[1] < fitted.log_loss[0]
    read = cases.select(cases.scored)
    by_all = log_loss(rescale(read.probabilities, fitted.temperature_factor), read.truth)
    assert fitted.log_loss[1] >= by_all


def test_the_site_file_says_what_it_was_fitted_on_and_keeps_the_one_before(cases, tmp_path):
    fitted = calibrate(cases)
    first = write_site_file(fitted, tmp_path, fitted_on="labels.csv", model="abc")
    second = write_site_file(fitted, tmp_path, fitted_on="more.csv", model="abc")
    assert first == second == tmp_path / SITE_FILE
    content = json.loads(second.read_text())
    assert content["revision"] == 2
    assert content["fitted_on"]["labels"] == "more.csv"
    assert content["fitted_on"]["hips"] == fitted.hips
    kept = json.loads((tmp_path / "hipedge.calibration.r1.json").read_text())
    assert kept["fitted_on"]["labels"] == "labels.csv"
    assert read_site_file(second).operating_points == fitted.operating_points


def test_a_site_file_with_a_threshold_of_one_can_be_read(cases, tmp_path):
    """A model that is sure of what is not so: none of its probabilities clears them."""
    probabilities = np.zeros((400, len(CATEGORIES)))
    probabilities[:, 1] = 1.0
    points = fit_operating_points(probabilities, np.arange(400) % 2)
    assert points[1].thresholds == {Category.OSTEOARTHRITIS: 1.0}
    fitted = replace(calibrate(cases), operating_points=points)
    path = write_site_file(fitted, tmp_path, fitted_on="labels.csv", model=None)
    assert read_site_file(path).operating_points == points


def test_a_model_folder_is_never_written_to(cases, tmp_path):
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(InputError, match="is a model folder"):
        write_site_file(calibrate(cases), tmp_path, fitted_on="labels.csv", model=None)
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


NO_SITE_FILES = [
    "",
    "[]",
    '{"format": 9}',
    '{"format": 1}',
    '{"format": 1, "operating_points": {"sensitive": {"knee": 0.5}}}',
    *(
        f'{{"format": 1, "model": null, "operating_points": {{}}, "temperature_factor": {factor}}}'
        for factor in ("0", "-1.5", "Infinity", "NaN", "null", '"hot"')
    ),
]


@pytest.mark.parametrize("text", NO_SITE_FILES)
def test_a_file_that_is_no_site_file_is_an_input_error(tmp_path, text):
    """A temperature factor of 0 would make every probability 0 or 1, or undefined."""
    path = tmp_path / SITE_FILE
    path.write_text(text)
    with pytest.raises(InputError):
        read_site_file(path)
