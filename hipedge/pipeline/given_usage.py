"""Which rows of `--hips` matched a film of the run."""

from __future__ import annotations

from collections.abc import Iterable

from hipedge.locate.given import GivenHips, file_names
from hipedge.store.store import Store
from hipedge.types import Known, Outcome


class GivenUsage:
    """Collects the files of a run, to name the rows of `--hips` that match none of them."""

    def __init__(self, given_hips: GivenHips) -> None:
        self._unused = dict(given_hips.lines)
        self._of_known = 0

    def add(self, outcomes: Iterable[Outcome], known: Iterable[Known] = ()) -> None:
        """Note the files of outcomes, and those that were recorded before."""
        if not self._unused:
            return
        for outcome in outcomes:
            self._discard(_names(outcome))
        for file in known:
            self._of_known += self._discard(file_names(file.source, file.content_hash, file.sha256))

    def unmatched(self, store: Store) -> tuple[tuple[str, ...], int]:
        """Return the rows that match no film, and how many match a film recorded before.

        The hips of a film that was recorded before are not changed by the CSV file.
        """
        elsewhere = [name for name in self._unused if store.has_instance(name)]
        lines = tuple(line for name, line in self._unused.items() if name not in elsewhere)
        return lines, self._of_known + len(elsewhere)

    def _discard(self, names: Iterable[str]) -> int:
        return sum(self._unused.pop(name, None) is not None for name in names)


def _names(outcome: Outcome) -> tuple[str, ...]:
    uid = outcome.film.sop_instance_uid if outcome.film else None
    return file_names(outcome.source, outcome.content_hash, outcome.sha256, uid)
