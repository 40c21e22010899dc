"""`hipedge send`: results of recorded cases to PACS, by hand."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import errors, output, plain
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.review.worklist import open_review
from hipedge.service_log import configure_logging
from hipedge.watch.send import select_cases, send_cases, write_results


def send(
    cases: Annotated[
        list[str] | None,
        typer.Argument(
            help="Row ids, paths, SOP Instance UIDs, or starts of a content's hash "
            "(default: the cases that `hipedge flagged` lists)."
        ),
    ] = None,
    db: DbOption = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only what was recorded since then (local time).")
    ] = None,
    unflagged: Annotated[
        bool | None,
        typer.Option("--unflagged", help="Also screened films that are not flagged."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send also what was delivered before.")
    ] = False,
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the objects into this folder; send nothing."),
    ] = None,
    operating_point: OperatingPointOption = None,
    config: ConfigOption = None,
) -> None:
    """Send results of recorded cases to the PACS in the settings.

    Results are objects in the film's study, with the same UIDs each time: what a PACS has already
    is not sent again. What cannot be delivered stays in the outbox, for `hipedge watch` or the next
    `hipedge send`; the exit status is 1 then.
    """
    flags = {"db": db, "operating_point": operating_point, "results_unflagged": unflagged}
    settings = load_settings(flags, config)
    configure_logging(logging.ERROR)  # what fails is printed below
    with open_review(settings.db, settings) as (store, rules):
        chosen = select_cases(
            store,
            rules,
            cases or (),
            since=since,
            unflagged=settings.results_unflagged,
            not_read=settings.results_not_read,
        )
        if target is not None:
            for path in write_results(store, chosen, settings, target):
                output.print(plain(path), soft_wrap=True, highlight=False)
            return
        sent = send_cases(store, rules, chosen, settings, again=again)
    output.print(f"{sent.delivered} results are delivered, {sent.waiting} wait")
    for reason, count in sorted(sent.reasons.items()):
        errors.print(plain(f"{count} × {reason}"), soft_wrap=True, highlight=False)
    if sent.waiting:
        raise typer.Exit(1)
