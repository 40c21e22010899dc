"""Simulated radiographs of known truth, for training, tests, demonstrations and benchmarks.

Needs the extra `phantom`; nothing that screens imports this package.
"""

from hipedge.phantom.crop import CropTruth, crop
from hipedge.phantom.film import SimulatedFilm, crop_of, develop, draw_film
from hipedge.phantom.generate import TruthRow, generate
from hipedge.phantom.hospitals import HOSPITALS
from hipedge.phantom.write import write_film

__all__ = [
    "HOSPITALS",
    "CropTruth",
    "SimulatedFilm",
    "TruthRow",
    "crop",
    "crop_of",
    "develop",
    "draw_film",
    "generate",
    "write_film",
]
