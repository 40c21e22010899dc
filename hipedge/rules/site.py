"""The site file: what a hospital refitted on its own cases, beside `hipedge.toml`.

It never goes into the model folder, whose files are hashed. An earlier file is kept under its
revision. This module needs no extra, so that screening can read the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from hipedge import __version__
from hipedge.config import SITE_CALIBRATION_FILE
from hipedge.errors import InputError
from hipedge.rules.operating_points import OperatingPoint
from hipedge.types import CATEGORIES, Category

FORMAT = 1


@dataclass(frozen=True)
class SiteCalibration:
    """What was fitted, on what, and what it changed.

    Multiply the temperature of the model's card by `temperature_factor`. The operating points
    are thresholds on the probabilities after that. The change is by cross-fitting: each hip by a
    fit to other patients. `left_out` are the categories with too few cases: they keep the
    model's own thresholds, lowered where the new temperature asks for it (`kept_threshold`).
    """

    temperature_factor: float
    operating_points: tuple[OperatingPoint, ...]
    hips: int
    patients: int
    counts: Mapping[str, int]
    left_out: tuple[str, ...]
    ece: tuple[float, float]
    log_loss: tuple[float, float]


@dataclass(frozen=True)
class SiteFile:
    """What screening takes from a site file.

    `model` is the identifier of the model that it was fitted for, or None where that is not
    known: then it is for the one that the site uses.
    """

    model: str | None
    temperature_factor: float
    operating_points: tuple[OperatingPoint, ...]

    def thresholds(
        self, operating_point: str, of_card: Mapping[Category, float]
    ) -> Mapping[Category, float]:
        """Return an operating point's thresholds: those fitted, and the card's where none was."""
        named = (one.thresholds for one in self.operating_points if one.name == operating_point)
        kept = {c: kept_threshold(t, self.temperature_factor) for c, t in of_card.items()}
        return {**kept, **next(named, {})}


def kept_threshold(threshold: float, temperature_factor: float) -> float:
    """Return the threshold of a category that no calibration was fitted to, at a new temperature.

    A category is left out because it is rare, and the rare ones are the fractures: whatever reached
    the card's threshold must reach this one. Softmax gives a category the odds 1 / Σⱼ xⱼ against
    the n others; a factor f on the temperature makes them 1 / Σⱼ xⱼ^a, a = 1/f. Of all xⱼ with the
    sum s, these odds are lowest for a > 1 where one other category has all of s: s^-a. For a < 1
    they are lowest where all have alike: n^(a-1) s^-a. The threshold is the probability at these
    odds, 1/s being those of the card's threshold; or the card's, where that is lower.
    """
    if temperature_factor == 1 or not 0 < threshold < 1:
        return threshold
    sharper = 1 / temperature_factor
    spread = max(0.0, 1 - sharper) * math.log(len(CATEGORIES) - 1)
    log_odds = sharper * (math.log(threshold) - math.log1p(-threshold)) - spread
    return min(threshold, float(np.exp(-np.logaddexp(0.0, -log_odds))))


def write_site_file(
    calibration: SiteCalibration, folder: Path, *, fitted_on: str, model: str | None
) -> Path:
    """Write the site file into a folder and return its path.

    `fitted_on` names the labels' file, `model` the model whose predictions they were, if known.
    Raises `InputError` for a model folder, and where an earlier file cannot be read.
    """
    if (folder / "card.json").exists():
        raise InputError(f"{folder} is a model folder: write the site file beside hipedge.toml")
    path, revision = folder / SITE_CALIBRATION_FILE, 1
    if path.exists():
        earlier = _load(path)["revision"]
        path.replace(folder / f"hipedge.calibration.r{earlier}.json")
        revision = earlier + 1
    content = {
        "format": FORMAT,
        "revision": revision,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hipedge": __version__,
        "model": model,
        "temperature_factor": calibration.temperature_factor,
        "operating_points": {
            point.name: {c.value: t for c, t in point.thresholds.items()}
            for point in calibration.operating_points
        },
        "fitted_on": {
            "labels": fitted_on,
            "hips": calibration.hips,
            "patients": calibration.patients,
            "categories": dict(calibration.counts),
            "left_out": list(calibration.left_out),
        },
        "cross_fitted": {
            "ece": dict(zip(("before", "after"), calibration.ece, strict=True)),
            "log_loss": dict(zip(("before", "after"), calibration.log_loss, strict=True)),
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def read_site_file(path: Path) -> SiteFile:
    """Read a site file. Raises `InputError` where it is none, or has what is no threshold."""
    content = _load(path)
    try:
        points = tuple(
            OperatingPoint(name, {Category(c): _threshold(t, c, path) for c, t in named.items()})
            for name, named in content["operating_points"].items()
        )
        factor = float(content["temperature_factor"])
        if not 0 < factor < math.inf:
            raise ValueError
        return SiteFile(content["model"], factor, points)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path.name} has a value that cannot be read") from None


def _threshold(value: object, category: str, path: Path) -> float:
    """Return a threshold; one that no probability reaches would silence its category."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"{path.name}: the threshold of {category} must lie between 0 and 1")
    return float(value)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path.name} is not a site file that hipedge calibrate wrote")
    return content
