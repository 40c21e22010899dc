"""The rule in force at a site: the parameters of the model card, overridden by the site's."""

from __future__ import annotations

from hipedge.config import Settings
from hipedge.errors import ConfigError
from hipedge.model.card import Card, card_id
from hipedge.rules.decide import Rule
from hipedge.rules.operating_points import OperatingPoint
from hipedge.rules.site import SiteFile, read_site_file


def site_rule(card: Card, settings: Settings) -> Rule:
    """Return the rule of a model at this site.

    The parameters of the card are replaced by those of a calibration at the site, if it was made
    for this model; acute fracture categories with too few cases for the calibration keep the card's
    thresholds. Thresholds in the settings replace both. Raises `ConfigError` if the card does not
    have the operating point in the settings, and `InputError` for a calibration that cannot be
    read.
    """
    if settings.operating_point not in card.operating_points:
        names = ", ".join(card.operating_points)
        raise ConfigError(
            f"the model has no operating point {settings.operating_point!r}, only {names}"
        )
    site = _calibration_of(card, settings)
    point = site.operating_point(
        OperatingPoint(
            settings.operating_point,
            card.operating_points[settings.operating_point],
            card.flag_criterion,
        )
    )
    return Rule(
        operating_point=point.name,
        temperature=card.temperature * site.temperature_factor,
        thresholds={**point.thresholds, **settings.thresholds},
        min_confidence=card.min_confidence,
        flag_hardware=settings.flag_hardware,
        criterion=point.criterion,
    )


def _calibration_of(card: Card, settings: Settings) -> SiteFile:
    """Return the site's calibration of this model, or a neutral one if there is none."""
    unchanged = SiteFile(None, 1.0, ())
    if settings.calibration is None:
        return unchanged
    site = read_site_file(settings.calibration)
    return site if site.model in (None, card_id(card)) else unchanged
