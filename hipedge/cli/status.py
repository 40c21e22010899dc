"""`hipedge status`: the state of the unattended service."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from hipedge.cli.console import output, plain
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.errors import CODES, Code
from hipedge.review.agreement import Agreement
from hipedge.watch.alarms import MEANINGS, Alarm
from hipedge.watch.status import READER_DRIFT, Status, read_status


def status(
    db: DbOption = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit 1 if an alarm is on, or no scan was completed recently."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show how many files wait, were recorded and refused, and the alarms of the service."""
    found = read_status(load_settings({"db": db}, config).db)
    if as_json:
        json.dump(_as_json(found), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        output.print(_table(found))
    if check and found.problems:
        raise typer.Exit(1)


def _as_json(found: Status) -> dict[str, object]:
    agreement = found.agreement
    numbers = {
        "judged": agreement.judged,
        "agreed": agreement.agreed,
        "blind": agreement.blind,
        "interval": agreement.interval,
        "expected_disagreement": agreement.expected,
        "cusum": agreement.chart[-1] if agreement.chart else None,
        "other_verdicts": agreement.other_verdicts,
    }
    return {
        **asdict(found),
        "agreement": numbers,
        "waiting": found.waiting,
        "problems": found.problems,
    }


def _table(found: Status) -> Table:
    table = Table("", "", title="Status", title_justify="left", show_header=False)
    if found.heartbeat is None or found.scan_age_s is None:
        table.add_row("service", "`hipedge watch` never ran on this database")
    else:
        heartbeat = found.heartbeat
        table.add_row("service", f"process {heartbeat.pid}, last scan {found.scan_age_s:.0f} s ago")
        table.add_row("model", plain(f"{heartbeat.model} ({heartbeat.model_status})"))
        table.add_row("backend", plain(f"{heartbeat.backend}: {heartbeat.backend_reason}"))
    table.add_row(
        "recorded",
        f"{found.totals.last_hour} in the last hour, {found.totals.last_day} in the last day",
    )
    table.add_row("last screened", found.totals.last_screened_at or "never", end_section=True)
    for state, count in found.paths.items():
        table.add_row(f"files {state.value.replace('_', ' ')}", str(count))
    table.add_section()
    for name, count in found.totals.refused.items():
        table.add_row(f"{CODES[Code(name)].meaning} [dim]({name})[/]", str(count))
    table.add_section()
    if found.agreement.interval is not None:
        table.add_row("agreement of readers", _agreement_text(found.agreement))
    for channel, count in found.undelivered.items():
        table.add_row(f"undelivered by {channel}", str(count))
    for name in found.problems:
        table.add_row(f"[bold red]{name}[/]", _meaning(name))
    return table


def _agreement_text(agreement: Agreement) -> str:
    assert agreement.interval is not None
    low, high = agreement.interval
    return (
        f"{agreement.agreed} of the newest {agreement.judged} judged hips, "
        f"{agreement.agreed / agreement.judged:.0%} (95 % interval {low:.0%} to {high:.0%})"
    )


def _meaning(problem: str) -> str:
    if problem == READER_DRIFT:
        return "readers disagree with the findings more often than at first"
    if problem in {alarm.value for alarm in Alarm}:
        return MEANINGS[Alarm(problem)]
    return "no scan was completed for minutes: is the service running?"
