"""Lesion insertion: simulated lesions placed on real hip radiographs, for training.

Needs the extra `phantom`; nothing that screens imports this package. `docs/insertion.md` says how a
sample is made and what gives it away.
"""

from hipedge.insertion.backgrounds import Background, Backgrounds, LeftOut, prepare_backgrounds
from hipedge.insertion.generate import DrawInserted, InsertedSample
from hipedge.insertion.landmarks import Landmarks, NotFound, find_landmarks
from hipedge.insertion.manifest import AgeClass, BackgroundRow, read_manifest

__all__ = [
    "AgeClass",
    "Background",
    "BackgroundRow",
    "Backgrounds",
    "DrawInserted",
    "InsertedSample",
    "Landmarks",
    "LeftOut",
    "NotFound",
    "find_landmarks",
    "prepare_backgrounds",
    "read_manifest",
]
