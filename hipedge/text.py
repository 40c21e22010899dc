"""Text from outside, as it may be shown."""

from __future__ import annotations

from pathlib import Path


def printable(text: str | Path) -> str:
    """Return a path, or other text from outside, on one line, unprintable characters escaped.

    A name that is not valid UTF-8 (its surrogates, PEP 383) could not be printed at all, and one
    with control characters could erase or forge the text around it.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def printable_lines(text: str) -> str:
    """Return text of several lines, each of them `printable`."""
    return "\n".join(map(printable, text.split("\n")))
