"""`hipedge show`: one case, in words and as a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from hipedge.cli.console import errors, output, printable
from hipedge.cli.flagged import say_whose_results
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.dicom import load, read
from hipedge.errors import CODES, InputError, Refused, State
from hipedge.locate.upright import turns_of
from hipedge.review.picture import draw_case
from hipedge.review.worklist import caption, case_record, finding_record, open_review
from hipedge.rules.decide import HARDWARE, HARDWARE_NOTE
from hipedge.store import Case
from hipedge.types import CATEGORIES


def show(
    case: Annotated[
        str, typer.Argument(help="Row id, path, SOP Instance UID, or the start of a SHA-256.")
    ],
    db: DbOption = None,
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG file to write (default: hipedge-<id>.png)."),
    ] = None,
    operating_point: OperatingPointOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; write no picture unless --output is given.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Show one case: its findings, and a picture with boxes and heat maps over the film."""
    settings = load_settings({"db": db, "operating_point": operating_point}, config)
    with open_review(settings.db, settings) as (store, rules):
        found = store.find(rules, case)
    if not found:
        raise InputError(f"no case {case!r} in {settings.db}")
    if len(found) > 1:
        ids = ", ".join(str(one.file_id) for one in found)
        raise InputError(f"{case!r} fits several cases: name one by its id ({ids})")
    (shown,) = found
    if as_json:
        json.dump(_as_json(shown), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _print_case(shown)
    if shown.state is State.SCREENED and (target or not as_json):
        target = target or Path(f"hipedge-{shown.file_id}.png")
        write_picture(shown, target)
        errors.print(f"picture: {escape(printable(target))}", soft_wrap=True)


def _as_json(case: Case) -> dict[str, object]:
    hips = [finding_record(s.hip, f) for s, f in zip(case.hips, case.findings, strict=True)]
    return {**case_record(case), "hips": hips}


def _print_case(case: Case) -> None:
    output.print(f"[bold]{escape(printable(case.path))}[/]", soft_wrap=True)
    output.print(f"SHA-256 {case.sha256}", soft_wrap=True, highlight=False)
    if case.code is not None:
        detail = f" ({escape(printable(case.detail))})" if case.detail else ""
        output.print(f"{case.state.value}: {CODES[case.code].meaning}{detail}")
    if case.marks:
        output.print("marks: " + ", ".join(mark.value for mark in case.marks))
    if case.hips:
        output.print(_probabilities_table(case))
    if any(finding.category in HARDWARE for finding in case.findings):
        output.print(f"Arthroplasty and fixation are {HARDWARE_NOTE}.")
    output.print(f"backend {escape(case.backend)}", soft_wrap=True)
    say_whose_results([case])


def _probabilities_table(case: Case) -> Table:
    table = Table("", *(scored.hip.side.value for scored in case.hips))
    table.add_row("priority", *(finding.priority.value for finding in case.findings))
    table.add_row("found at", *(f"{s.hip.confidence:.2f}" for s in case.hips), end_section=True)
    for row, category in enumerate(CATEGORIES):
        cells = [
            f"{finding.probabilities[row]:.3f}"
            + (" ●" if category is finding.category else "")
            + (" ⚑" if category in finding.flagged_for else "")
            for finding in case.findings
        ]
        table.add_row(category.value.replace("_", " "), *cells)
    return table


def write_picture(case: Case, target: Path) -> None:
    """Write a case's picture as PNG; raise `InputError` where its film is no longer there."""
    name = printable(case.path)
    try:
        payload = load(case.path)
        pixels = np.rot90(read(case.path, payload).pixels, turns_of(case.marks))
    except Refused as refused:
        raise InputError(f"the film can no longer be read from {name}: {refused}") from refused
    if payload.sha256 != case.sha256:
        raise InputError(f"{name} no longer holds the film that was screened")
    try:
        draw_case(pixels, case.hips, case.findings, caption(case)).save(target, "PNG")
    except OSError as error:
        raise InputError(f"the picture cannot be written to {target}: {error.strerror}") from error
