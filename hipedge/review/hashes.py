"""The hashes by which other programs know a film's file."""

from __future__ import annotations

from hipedge.content import hashes_of
from hipedge.dicom.read import load
from hipedge.errors import Refused
from hipedge.store.rows import Case


def film_hashes(case: Case) -> dict[str, str | None]:
    """Return a film's `content_hash` (BLAKE3) and `sha256`.

    One of them is recorded; the other is computed from the file, and None where the film has gone
    or changed.
    """
    try:
        payload = load(case.path)
    except Refused:
        return hashes_of(case.content_hash)
    if not payload.is_named(case.content_hash):
        return hashes_of(case.content_hash)
    return {"content_hash": payload.content_hash, "sha256": payload.sha256}
