"""The result of one check of an installation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The result of one check. `works` is None where an optional part is absent or cannot be told.

    `cure` says how to fix what does not work.
    """

    section: str
    name: str
    works: bool | None
    found: str
    cure: str = ""
    required: bool = True
