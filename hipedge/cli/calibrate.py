"""`hipedge calibrate`: fit temperature and operating points to a site's own cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli import console
from hipedge.cli.evaluate import LabelsArgument, PredictionsOption
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
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
        fitted = calibration.calibrate(inputs.cases)
        path = write_site_file(fitted, output, fitted_on=labels.name, model=inputs.model)
    console.output.print(f"{fitted.hips:,} hips of {fitted.patients:,} patients")
    console.output.print(f"temperature: {fitted.temperature_factor:.3f} times the model's")
    before, after = fitted.ece
    console.output.print(
        f"calibration error (cross-fitted): {before:.3f} before, {after:.3f} after"
    )
    if fitted.left_out:
        left_out = ", ".join(fitted.left_out)
        console.output.print(f"too few cases, flagged no less readily than before: {left_out}")
    console.output.print(console.printable(f"site file: {path}"), markup=False, soft_wrap=True)
