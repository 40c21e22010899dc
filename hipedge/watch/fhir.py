"""Messages as FHIR R4 Communication resources (https://hl7.org/fhir/R4/communication.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import hipedge

MEDIA_TYPE = "application/fhir+json"
# The namespace of messages' keys.
KEY_SYSTEM = "https://github.com/hipedge/hipedge/message"
# ImagingStudy.identifier in R4: a DICOM UID is named by this system and an OID's URN.
UID_SYSTEM = "urn:dicom:uid"
# PS3.5 9.1, which is also what FHIR takes for an OID.
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
_SENDER = "hipedge"


def communication(key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as a Communication whose id is the message's key.

    Everything in it comes from the message and is the same at each attempt. It names no patient:
    what it is about is told by DICOM UIDs, where the message has them.
    """
    resource: dict[str, Any] = {
        "resourceType": "Communication",
        "id": key,
        "contained": [_sender(body)],
        "identifier": [{"system": KEY_SYSTEM, "value": key}],
        "status": "completed",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/communication-category",
                        "code": "notification",
                    }
                ]
            }
        ],
        "priority": "urgent" if body["priority"] == "urgent" else "routine",
        "sender": {"reference": f"#{_SENDER}"},
        "payload": [{"contentString": text} for text in _texts(body)],
    }
    if about := list(_about(body)):
        resource["about"] = about
    return resource


def _sender(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": _SENDER,
        "deviceName": [{"name": "hipedge", "type": "model-name"}],
        "version": [
            {"type": {"text": "hipedge"}, "value": hipedge.__version__},
            {"type": {"text": "model"}, "value": f"{body['model']} ({body['model_status']})"},
        ],
    }


def _texts(body: Mapping[str, Any]) -> Iterator[str]:
    yield f"{body['note']} Case {body['case']}, recorded {body['recorded_at']}: flagged."
    for hip in body["hips"]:
        yield _describe(hip)
    if body["marks"]:
        yield f"marked: {', '.join(map(_words, body['marks']))}"


def _describe(hip: Mapping[str, Any]) -> str:
    side = "hip of unknown side" if hip["side"] == "unknown" else f"{hip['side']} hip"
    findings = ", ".join(
        f"{_words(category)} ({hip['probabilities'][category]:.2f})"
        for category in hip["flagged_for"]
    )
    uncertain = f"uncertain, most likely {_words(hip['category'])}" if hip["uncertain"] else ""
    found = "; ".join(filter(None, (findings, uncertain, hip["note"])))
    return f"{side}, {hip['priority']}: {found}"


def _about(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield logical references to the study and the instance, where the message names them."""
    for name, kind in (("study_instance_uid", "study"), ("sop_instance_uid", "instance")):
        uid = body.get(name)
        if uid and _UID.fullmatch(uid):
            reference: dict[str, Any] = {
                "identifier": {"system": UID_SYSTEM, "value": f"urn:oid:{uid}"},
                "display": f"DICOM {kind}",
            }
            yield {"type": "ImagingStudy", **reference} if kind == "study" else reference


def _words(name: str) -> str:
    return name.replace("_", " ")
