"""`hipedge flagged`: what a doctor should see, urgent first, and what was not read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from hipedge.cli.console import errors, output, printable
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.decide import HARDWARE, HARDWARE_NOTE
from hipedge.errors import CODES
from hipedge.files import write_csv
from hipedge.store import Case
from hipedge.types import CATEGORIES, Finding, Priority
from hipedge.worklist import (
    FlaggedHip,
    Worklist,
    case_record,
    describe_model,
    finding_record,
    open_review,
    worklist,
)

STYLES = {Priority.URGENT: "bold red", Priority.ROUTINE: "yellow"}


def flagged(
    db: DbOption = None,
    operating_point: OperatingPointOption = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only what was recorded since then (local time).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, one row for each line.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the flagged hips, urgent first; then what was not read: work for a human too.

    New thresholds in the settings are applied to all that is recorded, without inference.
    """
    settings = load_settings({"db": db, "operating_point": operating_point}, config)
    with open_review(settings.db, settings) as (store, rules):
        found = worklist(store, rules, since)
    if as_json:
        json.dump(_as_json(found), sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif as_csv:
        _write_csv(found)
    else:
        _print_tables(found)


def _as_json(found: Worklist) -> dict[str, list[dict[str, Any]]]:
    return {
        "flagged": [_flagged_record(one) for one in found.flagged],
        "not_read": [case_record(case) for case in found.not_read],
        "marked": [case_record(case) for case in found.marked],
    }


def _flagged_record(one: FlaggedHip) -> dict[str, Any]:
    return finding_record(one.hip, one.finding) | case_record(one.case)


def _write_csv(found: Worklist) -> None:
    rows = [
        {"list": name, **_flat(record)}
        for name, records in _as_json(found).items()
        for record in records
    ]
    names = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(sys.stdout, names, ([row.get(name, "") for name in names] for row in rows))


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    probabilities = record.pop("probabilities", {})
    joined = {
        key: ";".join(map(str, value)) if isinstance(value, list) else value
        for key, value in record.items()
    }
    texts = {key: printable(value) for key, value in joined.items() if isinstance(value, str)}
    return joined | texts | {f"p_{name}": value for name, value in probabilities.items()}


def _print_tables(found: Worklist) -> None:
    if found.flagged:
        output.print(_flagged_table(found.flagged))
    else:
        output.print("No hip is flagged.")
    if any(one.finding.category in HARDWARE for one in found.flagged):
        output.print(f"Arthroplasty and fixation are {HARDWARE_NOTE}.")
    if found.not_read:
        output.print(_not_read_table(found.not_read))
    if found.marked:
        output.print(_marked_table(found.marked))
    cases = [*(one.case for one in found.flagged), *found.not_read, *found.marked]
    say_whose_results(cases)


def say_whose_results(cases: Iterable[Case]) -> None:
    """Say what each model's card says that its results are worth."""
    for model in sorted({describe_model(case) for case in cases}):
        errors.print(escape(model), soft_wrap=True, highlight=False)


def _flagged_table(hips: Iterable[FlaggedHip]) -> Table:
    table = _table("Flagged", "priority", "hip", "finding", "id")
    for one in hips:
        priority = one.finding.priority
        table.add_row(
            f"[{STYLES[priority]}]{priority.value}[/]",
            one.hip.side.value,
            _finding_text(one.finding),
            str(one.case.file_id),
            _file_text(one.case),
        )
    return table


def _finding_text(finding: Finding) -> str:
    """Name the most probable category, then on a line each what else a hip is flagged for."""
    probability = dict(zip(CATEGORIES, finding.probabilities, strict=True))
    lines = [
        f"{_spoken(category.value)} {probability[category]:.0%}"
        for category in dict.fromkeys((finding.category, *finding.flagged_for))
    ]
    if finding.uncertain:
        lines[0] += ", uncertain"
    return "\n".join([lines[0], *(f"[dim]and[/] {line}" for line in lines[1:])])


def _file_text(case: Case) -> str:
    """Name the file, or its whole path where it was never read; below it its marks."""
    name = escape(printable(case.path if case.sha256 is None else case.path.name))
    marks = ", ".join(mark.value for mark in case.marks)
    return f"{name}\n[dim]{marks}[/]" if marks else name


def _not_read_table(cases: Iterable[Case]) -> Table:
    table = _table("Not read: a human must look", "reason", "id")
    for case in cases:
        assert case.code is not None
        detail = f"\n[dim]{escape(case.detail)}[/]" if case.detail else ""
        reason = f"{CODES[case.code].meaning} [dim]({case.code.value})[/]{detail}"
        table.add_row(reason, str(case.file_id), _file_text(case))
    return table


def _marked_table(cases: Iterable[Case]) -> Table:
    table = _table("Read, but look again", "id")
    for case in cases:
        table.add_row(str(case.file_id), _file_text(case))
    return table


def _table(title: str, *columns: str) -> Table:
    """Return an empty table whose last column, the file, is never cut short."""
    table = Table(*columns, title=title, title_justify="left")
    table.add_column("file", overflow="fold")
    return table


def _spoken(name: str) -> str:
    return name.replace("_", " ")
