"""Helpers of `hipedge demo`: its most urgent case, a film's ground truth, a picture viewer."""

from __future__ import annotations

import csv
import os
import webbrowser
from pathlib import Path

from hipedge.config import Settings
from hipedge.review.worklist import open_review, worklist
from hipedge.store.rows import Case


def most_urgent_case(db: Path, settings: Settings) -> Case | None:
    """Return the case whose flagged hip is first on the worklist; None where none is flagged."""
    with open_review(db, settings) as (store, rules):
        flagged = worklist(store, rules).flagged
    return flagged[0].case if flagged else None


def describe_truth(truth: Path, film: str) -> str:
    """Return the side, category and grade of each hip of a simulated film, from `truth.csv`."""
    with truth.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"] == film]
    hips = (f"{row['side']} {row['category'].replace('_', ' ')} ({row['grade']})" for row in rows)
    return ", ".join(hips)


def open_picture(path: Path) -> bool:
    """Open a picture in the desktop's viewer; return False where there is no display."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return False
    return webbrowser.open(path.absolute().as_uri())
