"""`hipedge show`: one case as text and as a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hipedge.cli.console import errors, output, plain
from hipedge.cli.flagged import print_models
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.content import BLAKE3
from hipedge.errors import CODES, InputError, State
from hipedge.files import private_opener
from hipedge.review.hashes import film_hashes
from hipedge.review.picture import case_picture
from hipedge.review.worklist import case_record, finding_record, open_review
from hipedge.rules.decide import HARDWARE_NOTE
from hipedge.store.rows import Case
from hipedge.types import CATEGORIES, HARDWARE


def show(
    case: Annotated[
        str,
        typer.Argument(help="Row id, path, SOP Instance UID, or the start of a content's hash."),
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
        ids = ", ".join(str(match.file_id) for match in found)
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
        errors.print(f"picture: {plain(target)}", soft_wrap=True)


def _as_json(case: Case) -> dict[str, object]:
    hips = [finding_record(s.hip, f) for s, f in zip(case.hips, case.findings, strict=True)]
    return {**case_record(case), **film_hashes(case), "hips": hips}


def _print_case(case: Case) -> None:
    output.print(f"[bold]{plain(case.path)}[/]", soft_wrap=True)
    hashes = film_hashes(case)
    for kind, known in (("BLAKE3", hashes["content_hash"]), ("SHA-256", hashes["sha256"])):
        if known is not None:
            output.print(f"{kind} {known.removeprefix(BLAKE3)}", soft_wrap=True, highlight=False)
    if case.code is not None:
        detail = f" ({plain(case.detail)})" if case.detail else ""
        output.print(f"{case.state.value}: {CODES[case.code].meaning}{detail}")
    if case.marks:
        output.print("marks: " + ", ".join(mark.value for mark in case.marks))
    if case.hips:
        output.print(_probabilities_table(case))
    if any(finding.category in HARDWARE for finding in case.findings):
        output.print(f"Arthroplasty and fixation are {HARDWARE_NOTE}.")
    output.print(f"backend {plain(case.backend)}", soft_wrap=True)
    print_models([case])


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
    """Write a case's picture as PNG. Raises `InputError` where its film has gone or changed."""
    picture = case_picture(case)
    try:
        with open(target, "wb", opener=private_opener) as file:
            picture.save(file, "PNG")
    except OSError as error:
        raise InputError(f"the picture cannot be written to {target}: {error.strerror}") from error
