"""Conversion between the values of the pipeline and rows of the database."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import Code, State
from hipedge.types import (
    Box,
    Category,
    Film,
    Finding,
    Hip,
    Laterality,
    Mark,
    Outcome,
    Priority,
    Refusal,
    ScoredHip,
    Scores,
    Screened,
    Side,
    View,
)

Row = dict[str, Any]

# The first part of the path of an object that lies in no file system: `s3:`.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")


@dataclass(frozen=True, eq=False)
class Case:
    """One file as it is shown: its outcome, and its hips with their findings.

    `shape` and `spacing_mm` (rows, columns) are those of the film as it was turned.
    """

    file_id: int
    model_id: str
    path: Path
    content_hash: str | None
    sop_instance_uid: str | None
    study_instance_uid: str | None
    state: State
    code: Code | None
    detail: str
    marks: tuple[Mark, ...]
    shape: tuple[int, int] | None
    spacing_mm: tuple[float, float] | None
    age_years: float | None
    sex: str | None
    manufacturer: str | None
    patient: str | None
    studied_on: str | None
    recorded_at: str
    model: str
    model_version: str
    model_status: str
    model_status_text: str
    backend: str
    hips: tuple[ScoredHip, ...]
    findings: tuple[Finding, ...]


def path_to_text(path: Path) -> str:
    """Return an absolute path as text that SQLite can hold.

    A path that is not valid UTF-8 becomes a `file://` URI. An object's path, which is relative and
    begins with its scheme (`path_from_text`), becomes its URI.
    """
    if _SCHEME.fullmatch(path.parts[0] if path.parts else ""):
        return f"{path.parts[0]}//{'/'.join(path.parts[1:])}"
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        return path.as_uri()


def path_from_text(text: str) -> Path:
    """Return the path of a text made by `path_to_text`: that of `s3://bucket/key` is relative."""
    if text.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file://"))))
    return Path(text)


def to_json(value: object) -> str:
    """Return `value` as compact JSON."""
    return json.dumps(value, separators=(",", ":"))


def file_row(outcome: Outcome) -> Row:
    """Return the columns of `files` that depend on the outcome alone."""
    film = outcome.film
    row: Row = {
        "state": State.SCREENED.value,
        "marks": _marks_json(outcome.marks),
        "timings_ms": to_json({stage: round(ms, 3) for stage, ms in outcome.timings_ms.items()}),
    }
    if isinstance(outcome, Refusal):
        row |= {
            "state": outcome.state.value,
            "stage": outcome.stage.value,
            "code": outcome.code.value,
            "detail": outcome.detail,
        }
    return row | (film_columns(film) if film else {})


def film_columns(film: Film) -> Row:
    """Return the columns of `files` that describe a film."""
    row_spacing_mm, column_spacing_mm = film.spacing_mm or (None, None)
    return {
        "pixel_hash": film.pixel_hash,
        "overview_hash": film.overview_hash,
        "sop_instance_uid": film.sop_instance_uid,
        "study_instance_uid": film.study_instance_uid,
        "sop_class_uid": film.sop_class_uid,
        "transfer_syntax_uid": film.transfer_syntax_uid,
        "modality": film.modality,
        "view": film.view.value,
        "laterality": film.laterality.value if film.laterality else None,
        "orientation": "\\".join(film.orientation) if film.orientation else None,
        "inverted": int(film.inverted),
        "height_px": film.shape[0],
        "width_px": film.shape[1],
        "row_spacing_mm": row_spacing_mm,
        "column_spacing_mm": column_spacing_mm,
        "age_years": film.age_years,
        "sex": film.sex,
        "manufacturer": film.manufacturer,
        "patient": film.patient,
        "studied_on": film.studied_on.isoformat() if film.studied_on else None,
    }


def outcome_row(outcome: Outcome) -> Row:
    """Return an outcome as one nested row, for files: `outcome_from_row` restores it.

    The columns are those of `files`; `hips` is a list of rows with the columns of `hips` and
    `decisions`. Beside the marks of the outcome are those that the film had when it was read.
    """
    film_marks = outcome.film.marks if outcome.film else frozenset[Mark]()
    pairs = list[tuple[ScoredHip, Finding]]()
    if isinstance(outcome, Screened):
        pairs += zip(outcome.hips, outcome.findings, strict=True)
    return file_row(outcome) | {
        "path": path_to_text(outcome.source),
        "content_hash": outcome.content_hash,
        "sha256": outcome.sha256,
        "film_marks": _marks_json(film_marks),
        "hips": [hip_row(hip) | finding_row(finding) for hip, finding in pairs],
    }


def outcome_from_row(row: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a row made by `outcome_row`; absent columns may be None."""
    marks, timings_ms = _marks_of(row["marks"]), json.loads(row["timings_ms"])
    film = film_from_columns(row) if row.get("pixel_hash") is not None else None
    if row["state"] == State.SCREENED.value:
        assert film is not None
        hips = tuple(hip_from_row(hip) for hip in row["hips"])
        findings = tuple(finding_from_row(hip) for hip in row["hips"])
        return Screened(film, hips, findings, marks, timings_ms)
    return Refusal(
        path_from_text(row["path"]),
        Code(row["code"]),
        row["detail"] or "",
        content_hash=row["content_hash"],
        film=film,
        marks=marks,
        timings_ms=timings_ms,
        sha256=row["sha256"],
    )


def film_from_columns(row: Mapping[str, Any]) -> Film:
    """Return the film of a row made by `outcome_row`."""
    spacing_mm = (row["row_spacing_mm"], row["column_spacing_mm"])
    return Film(
        source=path_from_text(row["path"]),
        content_hash=row["content_hash"],
        pixel_hash=row["pixel_hash"],
        shape=(row["height_px"], row["width_px"]),
        transfer_syntax_uid=row["transfer_syntax_uid"],
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        study_instance_uid=row["study_instance_uid"],
        modality=row["modality"],
        view=View(row["view"]),
        laterality=Laterality(row["laterality"]) if row["laterality"] else None,
        orientation=tuple(row["orientation"].split("\\")) if row["orientation"] else None,
        inverted=bool(row["inverted"]),
        spacing_mm=None if spacing_mm[0] is None else spacing_mm,
        age_years=row["age_years"],
        sex=row["sex"],
        manufacturer=row["manufacturer"],
        marks=_marks_of(row["film_marks"]),
        overview_hash=row["overview_hash"],
        patient=row["patient"],
        studied_on=date.fromisoformat(row["studied_on"]) if row["studied_on"] else None,
        sha256=row["sha256"],
    )


def _marks_json(marks: Iterable[Mark]) -> str:
    return to_json(sorted(mark.value for mark in marks))


def _marks_of(text: str) -> frozenset[Mark]:
    return frozenset(Mark(mark) for mark in json.loads(text))


def hip_row(scored: ScoredHip) -> Row:
    """Return the columns of `hips` for a hip and its scores; the maps are stored as float16."""
    hip, box = scored.hip, scored.hip.box
    maps = np.stack([scores.maps for scores in scored.scores]).astype(np.float16)
    return {
        "side": hip.side.value,
        "centre_x_px": hip.centre_px[0],
        "centre_y_px": hip.centre_px[1],
        "x0_px": box.x0,
        "y0_px": box.y0,
        "x1_px": box.x1,
        "y1_px": box.y1,
        "confidence": hip.confidence,
        "mirrored": int(hip.mirrored),
        "logits": to_json([scores.logits.tolist() for scores in scored.scores]),
        "maps": maps.tobytes(),
        "maps_shape": to_json(maps.shape),
    }


def hip_from_row(row: Mapping[str, Any]) -> ScoredHip:
    """Return the hip and scores of a row made by `hip_row`."""
    hip = Hip(
        side=Side(row["side"]),
        centre_px=(row["centre_x_px"], row["centre_y_px"]),
        box=Box(row["x0_px"], row["y0_px"], row["x1_px"], row["y1_px"]),
        confidence=row["confidence"],
        mirrored=bool(row["mirrored"]),
    )
    maps = np.frombuffer(row["maps"], np.float16).reshape(json.loads(row["maps_shape"]))
    views = zip(logits_from_json(row["logits"]), maps.astype(np.float32), strict=True)
    return ScoredHip(hip, tuple(Scores(*view) for view in views))


def logits_from_json(text: str) -> list[NDArray[np.float32]]:
    """Return the logits (K,) of each view of a hip: as it is, or also mirrored."""
    return [np.array(logits, np.float32) for logits in json.loads(text)]


def finding_row(finding: Finding) -> Row:
    """Return the columns of `decisions` for a finding."""
    return {
        "category": finding.category.value,
        "probabilities": to_json(finding.probabilities),
        "flagged": int(finding.flagged),
        "flagged_for": to_json([category.value for category in finding.flagged_for]),
        "uncertain": int(finding.uncertain),
        "priority": finding.priority.value,
        "operating_point": finding.operating_point,
    }


def finding_from_row(row: Mapping[str, Any]) -> Finding:
    """Return the finding of a row made by `finding_row`."""
    return Finding(
        category=Category(row["category"]),
        probabilities=tuple(json.loads(row["probabilities"])),
        flagged_for=tuple(Category(name) for name in json.loads(row["flagged_for"])),
        uncertain=bool(row["uncertain"]),
        priority=Priority(row["priority"]),
        operating_point=row["operating_point"],
    )


def case_from_row(row: Mapping[str, Any], pairs: list[tuple[ScoredHip, Finding]]) -> Case:
    """Return the case of a row of `files`, joined with its model and run, and its hips."""
    return Case(
        file_id=row["id"],
        model_id=row["model_id"],
        path=path_from_text(row["path"]),
        content_hash=row["content_hash"],
        sop_instance_uid=row["sop_instance_uid"],
        study_instance_uid=row["study_instance_uid"],
        state=State(row["state"]),
        code=Code(row["code"]) if row["code"] else None,
        detail=row["detail"] or "",
        marks=tuple(Mark(mark) for mark in json.loads(row["marks"])),
        shape=(row["height_px"], row["width_px"]) if row["height_px"] else None,
        spacing_mm=(row["row_spacing_mm"], row["column_spacing_mm"])
        if row["row_spacing_mm"]
        else None,
        age_years=row["age_years"],
        sex=row["sex"],
        manufacturer=row["manufacturer"],
        patient=row["patient"],
        studied_on=row["studied_on"],
        recorded_at=row["recorded_at"],
        model=row["model_name"],
        model_version=row["model_version"] or "",
        model_status=row["model_status"],
        model_status_text=row["model_status_text"] or "",
        backend=row["backend"],
        hips=tuple(hip for hip, _ in pairs),
        findings=tuple(finding for _, finding in pairs),
    )
