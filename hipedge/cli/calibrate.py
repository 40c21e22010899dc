"""`hipedge calibrate`: refit temperature and operating points on a site's own cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import output, printable
from hipedge.cli.evaluate import LabelsArgument, PredictionsOption
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.study import check_installed


def calibrate(
    labels: LabelsArgument,
    predictions: PredictionsOption = None,
    folder: Annotated[
        Path, typer.Option(help="Where hipedge.toml is, and the site file goes.")
    ] = Path(),
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Refit temperature and operating points on labelled hips into a site file.

    The model folder stays as it is. Too few cases are refused.
    """
    check_installed()
    from hipedge.rules.site import write_site_file
    from hipedge.study import calibration, sources

    # Without an earlier calibration, which would be fitted again on top of itself.
    settings = replace(load_settings({"db": db}, config), calibration=None)
    with sources.gather(labels, predictions, settings) as material:
        fitted = calibration.calibrate(material.cases)
        path = write_site_file(fitted, folder, fitted_on=labels.name, model=material.model)
    output.print(f"{fitted.hips:,} hips of {fitted.patients:,} patients")
    output.print(f"temperature: {fitted.temperature_factor:.3f} times the model's")
    before, after = fitted.ece
    output.print(f"calibration error (cross-fitted): {before:.3f} before, {after:.3f} after")
    if fitted.left_out:
        left_out = ", ".join(fitted.left_out)
        output.print(f"too few cases, flagged no less readily than before: {left_out}")
    output.print(printable(f"site file: {path}"), markup=False, soft_wrap=True)
