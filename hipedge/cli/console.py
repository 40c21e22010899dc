"""Where commands print: results to standard output, everything else to standard error."""

import re

from rich.console import Console

output = Console()
errors = Console(stderr=True)


def fingerprint_lines(fingerprint: str) -> str:
    """Put each field of a backend's fingerprint on a line of its own, for a table's cell."""
    return re.sub(r" (?=\w+=)", "\n", fingerprint)
