"""`hipedge flagged`: the worklist, most urgent hips first, then every file that was not read."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from hipedge.cli.console import errors, output, plain, printable
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.errors import CODES, Code
from hipedge.files import write_csv
from hipedge.review.worklist import (
    FlaggedHip,
    Worklist,
    case_record,
    describe_model,
    finding_record,
    open_review,
    worklist,
)
from hipedge.rules.decide import HARDWARE_NOTE
from hipedge.store.rows import Case
from hipedge.types import CATEGORIES, HARDWARE, Finding, Priority

STYLES = {Priority.URGENT: "bold red", Priority.ROUTINE: "yellow"}


def flagged(
    db: DbOption = None,
    operating_point: OperatingPointOption = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only what was recorded since then (local time).")
    ] = None,
    other_modalities: Annotated[
        bool,
        typer.Option(
            "--other-modalities",
            help="List files of other modalities one by one, not only their number.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, one row for each line.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the flagged hips, most urgent first; then every file that was not read.

    Changed thresholds apply to all recorded hips, without new inference. Of files of other
    modalities the table gives the number; JSON and CSV list them one by one.
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
        _print_tables(found, list_other_modalities=other_modalities)


def _as_json(found: Worklist) -> dict[str, list[dict[str, Any]]]:
    return {
        "flagged": [_flagged_record(hip) for hip in found.flagged],
        "not_read": [case_record(case) for case in found.not_read],
        "marked": [case_record(case) for case in found.marked],
        "other_modalities": [case_record(case) for case in found.other_modalities],
    }


def _flagged_record(flagged: FlaggedHip) -> dict[str, Any]:
    return finding_record(flagged.hip, flagged.finding) | case_record(flagged.case)


def _write_csv(found: Worklist) -> None:
    rows = [
        {"list": name, **_flat(record)}
        for name, records in _as_json(found).items()
        for record in records
    ]
    names = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(sys.stdout, names, ([row.get(name, "") for name in names] for row in rows))


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with a list as one cell, and a column for each probability."""
    probabilities = record.pop("probabilities", {})
    joined = {
        key: ";".join(map(str, value)) if isinstance(value, list) else value
        for key, value in record.items()
    }
    texts = {key: printable(value) for key, value in joined.items() if isinstance(value, str)}
    return joined | texts | {f"p_{name}": value for name, value in probabilities.items()}


def _print_tables(found: Worklist, *, list_other_modalities: bool) -> None:
    if found.flagged:
        output.print(_flagged_table(found.flagged))
    else:
        output.print("No hip is flagged.")
    if any(hip.finding.category in HARDWARE for hip in found.flagged):
        output.print(f"Arthroplasty and fixation are {HARDWARE_NOTE}.")
    if found.marked:
        output.print(_marked_table(found.marked))
    if found.not_read:
        output.print(_not_read_table("Not read: a human must look", found.not_read))
    if found.other_modalities and list_other_modalities:
        output.print(_not_read_table("Not read: other modalities", found.other_modalities))
    elif found.other_modalities:
        output.print(_other_modalities_text(found.other_modalities), soft_wrap=True)
    cases = (hip.case for hip in found.flagged)
    print_models([*cases, *found.not_read, *found.marked, *found.other_modalities])


def _other_modalities_text(cases: Iterable[Case]) -> str:
    """Return the number of files for each code, and how to list them."""
    counts = Counter(case.code for case in cases if case.code)
    numbers = [f"{counts[code]} × {CODES[code].meaning} ({code.value})" for code in Code
               if counts[code]]  # fmt: skip
    return (
        f"Not read either, by modality: {', '.join(numbers)}."
        " List them with: hipedge flagged --other-modalities"
    )


def print_models(cases: Iterable[Case]) -> None:
    """Print the name and status text of each model that read one of the cases."""
    for model in sorted({describe_model(case) for case in cases}):
        errors.print(plain(model), soft_wrap=True, highlight=False)


def _flagged_table(hips: Iterable[FlaggedHip]) -> Table:
    table = _table("Flagged", "priority", "hip", "finding", "id")
    for flagged in hips:
        priority = flagged.finding.priority
        table.add_row(
            f"[{STYLES[priority]}]{priority.value}[/]",
            flagged.hip.side.value,
            _finding_text(flagged.finding),
            str(flagged.case.file_id),
            _file_text(flagged.case),
        )
    return table


def _finding_text(finding: Finding) -> str:
    """Name the most probable category, then on a line each what else a hip is flagged for."""
    probability = dict(zip(CATEGORIES, finding.probabilities, strict=True))
    lines = [
        f"{category.value.replace('_', ' ')} {probability[category]:.0%}"
        for category in dict.fromkeys((finding.category, *finding.flagged_for))
    ]
    if finding.uncertain:
        lines[0] += ", uncertain"
    return "\n".join([lines[0], *(f"[dim]and[/] {line}" for line in lines[1:])])


def _file_text(case: Case) -> str:
    """Name the file, or its whole path where it was never read; below it its marks."""
    name = plain(case.path if case.content_hash is None else case.path.name)
    marks = ", ".join(mark.value for mark in case.marks)
    return f"{name}\n[dim]{marks}[/]" if marks else name


def _not_read_table(title: str, cases: Iterable[Case]) -> Table:
    table = _table(title, "reason", "id")
    for case in cases:
        assert case.code is not None
        detail = f"\n[dim]{plain(case.detail)}[/]" if case.detail else ""
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
