"""CSV tables that a user supplies: columns checked, cells typed, every problem named by its row.

Files are UTF-8, with or without a byte order mark, with commas or semicolons. Column names are
compared in lower case. Rows are numbered as an editor or a spreadsheet shows them: the header is
row 1, and empty rows count.
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import BytesIO, TextIOWrapper
from pathlib import Path

from hipedge.errors import InputError

_MAX_ROWS_NAMED = 10
_MAX_PROBLEMS_NAMED = 20
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")  # what `hipedge.files.escape_formula` writes


@dataclass(frozen=True)
class Columns:
    """The columns of a table: `required`, and at least one of `any_of`.

    `allowed` lists all columns that may be there; `None` allows any, and the caller ignores those
    that it does not know. `pad_short_rows` fills missing cells at the end of a row with "".
    `row_word` is what messages call a row: `row` or `line`.
    """

    required: tuple[str, ...]
    any_of: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    pad_short_rows: bool = False
    row_word: str = "line"


class Problems:
    """Collects the problems of one source, to be raised together as one `InputError`."""

    def __init__(self, source: str | Path) -> None:
        self._source = source
        self._found: list[tuple[int, str]] = []

    def add(self, row: int, message: str) -> None:
        """Record a problem of a row."""
        self._found.append((row, message))

    def raise_by_row(self) -> None:
        """Raise `InputError` if there is a problem, with one line for each row: a file to edit."""
        if not self._found:
            return
        problems = sorted(set(self._found))
        lines = [
            f"{self._source}, line {row}: {message}"
            for row, message in problems[:_MAX_PROBLEMS_NAMED]
        ]
        if len(problems) > _MAX_PROBLEMS_NAMED:
            lines.append(f"and {len(problems) - _MAX_PROBLEMS_NAMED} more faults")
        raise InputError("\n".join(lines))

    def raise_by_message(self) -> None:
        """Raise `InputError` if there is a problem, with one line for each message.

        For tables that a program has written, where one mistake is repeated in many rows.
        """
        if not self._found:
            return
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, message in self._found:
            rows_of[message].append(row)
        lines = [f"{message}: {name_rows(sorted(set(rows)))}" for message, rows in rows_of.items()]
        if len(lines) > _MAX_PROBLEMS_NAMED:
            lines[_MAX_PROBLEMS_NAMED:] = [
                f"and {len(lines) - _MAX_PROBLEMS_NAMED} more kinds of fault"
            ]
        raise InputError(f"{self._source} cannot be used:\n  " + "\n  ".join(lines))


def read_rows(
    path: Path, columns: Columns, *, content: bytes | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each row that is not empty, and its cells, stripped, by column.

    `content` holds the bytes of the file if the caller has read them already. Raises `InputError`,
    naming the row, for a header without the columns needed, for a row of another length, for
    malformed CSV and for bytes that are not UTF-8.
    """
    try:
        with path.open("rb") if content is None else BytesIO(content) as file:
            text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
            header_line = text.readline()
            text.seek(0)
            delimiter = ";" if header_line.count(";") > header_line.count(",") else ","
            yield from _checked_rows(text, delimiter, columns)
    except _BadRowError as error:
        raise InputError(f"{path}, {columns.row_word} {error.row}: {error}") from None
    except UnicodeDecodeError:
        bad = _rows_not_utf8(path.read_bytes() if content is None else content)
        raise InputError(
            f"{path} is not UTF-8 throughout: {name_rows(bad, columns.row_word)}; "
            "save it again as CSV UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def finite_number(text: str) -> float | None:
    """Parse a decimal number; `None` if the text is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" if one of the known words is similar, else an empty string."""
    close = get_close_matches(word.lower(), list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def repeated_rows(keys: Iterable[tuple[int, Hashable]]) -> Iterator[tuple[int, int]]:
    """Yield (row, first row) for each row whose key an earlier row has; `keys` are (row, key)."""
    first: dict[Hashable, int] = {}
    for row, key in keys:
        if key in first:
            yield row, first[key]
        first.setdefault(key, row)


def name_rows(rows: Sequence[int], word: str = "row") -> str:
    """Name rows for a message: "row 3", "rows 2, 4", or the first ten and how many more."""
    named = ", ".join(str(row) for row in rows[:_MAX_ROWS_NAMED])
    more = len(rows) - _MAX_ROWS_NAMED
    return f"{word}{'s' if len(rows) > 1 else ''} {named}" + (
        f" and {more} more" if more > 0 else ""
    )


class _BadRowError(Exception):
    """A header or a row that cannot be read at all."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def _checked_rows(
    lines: Iterable[str], delimiter: str, columns: Columns
) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if problem := _header_problem(header, columns):
            raise _BadRowError(reader.line_num, problem)
        for cells in reader:
            if not any(cells):
                continue
            if columns.pad_short_rows:
                cells += [""] * (len(header) - len(cells))
            if len(cells) != len(header):
                more = "more" if len(cells) > len(header) else "fewer"
                width = f"{len(cells)} cells under a header of {len(header)}"
                raise _BadRowError(reader.line_num, f"{width}: {more} cells than columns")
            values = (_unescape(cell.strip()) for cell in cells)
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise _BadRowError(reader.line_num, str(error)) from None


def _header_problem(header: Sequence[str], columns: Columns) -> str | None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        return f"a column is named twice: {', '.join(repeated)}"
    if columns.allowed is not None:
        for name in header:
            if name not in columns.allowed:
                guess = did_you_mean(name, columns.allowed)
                return (
                    f"unknown column {name!r}{guess}; the columns are {', '.join(columns.allowed)}"
                )
    missing = [name + did_you_mean(name, header) for name in columns.required if name not in header]
    if columns.any_of and not any(name in header for name in columns.any_of):
        missing.append(" or ".join(columns.any_of))
    if not missing:
        return None
    needed = " and ".join(
        [*columns.required, *([f"one of {', '.join(columns.any_of)}"] if columns.any_of else [])]
    )
    return f"no column {', no column '.join(missing)}; the table needs the columns {needed}"


def _unescape(cell: str) -> str:
    """Undo `hipedge.files.escape_formula`, so that tables that hipedge wrote are read unchanged."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def _rows_not_utf8(content: bytes) -> list[int]:
    bad = []
    for row, line in enumerate(content.splitlines(), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            bad.append(row)
    return bad
