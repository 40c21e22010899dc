"""Where commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

output = Console()
errors = Console(stderr=True)


def printable(text: str | Path) -> str:
    """Return a path, or other text from outside, on one line, with a backslash for what is no text.

    A name that is not valid UTF-8 (its surrogates, PEP 383) could not be printed at all, and one
    with control characters could erase or forge the lines around it. It is not markup yet: `escape`
    it where markup is read.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text)
    )


def fingerprint_lines(fingerprint: str) -> str:
    """Put each field of a backend's fingerprint on a line of its own, for a table's cell."""
    return re.sub(r" (?=\w+=)", "\n", fingerprint)
