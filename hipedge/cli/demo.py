"""`hipedge demo`: screen a few simulated films and show the image of a flagged film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import errors, output, plain
from hipedge.cli.phantom import phantom
from hipedge.cli.screen import screen
from hipedge.cli.show import write_picture
from hipedge.config import load_settings
from hipedge.model import packaged_model
from hipedge.review.demo import describe_truth, most_urgent_case, open_picture

FILMS = 6
SEED = 7


def demo(
    directory: Annotated[
        Path, typer.Argument(help="Folder for films, database and picture.")
    ] = Path("hipedge-demo"),
) -> None:
    """Simulate a few films, screen them with the reference model, show a flagged one's picture.

    No patient's data is involved. Needs the extra `phantom`.
    """
    films, db, picture = (directory / name for name in ("films", "hipedge.db", "flagged.png"))
    _echo(f"hipedge phantom {films} --count {FILMS} --seed {SEED}")
    phantom(films, count=FILMS, seed=SEED)
    _echo(f"hipedge screen {films} --db {db}")
    screen([films], db=db, model=packaged_model())
    case = most_urgent_case(db, load_settings({"db": db}))
    if case is None:
        output.print("No hip is flagged.")
        return
    _echo(f"hipedge show {case.file_id} --db {db} -o {picture}")
    write_picture(case, picture)
    truth = describe_truth(films / "truth.csv", case.path.name)
    output.print(plain(f"drawn as: {truth}"), soft_wrap=True)
    output.print(plain(f"picture: {picture.absolute()}"), soft_wrap=True, highlight=False)
    open_picture(picture)


def _echo(command: str) -> None:
    errors.print(plain(f"$ {command}"), highlight=False, soft_wrap=True)
