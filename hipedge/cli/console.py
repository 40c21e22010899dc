"""Where commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from hipedge.text import printable, printable_lines

__all__ = ["errors", "fingerprint_lines", "output", "plain", "printable", "printable_lines"]

output = Console()
errors = Console(stderr=True)


def plain(text: str | Path) -> str:
    """Return text from outside as Rich markup that shows it literally, on one line.

    Rich reads markup in what `printable` returns.
    """
    return escape(printable(text))


def fingerprint_lines(fingerprint: str) -> str:
    """Put each field of a backend's fingerprint on a line of its own, for a table's cell."""
    return re.sub(r" (?=\w+=)", "\n", fingerprint)
