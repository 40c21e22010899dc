"""Sending results of recorded cases by hand, and writing them to a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hipedge.config import Settings
from hipedge.errors import InputError, State
from hipedge.files import PRIVATE, write_atomically
from hipedge.network.library import quiet_libraries
from hipedge.results import check_installed
from hipedge.results.kinds import Kind
from hipedge.results.source import can_have_overlay, read_source, tolerant
from hipedge.review.worklist import worklist
from hipedge.rules.decide import Rule
from hipedge.store.connection import utc_moment
from hipedge.store.outbox import Outbox, is_reportable
from hipedge.store.rows import Case
from hipedge.store.store import Store
from hipedge.watch.results import ResultDispatcher, read_back_of, receivers_of


@dataclass(frozen=True)
class Sent:
    """How many results are delivered, how many wait, and for what reasons."""

    delivered: int
    waiting: int
    reasons: Mapping[str, int]


def select_cases(
    store: Store,
    rules: Mapping[str, Rule],
    keys: Sequence[str],
    *,
    since: datetime | None = None,
    unflagged: bool = False,
    not_read: bool = True,
) -> list[Case]:
    """Return the cases that keys name, as `Store.find` takes them; without keys, the worklist's.

    These are the cases with a flagged hip, all screened ones with `unflagged`, and with `not_read`
    the films that could not be read; recorded at `since` or later. Raises `InputError` for a key
    that names none, several, or one that can have no result.
    """
    if keys:
        return [_find(store, rules, key) for key in keys]
    if unflagged:
        recorded = (case for case in store.all_cases(rules) if case.state is State.SCREENED)
        chosen = [case for case in recorded if _is_since(case, since)]
    else:
        flagged = worklist(store, rules, since).flagged
        chosen = list({hip.case.file_id: hip.case for hip in flagged}.values())
    if not_read:
        chosen += [case for case in worklist(store, rules, since).not_read if _can_be_sent(case)]
    return chosen


def _find(store: Store, rules: Mapping[str, Rule], key: str) -> Case:
    found = store.find(rules, key)
    if len(found) != 1:
        ids = ", ".join(str(case.file_id) for case in found)
        raise InputError(f"{key!r} fits several cases ({ids})" if found else f"no case {key!r}")
    if not _can_be_sent(found[0]):
        raise InputError(f"case {found[0].file_id} was not screened and has no result to send")
    return found[0]


def _can_be_sent(case: Case) -> bool:
    return case.state is State.SCREENED or (case.code is not None and is_reportable(case.code))


def _is_since(case: Case, since: datetime | None) -> bool:
    recorded = utc_moment(case.recorded_at)
    return since is None or recorded >= since.astimezone()


def send_cases(
    store: Store,
    rules: Mapping[str, Rule],
    cases: Iterable[Case],
    settings: Settings,
    *,
    again: bool = False,
) -> Sent:
    """Send the results of cases that their receivers do not have yet, all of them with `again`.

    What cannot be delivered now stays in the outbox, for `hipedge watch` or the next attempt.
    Raises `ConfigError` where no receiver is configured.
    """
    receivers = receivers_of(settings)
    read_back = read_back_of(settings)
    keys = store.request_results(
        cases, rules, [receiver.name for receiver in receivers], again=again
    )
    dispatchers = [
        ResultDispatcher(store, receiver, settings, read_back=read_back) for receiver in receivers
    ]
    with quiet_libraries():
        for dispatcher in dispatchers:
            while dispatcher.dispatch():
                pass
    waiting = Outbox(store).undelivered(keys)
    reasons = Counter(reason for one in dispatchers for reason in one.faults.values())
    return Sent(len(keys) - waiting, waiting, reasons)


def write_results(
    store: Store, cases: Iterable[Case], settings: Settings, folder: Path
) -> Iterator[Path]:
    """Write the results of cases as DICOM files; yield their paths. Sends and records nothing.

    Raises `InputError` where a film can no longer be read, or the folder cannot be written.
    """
    check_installed()
    from hipedge.results.build import Builder, file_bytes

    builder = Builder.of(settings)
    for case in cases:
        with tolerant():
            source = read_source([case.path, *store.places(case.file_id)], case.content_hash)
            for kind in builder.kinds_for(case):
                if kind is Kind.PRESENTATION_STATE and not can_have_overlay(source):
                    continue
                result = builder.build(kind, kind.classes[0], case, source)
                path = folder / f"{case.file_id}-{kind.value}.dcm"
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, file_bytes(result), PRIVATE)
                except OSError as error:
                    raise InputError(f"{path} cannot be written: {error.strerror}") from error
                yield path
