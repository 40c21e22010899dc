"""`hipedge demo`: a few phantoms, screened, and the picture of a flagged one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import errors, output
from hipedge.cli.phantom import phantom
from hipedge.cli.screen import screen
from hipedge.cli.show import write_picture
from hipedge.config import load_settings
from hipedge.model import packaged_model
from hipedge.review.demo import drawn_as, most_urgent_case, open_picture

FILMS = 6
SEED = 7


def demo(
    directory: Annotated[
        Path, typer.Argument(help="Folder for films, database and picture.")
    ] = Path("hipedge-demo"),
) -> None:
    """Draw a few phantoms, screen them with the reference model, open a flagged one's picture.

    Nothing of it is a patient's. Needs the extra `phantom`.
    """
    films, db, picture = (directory / name for name in ("films", "hipedge.db", "flagged.png"))
    errors.print(f"$ hipedge phantom {films} --count {FILMS} --seed {SEED}", highlight=False)
    phantom(films, count=FILMS, seed=SEED)
    errors.print(f"$ hipedge screen {films} --db {db}", highlight=False)
    screen([films], db=db, model=packaged_model())
    case = most_urgent_case(db, load_settings({"db": db}))
    if case is None:
        output.print("No hip is flagged.")
        return
    errors.print(f"$ hipedge show {case.file_id} --db {db} -o {picture}", highlight=False)
    write_picture(case, picture)
    output.print(f"drawn as: {drawn_as(films / 'truth.csv', case.path.name)}", soft_wrap=True)
    output.print(f"picture: {picture.absolute()}", soft_wrap=True, highlight=False)
    open_picture(picture)
