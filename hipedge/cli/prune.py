"""`hipedge prune`: remove old results."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Annotated

import typer

from hipedge.cli.console import output
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.errors import InputError
from hipedge.store.queue import Queue
from hipedge.store.store import Store


def prune(
    older_than: Annotated[str, typer.Option(help="Age in days, such as 365d.")],
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove results older than this, with their hips and maps; films are never touched.

    Results of unfinished files, or with an undelivered notification, are kept.
    """
    settings = load_settings({"db": db}, config)
    age = re.fullmatch(r"(\d{1,6})d", older_than)
    if age is None:
        raise InputError(f"--older-than must be a number of days such as 365d, not {older_than!r}")
    if not settings.db.exists():
        raise InputError(f"there is no database {settings.db}")
    with Store(settings.db) as store:
        count = Queue(store).prune(datetime.now(timezone.utc) - timedelta(days=int(age[1])))
    output.print(f"{count} results removed")
