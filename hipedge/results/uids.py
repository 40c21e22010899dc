"""UIDs that are the same each time: a result that is sent again is the same object.

They are derived from UUIDs of version 5 (PS3.5 B.2: `2.25.` and the UUID as a decimal number), so
that a site needs no UID root of its own.
"""

from __future__ import annotations

import json
import uuid

_NAMESPACE = uuid.UUID("3f0f2f5e-6f0b-5d0a-9a55-8c1d7a3b52e4")


def derived_uid(*parts: str) -> str:
    """Return the UID of some texts: equal for equal texts, and for no others."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}"


def series_uid(study_uid: str, model_id: str, kind: str) -> str:
    """Return the Series Instance UID of one model's results of one kind in a study."""
    return derived_uid("series", study_uid, model_id, kind)


def instance_uid(series: str, film_uid: str, digest: str) -> str:
    """Return the SOP Instance UID of a result of a film, given the digest of its content."""
    return derived_uid("instance", series, film_uid, digest)


def tracking_uid(film_uid: str, model_id: str, hip: str) -> str:
    """Return the Tracking Unique Identifier (DCM 112040) of a hip on a film."""
    return derived_uid("hip", film_uid, model_id, hip)


def device_uid(model_id: str) -> str:
    """Return the Device Observer UID (DCM 121012) of hipedge with a model."""
    return derived_uid("device", model_id)
