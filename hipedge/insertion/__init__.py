"""Lesion insertion: simulated lesions placed on real hip radiographs, for training.

This package requires the extra `phantom` and is not imported by the screening code.
`docs/insertion.md` describes how a sample is made and which artefacts can give it away.
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
