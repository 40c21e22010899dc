"""The columns of the Parquet files of an archive run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hipedge.errors import Code, StoreError
from hipedge.store.rows import outcome_from_row, outcome_row, path_from_text, path_to_text
from hipedge.types import Outcome, Refusal

# A path to read; one that cannot be read has its refusal's code and detail.
LISTED = pa.schema(
    [("path", pa.string()), ("code", pa.string()), ("detail", pa.string())],
)
_HIP = pa.struct(
    [
        ("side", pa.string()),
        ("centre_x_px", pa.float64()),
        ("centre_y_px", pa.float64()),
        ("x0_px", pa.float64()),
        ("y0_px", pa.float64()),
        ("x1_px", pa.float64()),
        ("y1_px", pa.float64()),
        ("confidence", pa.float64()),
        ("mirrored", pa.int64()),
        ("logits", pa.string()),
        ("maps", pa.binary()),
        ("maps_shape", pa.string()),
        ("category", pa.string()),
        ("probabilities", pa.string()),
        ("flagged", pa.int64()),
        ("flagged_for", pa.string()),
        ("uncertain", pa.int64()),
        ("priority", pa.string()),
        ("operating_point", pa.string()),
    ]
)
# One row a file, in the order of the list. The columns have the names and the encoding of the
# tables `files`, `hips` and `decisions` of the database.
OUTCOMES = pa.schema(
    [
        ("path", pa.string()),
        ("content_hash", pa.string()),
        ("sha256", pa.string()),
        ("state", pa.string()),
        ("stage", pa.string()),
        ("code", pa.string()),
        ("detail", pa.string()),
        ("marks", pa.string()),
        ("film_marks", pa.string()),
        ("attempts", pa.int64()),
        ("pixel_hash", pa.string()),
        ("overview_hash", pa.string()),
        ("sop_instance_uid", pa.string()),
        ("study_instance_uid", pa.string()),
        ("sop_class_uid", pa.string()),
        ("transfer_syntax_uid", pa.string()),
        ("modality", pa.string()),
        ("view", pa.string()),
        ("laterality", pa.string()),
        ("orientation", pa.string()),
        ("inverted", pa.int64()),
        ("height_px", pa.int64()),
        ("width_px", pa.int64()),
        ("row_spacing_mm", pa.float64()),
        ("column_spacing_mm", pa.float64()),
        ("age_years", pa.float64()),
        ("sex", pa.string()),
        ("manufacturer", pa.string()),
        ("patient", pa.string()),
        ("studied_on", pa.string()),
        ("timings_ms", pa.string()),
        ("hips", pa.list_(_HIP)),
    ]
)
_ORIGIN = b"hipedge"


@dataclass(frozen=True)
class Origin:
    """What scored a shard: the backend's fingerprint, why it was chosen, and versions as JSON."""

    backend: str
    reason: str
    versions: str


@dataclass(frozen=True, eq=False)
class Attempted:
    """The outcome of one file, and how often a worker process was given it."""

    outcome: Outcome
    attempts: int


def listed_table(rows: Sequence[Path | Refusal]) -> pa.Table:
    """Return a list of paths and of refusals as a table."""
    refused = [row if isinstance(row, Refusal) else None for row in rows]
    paths = [row.source if isinstance(row, Refusal) else row for row in rows]
    columns = [
        [path_to_text(path) for path in paths],
        [row and row.code.value for row in refused],
        [row and row.detail for row in refused],
    ]
    return pa.table(columns, schema=LISTED)


def listed_rows(table: pa.Table) -> list[Path | Refusal]:
    """Return the rows of a table made by `listed_table`."""
    return [
        path_from_text(row["path"])
        if row["code"] is None
        else Refusal(path_from_text(row["path"]), Code(row["code"]), row["detail"])
        for row in table.to_pylist()
    ]


def outcome_table(outcomes: Iterable[Attempted], origin: Origin) -> pa.Table:
    """Return outcomes as a table, which says in its metadata what scored them."""
    rows = [outcome_row(one.outcome) | {"attempts": one.attempts} for one in outcomes]
    metadata = {_ORIGIN: json.dumps([origin.backend, origin.reason, origin.versions]).encode()}
    return pa.Table.from_pylist(rows, schema=OUTCOMES.with_metadata(metadata))


def outcomes_of(table: pa.Table) -> tuple[list[Attempted], Origin]:
    """Return the outcomes of a table made by `outcome_table`, and what scored them.

    Raises `StoreError` for one by a hipedge that named contents by SHA-256.
    """
    if "content_hash" not in table.column_names:
        raise StoreError(
            "this run names films by SHA-256, as before release 0.3: run it again in another folder"
        )
    origin = Origin(*json.loads(table.schema.metadata[_ORIGIN]))
    return [Attempted(outcome_from_row(row), row["attempts"]) for row in table.to_pylist()], origin
