"""What a training draws from: crops on disk, phantoms, or both; each sample by its number alone.

A sample is asked for as (epoch, index), and is then the same whenever and in whichever process:
so an interrupted training goes on as if nothing had been.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

import hipedge
from hipedge.files import replacing
from hipedge.train.augment import Strength, augment
from hipedge.train.data import Crops
from hipedge.types import CropGeometry

Key = tuple[int, int]
Item = tuple[Tensor, int]

DrawCrop = Callable[[np.random.SeedSequence], tuple[NDArray[np.uint8], int]]

NOT_DRAWN = 255
# Streams of random numbers that must not coincide.
AUGMENT, PHANTOM = 1, 2


class CropSamples(Dataset[Item]):
    """Chosen crops (`indices`), augmented."""

    def __init__(
        self, crops: Crops, indices: NDArray[np.int64], strength: Strength, seed: int
    ) -> None:
        self.crops, self.indices = crops, indices
        self.strength, self.seed = strength, seed
        self.categories = crops.categories[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        rng = np.random.default_rng((self.seed, AUGMENT, epoch, index))
        square = augment(self.crops.pixels[self.indices[index], 0], rng, self.strength)
        return torch.from_numpy(square[None]), int(self.categories[index])


class PhantomSamples(Dataset[Item]):
    """Phantoms, `per_epoch` of them an epoch out of a pool, drawn when first asked for.

    Drawn ones are kept in `folder`, so a pool that is smaller than the training is drawn once.
    Each is augmented anew, as every crop is.
    """

    def __init__(
        self,
        draw: DrawCrop,
        folder: Path,
        *,
        geometry: CropGeometry,
        per_epoch: int,
        pool: int,
        strength: Strength,
        seed: int,
    ) -> None:
        self.draw, self.per_epoch, self.pool = draw, per_epoch, pool
        self.strength, self.seed = strength, seed
        folder.mkdir(parents=True, exist_ok=True)
        what = repr((geometry, pool, seed, hipedge.__version__))
        name = f"phantoms-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
        shape = (pool, geometry.size_px, geometry.size_px)
        self._pixels = _array(folder / f"{name}.npy", shape, fill=0)
        self._category = _array(folder / f"{name}-category.npy", (pool,), fill=NOT_DRAWN)

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        number = (epoch * self.per_epoch + index) % self.pool
        square, category = self._phantom(number)
        rng = np.random.default_rng((self.seed, AUGMENT, epoch, index))
        return torch.from_numpy(augment(square, rng, self.strength)[None]), category

    def _phantom(self, number: int) -> tuple[NDArray[np.uint8], int]:
        # Written last and so read first: what another process is about to write has none yet.
        category, square = int(self._category[number]), np.array(self._pixels[number])
        # Nothing is flushed, which would wait for the disk each time: should the power fail, the
        # category may be on disk without the pixels, and no phantom is all black.
        if category == NOT_DRAWN or not square.any():
            # Two processes that draw the same phantom write the same bytes.
            pixels, category = self.draw(np.random.SeedSequence((self.seed, PHANTOM, number)))
            square = pixels[0]
            self._pixels[number], self._category[number] = square, category
        return square, category


def _array(
    path: Path, shape: tuple[int, ...], *, fill: int
) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    if not path.exists():
        with replacing(path) as partial:
            fresh = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            if fill:
                fresh[:] = fill
            fresh.flush()
    return np.lib.format.open_memmap(path, "r+")


class Joined(Dataset[Item]):
    """Several sources as one."""

    def __init__(self, sources: Sequence[CropSamples | PhantomSamples]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        for source in self.sources:
            if index < len(source):
                return source[epoch, index]
            index -= len(source)
        raise IndexError(key)


class BatchSampler(Sampler[list[Key]]):
    """The batches of a whole training from step `start` on, of which this process takes a part.

    Each epoch goes through all samples in an order of its own, and leaves out the few that do not
    fill a batch. `batch_size` is that of all processes together.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        steps: int,
        start: int = 0,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.length, self.batch_size = length, batch_size
        self.steps, self.start, self.seed = steps, start, seed
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        per_epoch = self.length // self.batch_size
        for epoch in range(self.start // per_epoch, -(-self.steps // per_epoch)):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
            for batch in range(per_epoch):
                if self.start <= epoch * per_epoch + batch < self.steps:
                    chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                    yield [(epoch, int(index)) for index in chosen[self.rank :: self.world]]
