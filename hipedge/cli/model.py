"""`hipedge model`: make a model folder, or say what one is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown

from hipedge.cli.console import errors, output, plain, printable_lines
from hipedge.cli.options import ConfigOption
from hipedge.config import load_settings
from hipedge.model import open_model, require_model
from hipedge.model.card import card_json
from hipedge.model.readme import render_readme
from hipedge.train.new_model import new_model

app = typer.Typer(no_args_is_help=True, help="Make a model folder, or say what one is.")


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="The folder to make; it must not hold anything.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A training's checkpoint, whose weights to take.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Draw untrained weights, to try things with."),
    ] = None,
    locator: Annotated[
        Path | None, typer.Option(help="The locator.onnx of `hipedge train --locator`.")
    ] = None,
) -> None:
    """Write a model folder from a checkpoint, or from a seed: an untrained one, which says so."""
    model = new_model(folder, checkpoint=checkpoint, seed=seed, locator=locator)
    text = f"{model.path}: {model.card.name}, {model.card.status_text}"
    errors.print(plain(text), soft_wrap=True)


@app.command()
def show(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Model folder (default: the settings', or the reference model)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The card itself.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print a model's card, after checking every byte of the folder against it."""
    model = open_model(require_model(load_settings({"model": folder}, config).model))
    if as_json:
        sys.stdout.write(card_json(model.card).decode())
    else:
        output.print(Markdown(printable_lines(render_readme(model.card))))
        output.print(f"model id {model.model_id}", soft_wrap=True)
