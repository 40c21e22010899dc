"""README.md of a model folder: the content of `card.json` in Markdown, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from hipedge.model.card import OPERATING_POINTS, Card
from hipedge.types import ABNORMAL, OTHER_WEIGHT, FlagCriterion

# The limits of a metric's interval are two metrics of the same name with these suffixes.
LIMITS = ("_low", "_high")


SCORES = {
    FlagCriterion.PROBABILITY: "probability",
    FlagCriterion.AGAINST_NORMAL: (
        f"score, p / (p + p of normal + {OTHER_WEIGHT:g} p of all others),"
    ),
}


def render_readme(card: Card) -> str:
    """Return the README.md of a model folder."""
    geometry = card.input
    ages = "no claim"
    if card.age_range_years is not None:
        ages = "{:g} to {:g} years".format(*card.age_range_years)
    sections = [
        f"# {card.name} {card.version}",
        f"**{card.status.value.capitalize()}.** {card.status_text}",
        "Research use only: not a medical device.",
        "## Input",
        f"One hip of a frontal radiograph, seen as a right hip: a square of {geometry.crop_mm:g} mm"
        f" in {geometry.size_px} pixels, whose centre lies {geometry.lateral_mm:g} mm lateral and"
        f" {geometry.distal_mm:g} mm distal of the femoral head's centre. Patients' ages: {ages}.",
        "## Output",
        f"Probabilities after a temperature of {card.temperature:g}, of which the largest names the"
        f" category; under {card.min_confidence:g} it is uncertain. A hip is flagged for a category"
        f" from this {SCORES[card.flag_criterion]} on:",
        _table(
            ("category", *OPERATING_POINTS),
            (
                (
                    category.value,
                    *(f"{card.operating_points[p][category]:g}" for p in OPERATING_POINTS),
                )
                for category in ABNORMAL
            ),
        ),
        "## Training data",
        card.training_data,
    ]
    if card.metrics:
        head = ("metric", "value", "95 % interval")
        sections += ["## Measured results", _table(head, _metric_rows(card.metrics))]
    return "\n\n".join(sections) + "\n"


def _metric_rows(metrics: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    """Yield a row per metric; the limits of its interval are in the same row."""
    for name, value in metrics.items():
        if name.endswith(LIMITS) and name.rpartition("_")[0] in metrics:
            continue
        limits = [metrics[name + suffix] for suffix in LIMITS if name + suffix in metrics]
        yield name, f"{value:.4g}", " to ".join(f"{limit:.4g}" for limit in limits)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
