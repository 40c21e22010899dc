"""The numbers in words: for anybody, and for a manuscript."""

from __future__ import annotations

from collections.abc import Mapping

from hipedge.study.estimates import POINTS, Estimate
from hipedge.study.evaluate import DataSet
from hipedge.study.readers import ReaderResults
from hipedge.study.report.html import number, sentence


def plain_evaluation(data: DataSet) -> list[str]:
    """Say what an evaluation found, for someone who knows no statistics."""
    fracture = data.questions["any acute fracture"]
    abnormal = data.questions["any abnormality"]
    unread = int((~data.cases.read).sum())
    sentences = [
        f"Of 100 hips that the model answered, it put {_in_100(data.overall['accuracy'])} into "
        "the right one of eight categories.",
        f"Of 100 hips with a fresh fracture it called {_in_100(fracture['sensitivity'])} a "
        f"fracture; of 100 without one it left {_in_100(fracture['specificity'])} alone.",
        f"Of 100 abnormal hips it called {_in_100(abnormal['sensitivity'])} abnormal; of 100 "
        f"normal hips it called {_in_100(abnormal['specificity'])} normal.",
    ]
    if unread:
        share = 100 * unread / len(data.cases)
        sentences.append(
            f"For {unread:,} of {len(data.cases):,} hips ({share:.1f} %) the model gave no "
            f"answer. Counting each of these as an error, it was right for "
            f"{_in_100(data.as_errors['accuracy'])} of 100."
        )
    return sentences


def plain_readers(results: ReaderResults) -> list[str]:
    """Say what a reader study found, for someone who knows no statistics."""
    (_, _, _, model), *readers = results.raters
    alone = [found["accuracy", None].value for _, _, phase, found in readers if phase == "alone"]
    sentences = [
        f"Of the same 100 hips, the model was right for {_in_100(model['accuracy', None])}"
        + (
            f"; the readers, alone, for {100 * min(alone):.0f} to {100 * max(alone):.0f}."
            if alone
            else "."
        )
    ]
    together = [v for name, metric, v in results.non_inferiority
                if name == "all readers" and metric == "accuracy"]  # fmt: skip
    for verdict in together:
        points = f"{100 * verdict.margin:g} points"
        sentences.append(
            {
                "superior": "Taken together, the readers were right less often than the model.",
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


def quotable(data: DataSet) -> list[str]:
    """Write the main results as a manuscript would."""
    named: Mapping[str, Estimate] = {
        f"{metric[0].upper()}{metric[1:]}": value for metric, value in data.overall.items()
    }
    sentences = [f"{name}: {sentence(value)}." for name, value in named.items()]
    for question, found in data.questions.items():
        parts = [f"{m} {sentence(found[m])}" for m in ("sensitivity", "specificity", "PPV", "NPV")]
        sentences.append(f"{question[0].upper()}{question[1:]}: {'; '.join(parts)}.")
    return sentences


def _in_100(estimate: Estimate) -> str:
    """Write a proportion as a count of 100 with its range."""
    if not estimate.defined:
        return "an undefined number"
    count, interval = f"about {100 * estimate.value:.0f}", estimate.shown
    if interval is None:
        return count
    return f"{count} (likely between {100 * interval.low:.0f} and {100 * interval.high:.0f})"
