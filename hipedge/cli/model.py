"""`hipedge model`: create a model folder, or show its card."""

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

app = typer.Typer(no_args_is_help=True, help="Create a model folder, or show its card.")


@app.command()
def new(
    folder: Annotated[
        Path, typer.Argument(help="Folder to create; it must be empty or not exist.")
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of `hipedge train` to take the weights from.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**63 - 1, help="Create an untrained model with random weights, for tests."
        ),
    ] = None,
    copy_of: Annotated[
        Path | None, typer.Option(help="Model folder to copy, with another locator.")
    ] = None,
    locator: Annotated[
        Path | None, typer.Option(help="locator.onnx of `hipedge train --locator`.")
    ] = None,
) -> None:
    """Create a model folder from a checkpoint, from another model, or untrained from a seed.

    The outputs of an untrained model say that it is untrained.
    """
    model = new_model(folder, checkpoint=checkpoint, seed=seed, copy_of=copy_of, locator=locator)
    text = f"{model.path}: {model.card.name}, {model.card.status_text}"
    errors.print(plain(text), soft_wrap=True)


@app.command()
def show(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Model folder (default: that of the settings, or the reference model)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print card.json.")] = False,
    config: ConfigOption = None,
) -> None:
    """Verify every byte of a model folder against its card, and print the card."""
    model = open_model(require_model(load_settings({"model": folder}, config).model))
    if as_json:
        sys.stdout.write(card_json(model.card).decode())
    else:
        output.print(Markdown(printable_lines(render_readme(model.card))))
        output.print(f"model id {model.model_id}", soft_wrap=True)
