"""Frontal or lateral: the projection that a header states."""

from __future__ import annotations

import re

from hipedge.types import View

# View Position (0018,5101), PS3.3 C.8.1.1, and free text that operators enter instead. Obliques
# and decubitus (RLO, LLD, …) are neither: a decubitus radiograph is still frontal.
FRONTAL_WORDS = frozenset({"AP", "PA", "FRONTAL"})
LATERAL_WORDS = frozenset({"LL", "RL", "LAT", "LATERAL", "ML", "LM", "XTL"})

# View Code Sequence (0054,0220), PS3.16 CID 4010, as SNOMED CT and as the older SRT codes.
FRONTAL_CODES = frozenset(
    {
        ("399348003", "SCT"), ("R-10206", "SRT"),  # antero-posterior
        ("272479007", "SCT"), ("R-10214", "SRT"),  # postero-anterior
        ("399033003", "SCT"), ("R-10202", "SRT"),  # frontal
    }
)  # fmt: skip
LATERAL_CODES = frozenset(
    {
        ("399067008", "SCT"), ("R-102CD", "SRT"),  # lateral projection
        ("399173006", "SCT"), ("R-10236", "SRT"),  # left lateral
        ("399198007", "SCT"), ("R-10232", "SRT"),  # right lateral
        ("399260004", "SCT"), ("R-10224", "SRT"),  # medio-lateral
        ("399352003", "SCT"), ("R-10228", "SRT"),  # latero-medial
        ("30730003", "SCT"), ("G-A145", "SRT"),    # sagittal
    }
)  # fmt: skip


def view_of(
    positions: tuple[str, ...],
    codes: tuple[tuple[str, str], ...],
    orientation: tuple[str, str] | None,
) -> View:
    """Return the view that View Position, View Code Sequence or Patient Orientation names.

    Words and codes take precedence; where they name both views, or none, Patient Orientation
    decides: rows that run to the patient's anterior or posterior make a lateral view (PS3.3
    C.7.6.1.1.1).
    """
    words = {word for p in positions for word in re.findall(r"[A-Z]+", p.upper())}
    frontal = bool(words & FRONTAL_WORDS or FRONTAL_CODES.intersection(codes))
    lateral = bool(words & LATERAL_WORDS or LATERAL_CODES.intersection(codes))
    if frontal != lateral:
        return View.FRONTAL if frontal else View.LATERAL
    if frontal or orientation is None:
        return View.UNKNOWN
    return View.LATERAL if orientation[0][0] in "AP" else View.FRONTAL
