"""Lesions inserted into real hips: for training, calibration and the test, split by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InputError
from hipedge.insertion.backgrounds import Backgrounds, OnFilm, prepare_backgrounds
from hipedge.insertion.generate import DrawInserted, plain
from hipedge.insertion.manifest import AgeClass, read_manifest
from hipedge.train.appearance import Appearance
from hipedge.train.data import LabelledCrops
from hipedge.train.manifest import TEST, TRAIN, VAL, Row
from hipedge.types import CATEGORIES, Category, CropGeometry

# Of each training background so many plain crops lend their appearance.
APPEARANCE_CROPS = 3
# Simulated hips held out for calibration and for the test, of each split.
HELD_OUT = 1600
# Random streams of held-out hips and of appearance crops.
HELD_OUT_STREAM, APPEARANCE_STREAM = 3, 4
# Half of the held-out hips are normal, and each abnormal category is as frequent as the others:
# enough of each for thresholds of its own.
NORMAL_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class InsertionSource:
    """Backgrounds ready for lesion insertion; `digest` identifies them."""

    backgrounds: Backgrounds
    films: Mapping[str, Path]
    geometry: CropGeometry
    digest: str

    @classmethod
    def open(
        cls,
        manifest: Path,
        films: Path | None,
        geometry: CropGeometry,
        cache: Path,
        on_film: OnFilm = lambda *_: None,
    ) -> InsertionSource:
        """Read a manifest of backgrounds and prepare them, from `cache` where they are kept.

        `films` is the folder to which the manifest's paths are relative, by default its own.
        Raises `InputError` for faults of the manifest, and where a split has no usable hip.
        """
        rows = read_manifest(manifest, films)
        backgrounds = prepare_backgrounds(rows, cache, on_film=on_film)
        for split in (TRAIN, VAL):
            if not len(backgrounds.of(split)):
                raise InputError(f"{manifest}: no background in the split {split} can be used")
        names = repr([(hip.path, hip.side, hip.split) for hip in backgrounds.hips])
        digest = hashlib.sha256(manifest.read_bytes() + names.encode()).hexdigest()
        return cls(backgrounds, {row.path.name: row.path for row in rows}, geometry, digest)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits outside training that have hips."""
        return tuple(s for s in (VAL, TEST) if len(self.backgrounds.of(s)))

    def summary(self) -> tuple[str, ...]:
        """Return sentences on how many hips and patients there are, by split."""
        hips = self.backgrounds.hips
        parts = []
        for split in (TRAIN, VAL, TEST):
            chosen = [hip for hip in hips if hip.split == split]
            children = sum(hip.age_class is AgeClass.CHILD for hip in chosen)
            patients = len({hip.patient for hip in chosen})
            parts.append(
                f"Backgrounds in {split}: {len(chosen)} hips of {patients} patients,"
                f" {children} of children"
            )
        return tuple(parts)

    def training(self) -> DrawInserted:
        """Return the generator of training samples."""
        return DrawInserted(self.backgrounds, self.geometry, TRAIN)

    def appearance(self, seed: int) -> Appearance:
        """Return plain crops of the training backgrounds."""
        crops = []
        for number in self.backgrounds.of(TRAIN):
            hip = self.backgrounds.hip(int(number))
            for repeat in range(APPEARANCE_CROPS):
                rng = np.random.default_rng((seed, APPEARANCE_STREAM, int(number), repeat))
                crops.append(plain(hip, self.geometry, rng)[0])
        return Appearance(np.stack(crops))

    def held_out(self, split: str, seed: int, count: int = HELD_OUT) -> LabelledCrops:
        """Return simulated hips over one split's backgrounds, none of which is augmented."""
        abnormal = (1 - NORMAL_SHARE) / (len(CATEGORIES) - 1)
        shares = {c: NORMAL_SHARE if c is Category.NORMAL else abnormal for c in CATEGORIES}
        generator = DrawInserted(self.backgrounds, self.geometry, split, shares)
        pixels: list[NDArray[np.uint8]] = []
        rows: list[Row] = []
        for number in range(count):
            stream = np.random.SeedSequence((seed, HELD_OUT_STREAM, number))
            sample = generator.sample(stream)
            hip = sample.background
            path = self.films[hip.path]
            rows.append(Row(number, path, hip.side, sample.category, hip.patient, split=split))
            pixels.append(sample.pixels)
        return LabelledCrops(np.stack(pixels), tuple(rows))
