"""The site file: a calibration fitted to a hospital's own cases, stored next to `hipedge.toml`.

It is never written into the model folder, whose files are hashed. An earlier site file is kept
under its revision. This module needs no optional dependency, so that screening can read the file.
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
from hipedge.rules.joint_fit import FittedPoint, JointFit
from hipedge.rules.operating_points import OperatingPoint
from hipedge.types import CATEGORIES, OTHER_WEIGHT, Category, FlagCriterion

# Format 1, of hipedge 0.1, had thresholds on probabilities, fitted category by category.
FORMATS = (1, 2)


@dataclass(frozen=True)
class SiteCalibration:
    """The parameters fitted at a site, the cases they were fitted to, and their effect.

    The temperature of the model card is to be multiplied by `temperature_factor`; the operating
    points of `fit` apply to the resulting probabilities. `ece` and `log_loss` are the values before
    and after, by cross-fitting: each hip is evaluated with a fit to other patients.
    """

    temperature_factor: float
    fit: JointFit
    hips: int
    patients: int
    counts: Mapping[str, int]
    ece: tuple[float, float]
    log_loss: tuple[float, float]

    @property
    def kept(self) -> tuple[Category, ...]:
        """The acute fracture categories with too few cases, which keep the model's thresholds."""
        return tuple(category for category in self.fit.floored if category.is_acute_fracture)

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """The operating points in the site file: without thresholds for the `kept` categories."""
        return tuple(self._without_kept(fitted.point) for fitted in self.fit.points)

    def _without_kept(self, point: OperatingPoint) -> OperatingPoint:
        thresholds = {c: t for c, t in point.thresholds.items() if c not in self.kept}
        return OperatingPoint(point.name, thresholds, point.criterion)


@dataclass(frozen=True)
class SiteFile:
    """The content of a site file that screening uses.

    `model` is the identifier of the model for which it was fitted, or None if unknown: it then
    applies to the model in use at the site.
    """

    model: str | None
    temperature_factor: float
    operating_points: tuple[OperatingPoint, ...]

    def operating_point(self, of_card: OperatingPoint) -> OperatingPoint:
        """Return an operating point of the card with the thresholds fitted at the site.

        Categories without a fitted threshold keep that of the card, converted so that every hip
        that reached it still does. Raises `InputError` if it cannot be converted: thresholds
        against normal imply nothing about probabilities.
        """
        named = (point for point in self.operating_points if point.name == of_card.name)
        fitted = next(named, OperatingPoint(of_card.name, {}, of_card.criterion))
        kept = {c: t for c, t in of_card.thresholds.items() if c not in fitted.thresholds}
        if kept and fitted.criterion is not of_card.criterion is FlagCriterion.AGAINST_NORMAL:
            raise InputError(
                "the site's calibration is of an earlier hipedge and another model: run "
                "`hipedge calibrate` again"
            )
        return OperatingPoint(
            of_card.name,
            {
                **{
                    category: kept_threshold(threshold, self.temperature_factor, of_card.criterion)
                    for category, threshold in kept.items()
                },
                **fitted.thresholds,
            },
            fitted.criterion,
        )


def kept_threshold(
    threshold: float,
    temperature_factor: float,
    criterion: FlagCriterion = FlagCriterion.PROBABILITY,
) -> float:
    """Return the threshold, at a new temperature, of a category that was not calibrated.

    Categories are not calibrated if they are rare, and the rare categories are the fractures:
    every hip that reached the card's threshold must also reach this one.

    A score is the probability at the odds 1 / Σⱼ wⱼ xⱼ against the other categories, where xⱼ are
    their probabilities as multiples of the category's own. The weights wⱼ are 1 for normal, and for
    the others `OTHER_WEIGHT`, or 1 if the score is the probability itself. A factor f on the
    temperature changes the odds to 1 / Σⱼ wⱼ xⱼ^a with a = 1/f. Among all xⱼ with the sum
    s = Σⱼ wⱼ xⱼ, these odds are lowest for a > 1 if the category of the least weight w has all of
    s: w^(a-1) s^-a. For a < 1 they are lowest if all xⱼ are equal: W^(a-1) s^-a, where W = Σⱼ wⱼ.
    The threshold is the score at these odds, where 1/s are the odds of the card's threshold; or the
    card's threshold, if that is lower. A threshold on a probability is also valid against normal,
    where the score is never lower.
    """
    if temperature_factor == 1 or not 0 < threshold < 1:
        return threshold
    a = 1 / temperature_factor
    least = OTHER_WEIGHT if criterion is FlagCriterion.AGAINST_NORMAL else 1.0
    total = 1 + least * (len(CATEGORIES) - 2)
    shift = (a - 1) * math.log(least if a > 1 else total)
    log_odds = a * (math.log(threshold) - math.log1p(-threshold)) + shift
    # The next lower float, since this number and the score it is compared with are rounded.
    lowest = np.nextafter(np.exp(-np.logaddexp(0.0, -log_odds)), 0)
    return min(threshold, float(lowest))


def write_site_file(
    calibration: SiteCalibration, folder: Path, *, fitted_on: str, model: str | None
) -> Path:
    """Write the site file into a folder and return its path.

    `fitted_on` names the file of labels, and `model` the model that made the predictions, if known.
    Raises `InputError` for a model folder, and if an earlier site file cannot be read.
    """
    if (folder / "card.json").exists():
        raise InputError(f"{folder} is a model folder: write the site file beside hipedge.toml")
    path, revision = folder / SITE_CALIBRATION_FILE, 1
    if path.exists():
        earlier = _load(path)["revision"]
        path.replace(folder / f"hipedge.calibration.r{earlier}.json")
        revision = earlier + 1
    content = {
        "format": max(FORMATS),
        "revision": revision,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hipedge": __version__,
        "model": model,
        "temperature_factor": calibration.temperature_factor,
        "flag_criterion": FlagCriterion.AGAINST_NORMAL.value,
        "operating_points": {
            point.name: {c.value: t for c, t in point.thresholds.items()}
            for point in calibration.operating_points
        },
        "fitted_on": {
            "labels": fitted_on,
            "hips": calibration.hips,
            "hips_without_finding": calibration.fit.hips_without_finding,
            "patients": calibration.patients,
            "categories": dict(calibration.counts),
            "too_few": [category.value for category in calibration.fit.floored],
        },
        "promises": {fitted.point.name: _promise(fitted) for fitted in calibration.fit.points},
        "cross_fitted": {
            "ece": dict(zip(("before", "after"), calibration.ece, strict=True)),
            "log_loss": dict(zip(("before", "after"), calibration.log_loss, strict=True)),
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def _promise(fitted: FittedPoint) -> dict[str, Any]:
    """Return the performance of an operating point on the hips to which it was fitted."""
    film_rate = fitted.film_flag_rate
    return {
        "reached": fitted.reached,
        "flag_rate_without_finding": fitted.flag_rate,
        "film_flag_rate_without_finding": None if math.isnan(film_rate) else film_rate,
        "sensitivity": {c.value: value for c, value in fitted.sensitivity.items()},
    }


def read_site_file(path: Path) -> SiteFile:
    """Read a site file. Raises `InputError` if it is not a site file or has invalid thresholds."""
    content = _load(path)
    try:
        criterion = FlagCriterion(content.get("flag_criterion", FlagCriterion.PROBABILITY))
        points = tuple(
            OperatingPoint(
                name,
                {Category(c): _threshold(t, c, path) for c, t in thresholds.items()},
                criterion,
            )
            for name, thresholds in content["operating_points"].items()
        )
        factor = float(content["temperature_factor"])
        if not 0 < factor < math.inf:
            raise ValueError
        return SiteFile(content["model"], factor, points)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path.name} has a value that cannot be read") from None


def _threshold(value: object, category: str, path: Path) -> float:
    """Return a threshold after validation: one that no score reaches would disable its category."""
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
    if not isinstance(content, dict) or content.get("format") not in FORMATS:
        raise InputError(f"{path.name} is not a site file that hipedge calibrate wrote")
    return content
