"""Small true-to-type values, for tests that need a film or a finding and not its pixels."""

import hashlib
from pathlib import Path

import numpy as np

from hipedge.content import BLAKE3
from hipedge.rules.decide import Rule, decide
from hipedge.types import (
    ABNORMAL,
    CATEGORIES,
    Box,
    Category,
    Film,
    Hip,
    ScoredHip,
    Scores,
    Screened,
    Side,
)

RULE = Rule("sensitive", 1.0, dict.fromkeys(ABNORMAL, 0.3), 0.4)


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def content(text):
    """The name of a content."""
    return BLAKE3 + sha(text)


def film(name="film", *, pixels="pixels", uid=None, folder=Path("/in"), **values):
    return Film(
        source=folder / f"{name}.dcm",
        content_hash=content(name),
        pixel_hash=sha(pixels),
        sop_instance_uid=uid,
        **{"shape": (2140, 1760)} | values,
    )


def scored_hip(category=Category.NORMAL, side=Side.RIGHT, sure=5.0):
    logits = np.zeros(len(CATEGORIES), np.float32)
    logits[CATEGORIES.index(category)] = sure
    maps = np.zeros((len(CATEGORIES), 2, 2), np.float32)
    maps[CATEGORIES.index(category)] = [[0.5, 1.0], [1.5, 2.0]]
    ways = 2 if side is Side.UNKNOWN else 1
    box = Box(-10.5, 0.0, 700.25, 800.0)
    hip = Hip(side, (321.5, 400.25), box, 0.75, side is Side.LEFT)
    return ScoredHip(hip, (Scores(logits, maps),) * ways)


def screened(of, *hips, rule=RULE, marks=()):
    hips = hips or (scored_hip(),)
    findings = tuple(decide([one.logits for one in hip.scores], rule) for hip in hips)
    return Screened(of, hips, findings, frozenset(marks), {"read": 1.25})
