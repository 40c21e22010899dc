"""`hipedge retry`: read quarantined files again."""

from __future__ import annotations

from typing import Annotated

import typer

from hipedge.cli.console import output
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.errors import Code, InputError
from hipedge.store.store import Store
from hipedge.watch.retry import retry as retry_files


def retry(
    cases: Annotated[
        list[int] | None, typer.Argument(help="Row ids of quarantined files (default: all).")
    ] = None,
    db: DbOption = None,
    code: Annotated[Code | None, typer.Option(help="Only files with this code.")] = None,
    config: ConfigOption = None,
) -> None:
    """Queue quarantined files to be read again, by the running `watch` or the next `screen`."""
    settings = load_settings({"db": db}, config)
    if not settings.db.exists():
        raise InputError(f"there is no database {settings.db}")
    with Store(settings.db) as store:
        result = retry_files(store, cases or (), code)
    output.print(f"{len(result.queued)} quarantined files will be read again")
    if result.missing:
        ids = ", ".join(map(str, result.missing))
        text = f"{len(result.missing)} no longer exist and stay on the list: {ids}"
        output.print(text, highlight=False, soft_wrap=True)
