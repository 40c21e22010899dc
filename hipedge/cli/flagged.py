"""`hipedge flagged`: what a doctor should see, urgent first, and what was not read."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from hipedge.cli.console import errors, output
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.decide import HARDWARE, HARDWARE_NOTE
from hipedge.errors import CODES
from hipedge.model.card import Status
from hipedge.store import Case
from hipedge.types import CATEGORIES, Priority
from hipedge.worklist import (
    FlaggedHip,
    Worklist,
    case_record,
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
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    probabilities = record.pop("probabilities", {})
    joined = {
        key: ";".join(map(str, value)) if isinstance(value, list) else value
        for key, value in record.items()
    }
    return joined | {f"p_{name}": value for name, value in probabilities.items()}


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
    warn_of_untrained(cases)


def warn_of_untrained(cases: Iterable[Case]) -> None:
    """Say so if a result comes from a model that has learned nothing."""
    if any(case.model_status == Status.UNTRAINED.value for case in cases):
        errors.print("[bold]These results are of an untrained model: they mean nothing.[/]")


def _flagged_table(hips: Iterable[FlaggedHip]) -> Table:
    table = Table("priority", "side", "category", "p", "flagged for", "marks", "id", "file",
                  title="Flagged", title_justify="left")  # fmt: skip
    for one in hips:
        finding = one.finding
        reasons = [_spoken(category.value) for category in finding.flagged_for]
        table.add_row(
            f"[{STYLES[finding.priority]}]{finding.priority.value}[/]",
            one.hip.side.value,
            _spoken(finding.category.value),
            f"{finding.probabilities[CATEGORIES.index(finding.category)]:.2f}",
            ", ".join([*reasons, *(["uncertain"] if finding.uncertain else [])]),
            ", ".join(mark.value for mark in one.case.marks),
            str(one.case.file_id),
            escape(one.case.path.name),
        )
    return table


def _not_read_table(cases: Iterable[Case]) -> Table:
    table = Table("code", "what it means", "detail", "id", "file",
                  title="Not read: a human must look", title_justify="left")  # fmt: skip
    for case in cases:
        meaning = CODES[case.code].meaning if case.code else ""
        name = escape(str(case.path)) if case.sha256 is None else escape(case.path.name)
        table.add_row(
            case.code.value if case.code else "", meaning, case.detail, str(case.file_id), name
        )
    return table


def _marked_table(cases: Iterable[Case]) -> Table:
    table = Table("marks", "id", "file", title="Read, but look again", title_justify="left")
    for case in cases:
        marks = ", ".join(mark.value for mark in case.marks)
        table.add_row(marks, str(case.file_id), escape(case.path.name))
    return table


def _spoken(name: str) -> str:
    return name.replace("_", " ")
