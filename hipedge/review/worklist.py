"""The worklist: flagged hips, films that carry a mark, and the files that were not read."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from hipedge.config import Settings
from hipedge.content import hashes_of
from hipedge.errors import CODES, State, StoreError
from hipedge.model.card import Card, parse_card
from hipedge.rules.decide import HARDWARE_NOTE, Rule
from hipedge.rules.site_rule import site_rule
from hipedge.store.rows import Case
from hipedge.store.store import Store
from hipedge.types import CATEGORIES, HARDWARE, Finding, Hip, Priority

_PRIORITIES = tuple(Priority)
# A film that was quarantined comes before one that is not applicable.
_NOT_READ = (State.QUARANTINED, State.NOT_APPLICABLE)
# The number of characters that fit below the narrowest picture.
CAPTION_WIDTH = 110


@dataclass(frozen=True, eq=False)
class FlaggedHip:
    """A hip that a doctor should see, and the case that it is part of."""

    case: Case
    hip: Hip
    finding: Finding


@dataclass(frozen=True, eq=False)
class Worklist:
    """What a person must see to. No file in it is a negative result.

    `flagged` is sorted by priority, urgent first, then by probability. `not_read` holds every
    radiograph and picture that was not screened, quarantined ones first; `marked` the films that
    were read but carry a mark; `other_modalities` the files that are neither radiograph nor
    picture. Each of the three is oldest first.
    """

    flagged: tuple[FlaggedHip, ...]
    not_read: tuple[Case, ...]
    marked: tuple[Case, ...]
    other_modalities: tuple[Case, ...]


@contextmanager
def open_review(db: Path, settings: Settings) -> Iterator[tuple[Store, Mapping[str, Rule]]]:
    """Open a database for reading, with every hip decided under the site's present thresholds.

    Yields the store and the rule of each model in it. Raises `StoreError` if there is none.
    """
    if not db.exists():
        raise StoreError(f"there is no database {db}: `hipedge screen` makes it")
    with Store(db, read_only=not os.access(db, os.W_OK)) as store:
        rules = site_rules(store, settings)
        for model_id, rule in rules.items():
            store.apply_rule(model_id, rule)
        yield store, rules


def site_rules(store: Store, settings: Settings) -> dict[str, Rule]:
    """Return the rule that is in force at a site for each model in its database."""
    return {
        model_id: site_rule(_card(card, f"the card of model {model_id[:12]}"), settings)
        for model_id, card in store.models().items()
    }


# A page of `hipedge serve` asks for it each time, and checking a card takes 8 ms.
@lru_cache(maxsize=32)
def _card(text: str, source: str) -> Card:
    return parse_card(text.encode(), source)


def worklist(store: Store, rules: Mapping[str, Rule], since: datetime | None = None) -> Worklist:
    """Return the worklist of what was recorded at `since` or later; of everything for None."""
    cases = list(store.worklist(rules, since))
    flagged = [
        FlaggedHip(case, scored.hip, finding)
        for case in cases
        for scored, finding in zip(case.hips, case.findings, strict=True)
        if finding.flagged
    ]
    flagged.sort(key=_urgency)
    not_read = [case for case in cases if case.state in _NOT_READ]
    not_read.sort(key=lambda case: _NOT_READ.index(case.state))
    return Worklist(
        flagged=tuple(flagged),
        not_read=tuple(not_read),
        marked=tuple(case for case in cases if case.state not in _NOT_READ and case.marks),
        other_modalities=tuple(store.other_modalities(rules, since)),
    )


def _urgency(hip: FlaggedHip) -> tuple[int, float]:
    return _PRIORITIES.index(hip.finding.priority), -max_flag_probability(hip.finding)


def max_flag_probability(finding: Finding) -> float:
    """Return the highest probability among the categories that a hip is flagged for."""
    reasons = finding.flagged_for or (finding.category,)
    return max(finding.probabilities[CATEGORIES.index(category)] for category in reasons)


def describe_model(case: Case) -> str:
    """Return the name of the model that read a case, and the status text of its card."""
    return f"model {case.model} ({case.model_status}): {case.model_status_text}"


def caption(case: Case) -> tuple[str, ...]:
    """Return the lines below a case's picture: the model, its status and the backend."""
    lines = textwrap.wrap(describe_model(case), CAPTION_WIDTH)
    return (*lines, f"Research use only. {case.backend}")


def case_record(case: Case) -> dict[str, Any]:
    """Return a file and its outcome as plain values with stable names."""
    return {
        "path": str(case.path),
        **hashes_of(case.content_hash),
        "sop_instance_uid": case.sop_instance_uid,
        "study_instance_uid": case.study_instance_uid,
        "state": case.state.value,
        "code": case.code.value if case.code else None,
        "meaning": CODES[case.code].meaning if case.code else None,
        "detail": case.detail,
        "marks": [mark.value for mark in case.marks],
        "recorded_at": case.recorded_at,
        "model": case.model,
        "model_status": case.model_status,
        "model_status_text": case.model_status_text,
        "backend": case.backend,
    }


def finding_record(hip: Hip, finding: Finding) -> dict[str, Any]:
    """Return a hip and its finding as plain values with stable names."""
    return {
        "side": hip.side.value,
        "priority": finding.priority.value,
        "category": finding.category.value,
        "flagged": finding.flagged,
        "flagged_for": [category.value for category in finding.flagged_for],
        "uncertain": finding.uncertain,
        "note": HARDWARE_NOTE if finding.category in HARDWARE else None,
        "probabilities": {
            category.value: round(probability, 4)
            for category, probability in zip(CATEGORIES, finding.probabilities, strict=True)
        },
        "operating_point": finding.operating_point,
        "box_px": [round(edge, 1) for edge in (hip.box.x0, hip.box.y0, hip.box.x1, hip.box.y1)],
    }
