"""A study's tables as Markdown, and a part of a document that is made by a command."""

from __future__ import annotations

import re
from pathlib import Path

from hipedge.study.estimates import Cell, Estimate, Table
from hipedge.study.report.html import interval_text, number


def markdown(table: Table) -> str:
    """Return a table under its title, each estimate with its 95 % interval, and its note."""
    lines = [
        f"### {table.title}",
        "",
        "| " + " | ".join(table.columns) + " |",
        "| --- |" + " ---: |" * (len(table.columns) - 1),
        *("| " + " | ".join(cell_text(cell) for cell in row) + " |" for row in table.rows),
    ]
    return "\n".join([*lines, "", table.note] if table.note else lines)


def cell_text(cell: Cell) -> str:
    """Return a cell: an estimate with its interval, a number, or words."""
    if cell is None:
        return ""
    if not isinstance(cell, Estimate):
        return f"{cell:,}" if isinstance(cell, int) else str(cell)
    interval = interval_text(cell) if cell.defined else ""
    return number(cell.value, cell.unit) + (f" ({interval})" if interval else "")


def replace_part(document: Path, name: str, text: str) -> None:
    """Write `text` between a document's comments `<!-- name -->` and `<!-- /name -->`."""
    before = document.read_text(encoding="utf-8")
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    after, found = re.subn(
        pattern, lambda part: f"{part[1]}{text}\n{part[2]}", before, flags=re.DOTALL
    )
    if not found:
        raise ValueError(f"{document} has no part <!-- {name} -->")
    document.write_text(after, encoding="utf-8")
