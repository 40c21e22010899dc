"""What the viewer in the browser needs to know of a film and its hips."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hipedge.review.picture import heat_map
from hipedge.types import Finding, Mark, ScoredHip
from hipedge.web.levels import finest_halvings, first_halvings
from hipedge.web.render import words


def viewer_data(
    address: str,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float] | None,
    marks: Collection[Mark],
    hips: Sequence[dict[str, Any]],
    *,
    date: str | None = None,
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a film (H, W) whose levels lie at an address, as the viewer takes it.

    `earlier` is a film of the same patient that can be shown beside it, also from this function;
    where there is one, `date` tells the two apart.
    """
    return {
        "film": address,
        "date": date,
        "rows": shape[0],
        "columns": shape[1],
        "first": first_halvings(shape),
        "finest": finest_halvings(shape),
        "spacing": spacing_mm,
        "doubtful": Mark.SPACING_DOUBTFUL in marks,
        "hips": list(hips),
        "earlier": earlier,
    }


def viewer_hip(scored: ScoredHip, finding: Finding | None) -> dict[str, Any]:
    """Return a hip as the viewer draws it; without a finding it is a box alone."""
    box = scored.hip.box
    known: dict[str, Any] = {
        "side": scored.hip.side.value,
        "box": [round(edge, 1) for edge in (box.x0, box.y0, box.x1, box.y1)],
    }
    if finding is not None:
        heat = heat_map(scored, finding)
        known |= {
            "priority": finding.priority.value,
            "category": words(finding.category.value),
            "reasons": [words(category.value) for category in finding.flagged_for],
            "flagged": finding.flagged,
            "heat": [[round(float(cell), 3) for cell in row] for row in heat],
        }
    return known
