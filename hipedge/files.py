"""Writing files: atomically, and as CSV that a spreadsheet does not execute."""

from __future__ import annotations

import csv
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# Text that a spreadsheet may evaluate, with any apostrophes that already escape it; numbers are
# not escaped.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` at the end.

    Readers see the old file or the new one. The name is unique, so that processes that share a
    folder do not write to the same file. If writing fails, nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk before it appears under its name."""
    with replacing(path) as partial, partial.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_csv(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows as CSV; text that a spreadsheet would evaluate is escaped."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(escape_formula, header))
    writer.writerows(map(escape_formula, row) for row in rows)


def escape_formula(cell: object) -> object:
    """Return a CSV cell that no spreadsheet evaluates as a formula.

    Text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe
    in front, which spreadsheets hide (OWASP, "CSV Injection"). Numbers stay numbers, also those
    formatted as text. `hipedge.csv_input` removes the apostrophe again.
    """
    if isinstance(cell, (int, float)) or cell is None:
        return cell
    text = str(cell)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
