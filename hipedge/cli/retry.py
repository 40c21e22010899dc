"""`hipedge retry`: let quarantined files be read anew."""

from __future__ import annotations

from typing import Annotated

import typer

from hipedge.cli.console import output
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.errors import Code, InputError
from hipedge.store import Store
from hipedge.watch.retry import retry as retry_files


def retry(
    cases: Annotated[
        list[int] | None, typer.Argument(help="Row ids of quarantined files (default: all).")
    ] = None,
    db: DbOption = None,
    code: Annotated[Code | None, typer.Option(help="Only those with this code.")] = None,
    config: ConfigOption = None,
) -> None:
    """Let quarantined files be read anew, by the running `watch` or the next `screen`."""
    settings = load_settings({"db": db}, config)
    if not settings.db.exists():
        raise InputError(f"there is no database {settings.db}")
    with Store(settings.db) as store:
        retried = retry_files(store, cases or (), code)
    output.print(f"{len(retried.anew)} quarantined files will be read anew")
    if retried.gone:
        ids = ", ".join(map(str, retried.gone))
        said = f"{len(retried.gone)} are no longer there, and stay on the list: {ids}"
        output.print(said, highlight=False, soft_wrap=True)
