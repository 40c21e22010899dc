"""An urgent film as a key object (PS3.3 A.35.4, PS3.16 TID 2010), so that lists show it first."""

from __future__ import annotations

from highdicom import ko, sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from hipedge.results.attributes import (
    MANUFACTURER,
    NOTE,
    PLACEHOLDER_UID,
    equipment,
    evidence_of,
)
from hipedge.results.source import Source
from hipedge.results.uids import device_uid
from hipedge.review.picture import describe_finding
from hipedge.store.rows import Case


def key_objects(case: Case, source: Source) -> Dataset:
    """Return a selection that holds the film, and says why it was selected."""
    film = evidence_of(source)
    film.Rows, film.Columns = source.header.get("Rows") or 1, source.header.get("Columns") or 1
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(case.model_id),
        name="hipedge",
        manufacturer_name=MANUFACTURER,
        model_name=f"{case.model} {case.model_version}".strip(),
    )
    content = ko.KeyObjectSelection(
        document_title=dictionary.DCM.OfInterest,
        referenced_objects=[film],
        observer_device_context=sr.ObserverContext(dictionary.DCM.Device, device),
        description=_description(case),
    )
    document = ko.KeyObjectSelectionDocument(
        evidence=[film],
        content=content,
        series_instance_uid=PLACEHOLDER_UID,
        series_number=1,
        sop_instance_uid=PLACEHOLDER_UID,
        instance_number=1,
        **equipment(case),
    )
    for item in document.ContentSequence:
        if item.ValueType == "IMAGE":  # TID 2010 row 8 has no purpose of reference
            del item.ConceptNameCodeSequence
    return document


def _description(case: Case) -> str:
    lines = [
        "; ".join(describe_finding(scored.hip, finding))
        for scored, finding in zip(case.hips, case.findings, strict=True)
        if finding.flagged
    ]
    return "\r\n".join([*lines, f"hipedge, model {case.model} {case.model_version}. {NOTE}"])
