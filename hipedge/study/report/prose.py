"""The results as sentences: in plain language, and for a manuscript."""

from __future__ import annotations

from collections.abc import Mapping

from hipedge.study.estimates import CATEGORY_LABELS, POINTS, Estimate
from hipedge.study.evaluate import DataSet
from hipedge.study.reader_analysis import ReaderResults
from hipedge.study.report.html import number, sentence


def plain_language_evaluation(data: DataSet) -> list[str]:
    """Summarise an evaluation for readers without knowledge of statistics."""
    fracture = data.questions["any acute fracture"]
    abnormal = data.questions["any abnormality"]
    unanswered = int((~data.cases.answered).sum())
    sentences = [
        f"Of 100 hips that the model answered, it put {_per_100(data.overall['accuracy'])} into "
        f"the right one of {len(CATEGORY_LABELS)} categories.",
        f"Of 100 hips with an acute fracture it detected {_per_100(fracture['sensitivity'])}; of "
        f"100 without, it reported no fracture in {_per_100(fracture['specificity'])}.",
        f"Of 100 abnormal hips it recognised {_per_100(abnormal['sensitivity'])} as abnormal; of "
        f"100 normal hips, {_per_100(abnormal['specificity'])} as normal.",
    ]
    if unanswered:
        percentage = 100 * unanswered / len(data.cases)
        sentences.append(
            f"For {unanswered:,} of {len(data.cases):,} hips ({percentage:.1f} %) the model gave "
            f"no answer. Counting each of these as an error, it was right for "
            f"{_per_100(data.as_errors['accuracy'])} of 100."
        )
    return sentences


def plain_language_readers(results: ReaderResults) -> list[str]:
    """Summarise a reader study for readers without knowledge of statistics."""
    (_, _, _, model), *readers = results.raters
    alone = [found["accuracy", None].value for _, _, phase, found in readers if phase == "alone"]
    sentences = [
        f"Of the same 100 hips, the model was right for {_per_100(model['accuracy', None])}"
        + (
            f"; the readers, alone, for {100 * min(alone):.0f} to {100 * max(alone):.0f}."
            if alone
            else "."
        )
    ]
    verdicts = [v for name, metric, v in results.non_inferiority
                if name == "all readers" and metric == "accuracy"]  # fmt: skip
    for verdict in verdicts:
        points = f"{100 * verdict.margin:g} points"
        sentences.append(
            {
                "superior": "On average, the readers were right less often than the model.",
                "non-inferior": f"The model is not worse than the readers' mean by {points} or "
                "more, in accuracy.",
                "inferior": f"The model is worse than the readers' mean by more than {points}.",
                "not shown": f"These cases do not show that the model is less than {points} "
                "worse than the readers' mean.",
                "undefined": "Model and readers cannot be compared on these cases.",
            }[verdict.verdict]
        )
    if "accuracy" in results.multi_reader:
        gain = results.multi_reader["accuracy"].random_readers
        change = "gained" if gain.value >= 0 else "lost"
        words = f"With the model's help, readers {change} {100 * abs(gain.value):.1f} points"
        if gain.interval is not None:
            low, high = (
                number(end, POINTS).removesuffix(POINTS)
                for end in (gain.interval.low, gain.interval.high)
            )
            words += f" of accuracy (with other readers and cases: {low} to {high})"
        sentences.append(words + ".")
    return sentences


def manuscript_sentences(data: DataSet) -> list[str]:
    """Format the main results for a manuscript."""
    named: Mapping[str, Estimate] = {
        f"{metric[0].upper()}{metric[1:]}": value for metric, value in data.overall.items()
    }
    sentences = [f"{name}: {sentence(value)}." for name, value in named.items()]
    for question, found in data.questions.items():
        parts = [f"{m} {sentence(found[m])}" for m in ("sensitivity", "specificity", "PPV", "NPV")]
        sentences.append(f"{question[0].upper()}{question[1:]}: {'; '.join(parts)}.")
    return sentences


def _per_100(estimate: Estimate) -> str:
    """Format a proportion as a count of 100 with its range."""
    if not estimate.defined:
        return "an undefined number"
    count, interval = f"about {100 * estimate.value:.0f}", estimate.shown
    if interval is None:
        return count
    return f"{count} (likely between {100 * interval.low:.0f} and {100 * interval.high:.0f})"
