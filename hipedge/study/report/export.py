"""The results as JSON and CSV: every interval, at full precision."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TextIO

from hipedge.files import write_csv
from hipedge.study.estimates import Cell, Estimate, Table


def write_json(path: Path, about: Mapping[str, Any], tables: Mapping[str, Sequence[Table]]) -> None:
    """Write all tables by data set; an undefined value is null."""
    content = dict(about) | {
        "results": {
            name: {
                table.key: {
                    "title": table.title,
                    "note": table.note,
                    "rows": [
                        dict(zip(table.columns, map(_json_cell, row), strict=True))
                        for row in table.rows
                    ],
                }
                for table in of_name
            }
            for name, of_name in tables.items()
        }
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_tables(folder: Path, tables: Mapping[str, Sequence[Table]]) -> None:
    """Write one CSV file per table: one column for an estimate, and two for each interval."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tables_of_name in tables.items():
        for table in tables_of_name:
            path = folder / f"{slug(name)}-{table.key}.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                _write_table(file, table)


def _write_table(file: TextIO, table: Table) -> None:
    methods = [_methods(table, i) for i in range(len(table.columns))]
    header = [
        column
        for title, column_methods in zip(table.columns, methods, strict=True)
        for column in (title, *_interval_columns(title, column_methods))
    ]
    rows = (
        [
            value
            for cell, column_methods in zip(row, methods, strict=True)
            for value in _csv_cells(cell, column_methods)
        ]
        for row in table.rows
    )
    write_csv(file, header, rows)


def slug(name: str) -> str:
    """Return a name that is valid in a file name and as an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"


def _json_cell(cell: Cell) -> Any:
    if not isinstance(cell, Estimate):
        return cell
    return {
        "value": cell.value if isfinite(cell.value) else None,
        "n": cell.n,
        "intervals": {
            name: None if interval is None else [interval.low, interval.high]
            for name, interval in cell.intervals.items()
        },
    }


def _methods(table: Table, column: int) -> tuple[str, ...]:
    """Return the interval methods of a column's estimates, in their order."""
    cells = (row[column] for row in table.rows)
    names = (name for cell in cells if isinstance(cell, Estimate) for name in cell.intervals)
    return tuple(dict.fromkeys(names))


def _interval_columns(title: str, methods: tuple[str, ...]) -> list[str]:
    return [f"{title} {method} {end}" for method in methods for end in ("low", "high")]


def _csv_cells(cell: Cell, methods: tuple[str, ...]) -> list[Any]:
    if not isinstance(cell, Estimate):
        return ["" if cell is None else cell, *[""] * (2 * len(methods))]
    values: list[Any] = [cell.value if cell.defined else "undefined"]
    for method in methods:
        interval = cell.intervals.get(method)
        values += ["", ""] if interval is None else [interval.low, interval.high]
    return values
