"""`hipedge calibrate`: fit temperature and operating points to a site's own cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli import console
from hipedge.cli.evaluate import LabelsArgument, PredictionsOption
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.rules.joint_fit import FittedPoint
from hipedge.study import check_installed


def calibrate(
    labels: LabelsArgument,
    predictions: PredictionsOption = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the site file, where hipedge.toml is."),
    ] = Path(),
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Fit temperature and operating points to labelled hips, and write them to a site file.

    The model folder is not changed. Too few hips are an error.
    """
    check_installed()
    from hipedge.rules.site import write_site_file
    from hipedge.study import calibration, sources

    # The factor applies to the card's temperature, so an earlier calibration must not apply.
    settings = replace(load_settings({"db": db}, config), calibration=None)
    with sources.load_inputs(labels, predictions, settings) as inputs:
        fitted = calibration.calibrate(inputs.cases, min_confidence=inputs.min_confidence)
        path = write_site_file(fitted, output, fitted_on=labels.name, model=inputs.model)
    console.output.print(f"{fitted.hips:,} hips of {fitted.patients:,} patients")
    console.output.print(f"temperature: {fitted.temperature_factor:.3f} times the model's")
    before, after = fitted.ece
    console.output.print(
        f"calibration error (cross-fitted): {before:.3f} before, {after:.3f} after"
    )
    for point in fitted.fit.points:
        for line in promise_lines(point, fitted.fit.hips_without_finding):
            console.output.print(line, soft_wrap=True)
    if fitted.fit.floored:
        few = ", ".join(category.value.replace("_", " ") for category in fitted.fit.floored)
        console.output.print(f"too few cases for thresholds of their own: {few}", soft_wrap=True)
    console.output.print(console.printable(f"site file: {path}"), markup=False, soft_wrap=True)


def promise_lines(fitted: FittedPoint, hips_without_finding: int) -> Iterator[str]:
    """Yield what an operating point does on the hips that it was fitted to."""
    yield (
        f"{fitted.point.name}: {fitted.flag_rate:.1%} of {hips_without_finding:,} hips without a"
        f" finding are flagged, {fitted.film_flag_rate:.1%} of films without one"
    )
    found = (f"{c.value.replace('_', ' ')} {s:.1%}" for c, s in fitted.sensitivity.items())
    yield f"  found: {', '.join(found)}"
    if not fitted.reached:
        yield "  its aim cannot be had within its limit: this is the nearest within the limit"
