"""Simulated radiographs with known ground truth, for training, tests, demos and benchmarks.

This package needs the extra `phantom`. The screening code never imports it.
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
