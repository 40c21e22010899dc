"""Readers' answers from `hipedge serve` as the reference standard of an evaluation."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from hipedge.errors import InputError
from hipedge.store.feedback import JUDGED, Answer, Feedback
from hipedge.study.inputs import FilmName, Label
from hipedge.types import CATEGORIES, Side


@dataclass(frozen=True)
class FeedbackLabels:
    """The labels that readers' answers give, and what a report must say about them.

    `excluded` counts answers, or hips, by the reason why they give no label.
    """

    labels: list[Label]
    readers: tuple[str, ...]
    blind: int
    excluded: dict[str, int]

    @property
    def remark(self) -> str:
        """What the report says about this reference standard."""
        left_out = "; ".join(f"{reason}: {count}" for reason, count in self.excluded.items())
        return (
            f"Reference: the answers of {len(self.readers)} readers at this site, {self.blind} of "
            f"{len(self.labels)} hips judged before the finding was shown; answers given with the "
            "finding in view tend to agree with it. Hips that nobody judged are not in the data: "
            "where mostly flagged hips were judged, sensitivity is overestimated and specificity "
            "is not that of all hips (verification bias)."
            + (f" Left out: {left_out}." if left_out else "")
        )


def feedback_labels(feedback: Feedback) -> FeedbackLabels:
    """Return a label for each hip that readers judged and agree on, from their present answers.

    A hip is blind where all of its answers were. The hips of a study count as one patient's: the
    database holds no other identity. Raises `InputError` if no hip has a label.
    """
    studies, excluded = feedback.studies(), Counter[str]()
    hips: dict[tuple[str, Side], list[Answer]] = defaultdict(list)
    for answer in feedback.present():
        if answer.verdict not in JUDGED:
            excluded[answer.verdict.value.replace("_", " ")] += 1
        elif answer.shown.content_hash not in studies:
            excluded["the result was removed"] += 1
        else:
            hips[answer.shown.content_hash, answer.shown.side].append(answer)
    labels, readers, blind = list[Label](), set[str](), 0
    for (content_hash, side), answers in hips.items():
        if len({answer.shown.hip for answer in answers}) > 1:
            excluded["several hips of one side on a film"] += 1
        elif len({answer.category for answer in answers}) > 1:
            excluded["readers disagree"] += 1
        else:
            category = answers[0].category
            assert category is not None
            patient = studies[content_hash] or content_hash
            row, index = len(labels) + 1, CATEGORIES.index(category)
            labels.append(Label(row, FilmName(content_hash=content_hash), side, index, patient))
            readers |= {answer.reader for answer in answers}
            blind += all(answer.blind for answer in answers)
    if not labels:
        raise InputError(
            "no hip in the database was judged by readers: they answer in `hipedge serve`"
        )
    return FeedbackLabels(labels, tuple(sorted(readers)), blind, dict(excluded))
