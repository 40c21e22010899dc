"""What the reports say in words follows from the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from hipedge.study.cases import match_predictions
from hipedge.study.comparisons import NonInferiority
from hipedge.study.estimates import Estimate, Interval
from hipedge.study.evaluate import EvaluationSettings, evaluate
from hipedge.study.inputs import FilmName, Label, Prediction
from hipedge.study.mrmc import Difference, ErrorCovariances, ObuchowskiRockette
from hipedge.study.reader_analysis import ReaderResults, ReaderSettings
from hipedge.study.report.prose import (
    manuscript_sentences,
    plain_language_evaluation,
    plain_language_readers,
)
from hipedge.types import Side


@pytest.fixture(scope="module")
def data():
    """20 normal hips, 2 of them called a fracture; 10 fractures, 4 missed; 3 not answered."""
    truths = [0] * 20 + [3] * 10 + [0] * 3
    answers = [3] * 2 + [0] * 18 + [0] * 4 + [3] * 6 + [None] * 3
    films = [FilmName(case=str(i)) for i in range(33)]
    labels = [
        Label(i, f, Side.RIGHT, t, str(i))
        for i, (f, t) in enumerate(zip(films, truths, strict=True))
    ]
    made = [
        Prediction(f, Side.RIGHT if a is not None else None, a)
        for f, a in zip(films, answers, strict=True)
    ]
    cases = match_predictions(labels, made)
    return evaluate({"all": cases}, EvaluationSettings(replicates=100)).data_sets[0]


def test_an_evaluation_in_plain_language_counts_hips_of_a_hundred(data):
    right, fractures, abnormal, unanswered = plain_language_evaluation(data)
    assert "it put about 80 (likely between 63 and 90) into the right one of 8" in right
    assert "detected about 60 (likely between 31 and 83)" in fractures
    assert "no fracture in about 90" in fractures
    assert "recognised about 60" in abnormal
    assert "about 90" in abnormal
    assert unanswered.startswith("For 3 of 33 hips (9.1 %) the model gave no answer.")
    assert "it was right for about 73" in unanswered


def test_a_model_that_answered_everything_has_no_sentence_on_missing_answers(data):
    complete = replace(data, cases=data.cases.select(data.cases.answered))
    assert len(plain_language_evaluation(complete)) == 3


def test_what_is_undefined_is_said_to_be(data):
    undefined = dict(data.questions) | {
        "any acute fracture": {
            "sensitivity": Estimate(float("nan")),
            "specificity": Estimate(0.5),
        }
    }
    sentence = plain_language_evaluation(replace(data, questions=undefined))[1]
    assert "detected an undefined number;" in sentence
    assert sentence.endswith("no fracture in about 50.")


def test_a_manuscript_has_every_overall_metric_and_both_questions(data):
    sentences = manuscript_sentences(data)
    assert sentences[0].startswith("Accuracy: 80.0\N{NO-BREAK SPACE}% (95 % CI 62.7 to 90.5")
    assert [s.split(":")[0] for s in sentences] == [
        "Accuracy", "Balanced accuracy", "Macro F1", "Any abnormality", "Any acute fracture",
    ]  # fmt: skip
    assert "sensitivity 60.0" in sentences[-1]
    assert "NPV 81.8" in sentences[-1]


def reader_results(verdict=None, gain=None):
    def rater(name, phase, accuracy):
        return name, "", phase, {("accuracy", None): Estimate(accuracy)}

    raters = (
        rater("model", "", 0.9),
        rater("R1", "alone", 0.7),
        rater("R2", "alone", 0.8),
        rater("R1", "assisted", 0.95),
    )
    verdicts = () if verdict is None else (
        ("R1", "accuracy", NonInferiority(0.3, Interval(0.1, 0.5), 0.05, 0.0)),
        ("all readers", "accuracy", verdict),
    )  # fmt: skip
    multi_reader = {} if gain is None else {"accuracy": gain}
    return ReaderResults(None, ReaderSettings(), raters, verdicts, np.empty(0), multi_reader, ())


def test_readers_are_given_by_their_range_alone():
    assert plain_language_readers(reader_results()) == [
        "Of the same 100 hips, the model was right for about 90; the readers, alone, for 70 to 80."
    ]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.2, "readers were right less often than the model"),
        (-0.02, 0.2, "not worse than the readers' mean by 5 points or more"),
        (-0.2, -0.1, "worse than the readers' mean by more than 5 points"),
        (-0.2, 0.1, "do not show that the model is less than 5 points worse"),
    ],
)
def test_the_verdict_on_all_readers_is_put_into_words(low, high, words):
    verdict = NonInferiority(0.0, Interval(low, high), 0.05, 0.5)
    assert words in plain_language_readers(reader_results(verdict))[1]
    undefined = NonInferiority(0.0, None, 0.05, float("nan"))
    assert "cannot be compared" in plain_language_readers(reader_results(undefined))[1]


@pytest.mark.parametrize(
    ("value", "interval", "words"),
    [
        (0.05, Interval(-0.01, 0.11), "gained 5.0 points of accuracy ({0} −1.0 to 11.0)."),
        (-0.05, Interval(-0.11, 0.01), "lost 5.0 points of accuracy ({0} −11.0 to 1.0)."),
        (0.0, None, "gained 0.0 points."),
    ],
)
def test_the_effect_of_assistance_is_put_into_words(value, interval, words):
    tested = Difference(value, 0.01, 10.0, 0.1, interval)
    gain = ObuchowskiRockette(
        np.empty((2, 2)), ErrorCovariances(0, 0, 0, 0), 0.0, 0.0, tested, tested
    )
    assert plain_language_readers(reader_results(gain=gain))[-1].endswith(
        words.format("with other readers and cases:")
    )
