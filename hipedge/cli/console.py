"""Where commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.markup import escape

output = Console()
errors = Console(stderr=True)


def printable(text: str | Path) -> str:
    """Return a path, or other text from outside, on one line, unprintable characters escaped.

    A name that is not valid UTF-8 (its surrogates, PEP 383) could not be printed at all, and one
    with control characters could erase or forge the lines around it. Rich still reads markup in
    the result: where it does, use `plain`.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def printable_lines(text: str) -> str:
    """Return text of several lines, each of them `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def plain(text: str | Path) -> str:
    """Return text from outside as Rich markup that shows it literally, on one line."""
    return escape(printable(text))


def fingerprint_lines(fingerprint: str) -> str:
    """Put each field of a backend's fingerprint on a line of its own, for a table's cell."""
    return re.sub(r" (?=\w+=)", "\n", fingerprint)
