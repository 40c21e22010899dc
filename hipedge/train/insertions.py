"""Lesions inserted into real hips for training, calibration and testing, split by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hipedge
from hipedge.errors import InputError
from hipedge.files import replacing
from hipedge.insertion.backgrounds import Backgrounds, OnFilm, prepare_backgrounds
from hipedge.insertion.generate import DrawInserted
from hipedge.insertion.manifest import AgeClass, read_manifest
from hipedge.train.appearance import Appearance
from hipedge.train.data import LabelledCrops
from hipedge.train.manifest import TEST, TRAIN, VAL, Row
from hipedge.types import CATEGORIES, Category, CropGeometry

# Number of plain crops of each training background whose appearance is transferred.
APPEARANCE_CROPS = 3
# Number of simulated hips of each split outside training, for calibration and testing.
HELD_OUT = 1000
# Random streams of held-out hips and of appearance crops.
HELD_OUT_STREAM, APPEARANCE_STREAM = 3, 4
# Share of normal hips among those held out. The abnormal categories are equally frequent, so that
# each has enough hips to fit its threshold.
NORMAL_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class InsertionSource:
    """Backgrounds prepared for lesion insertion; `digest` identifies them."""

    backgrounds: Backgrounds
    films: Mapping[str, Path]
    geometry: CropGeometry
    digest: str
    cache: Path

    @classmethod
    def open(
        cls,
        manifest: Path,
        films: Path | None,
        geometry: CropGeometry,
        cache: Path,
        on_film: OnFilm = lambda *_: None,
    ) -> InsertionSource:
        """Read a manifest of backgrounds and prepare them, using `cache` if they are cached.

        `films` is the folder to which the manifest's paths are relative, by default its own.
        Raises `InputError` for errors in the manifest, and if a split has no usable hip.
        """
        rows = read_manifest(manifest, films)
        backgrounds = prepare_backgrounds(rows, cache, on_film=on_film)
        for split in (TRAIN, VAL):
            if not len(backgrounds.of(split)):
                raise InputError(f"{manifest}: no background in the split {split} can be used")
        names = repr([(hip.path, hip.side, hip.split) for hip in backgrounds.hips])
        digest = hashlib.sha256(manifest.read_bytes() + names.encode()).hexdigest()
        return cls(backgrounds, {row.path.name: row.path for row in rows}, geometry, digest, cache)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits outside training that have hips."""
        return tuple(s for s in (VAL, TEST) if len(self.backgrounds.of(s)))

    def summary(self) -> tuple[str, ...]:
        """Return sentences that state the number of hips and patients of each split."""
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
        generator = self.training()
        crops = [
            generator.untouched(
                np.random.SeedSequence((seed, APPEARANCE_STREAM, int(number), repeat)), int(number)
            )[0]
            for number in self.backgrounds.of(TRAIN)
            for repeat in range(APPEARANCE_CROPS)
        ]
        return Appearance(np.stack(crops))

    def held_out(self, split: str, seed: int, count: int = HELD_OUT) -> LabelledCrops:
        """Return simulated hips on the backgrounds of one split, without augmentation.

        They are cached, so that an interrupted training resumes without simulating them again.
        """
        key = repr((self.digest, self.geometry, split, seed, count, hipedge.__version__))
        name = f"held-out-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if not (self.cache / name).exists():
            pixels, categories, numbers = self._simulate_held_out(split, seed, count)
            with replacing(self.cache / name) as partial, partial.open("wb") as file:
                np.savez(file, pixels=pixels, categories=categories, backgrounds=numbers)
        with np.load(self.cache / name) as kept:
            rows = []
            for line, (k, number) in enumerate(
                zip(kept["categories"], kept["backgrounds"], strict=True)
            ):
                hip = self.backgrounds.hips[number]
                path = self.films[hip.path]
                rows.append(Row(line, path, hip.side, CATEGORIES[k], hip.patient, split=split))
            return LabelledCrops(kept["pixels"], tuple(rows))

    def _simulate_held_out(
        self, split: str, seed: int, count: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Return crops (N, 1, S, S), categories (N,) and indices of backgrounds (N,)."""
        abnormal = (1 - NORMAL_SHARE) / (len(CATEGORIES) - 1)
        shares = {c: NORMAL_SHARE if c is Category.NORMAL else abnormal for c in CATEGORIES}
        generator = DrawInserted(self.backgrounds, self.geometry, split, shares)
        number_of = {id(hip): number for number, hip in enumerate(self.backgrounds.hips)}
        samples = [
            generator.sample(np.random.SeedSequence((seed, HELD_OUT_STREAM, number)))
            for number in range(count)
        ]
        return (
            np.stack([sample.pixels for sample in samples]),
            np.array([CATEGORIES.index(sample.category) for sample in samples]),
            np.array([number_of[id(sample.background)] for sample in samples]),
        )
