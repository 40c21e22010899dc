"""The samples of a training: crops on disk and simulated crops, each determined by its index.

A sample is requested as (epoch, index) and does not depend on when or in which process it is made,
so that an interrupted training resumes with the same samples.
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
# A crop uint8 (1, S, S), its category, and the lesion's mask, bool (1, S, S), empty if unknown.
Item = tuple[Tensor, int, Tensor]

# Returns a crop uint8 (1, S, S), its category as an index into `CATEGORIES`, and the mask of its
# lesion, bool (1, S, S), which is empty if it is not known.
Simulate = Callable[[np.random.SeedSequence], tuple[NDArray[np.uint8], int, NDArray[np.bool_]]]
# Returns a crop (S, S) in another place and appearance, and its mask (S, S) in the same place.
Augment = Callable[
    [NDArray[np.uint8], NDArray[np.bool_], np.random.Generator],
    tuple[NDArray[np.uint8], NDArray[np.bool_]],
]

NOT_SIMULATED = 255
# Changes with what the files of a pool hold.
POOL_FORMAT = 2
# Keys of independent random streams.
AUGMENT, SIMULATE = 1, 2


class CropSamples(Dataset[Item]):
    """A subset of crops (`indices`), augmented."""

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
        square = self.crops.pixels[self.indices[index], 0]
        unknown = np.zeros(square.shape, bool)
        return _item(
            *augment(square, unknown, rng, self.strength), category=int(self.categories[index])
        )


class SimulatedSamples(Dataset[Item]):
    """Simulated crops: `per_epoch` crops an epoch from a pool, simulated when first requested.

    The crops are cached in `folder`, so that a pool smaller than the training is simulated only
    once. Each use of a crop is augmented differently. `source` identifies the simulation: sources
    of the same name give the same crops.
    """

    def __init__(
        self,
        simulate: Simulate,
        augment: Augment,
        folder: Path,
        *,
        source: str,
        geometry: CropGeometry,
        per_epoch: int,
        pool: int,
        seed: int,
    ) -> None:
        self.simulate, self.augment = simulate, augment
        self.per_epoch, self.pool, self.seed = per_epoch, pool, seed
        # Sources of one training must differ in their augmentation.
        self._stream = int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big")
        folder.mkdir(parents=True, exist_ok=True)
        key = repr((POOL_FORMAT, source, geometry, pool, seed, hipedge.__version__))
        name = f"simulated-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        size = geometry.size_px
        self._pixels = _array(folder / f"{name}.npy", (pool, size, size), fill=0)
        # Eight pixels of a mask in a byte.
        self._mask = _array(folder / f"{name}-mask.npy", (pool, size, -(-size // 8)), fill=0)
        self._category = _array(folder / f"{name}-category.npy", (pool,), fill=NOT_SIMULATED)

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        pixels, category, mask = self.crop((epoch * self.per_epoch + index) % self.pool)
        rng = np.random.default_rng((self.seed, AUGMENT, self._stream, epoch, index))
        return _item(*self.augment(pixels, mask, rng), category=category)

    def crop(self, number: int) -> tuple[NDArray[np.uint8], int, NDArray[np.bool_]]:
        """Return one crop of the pool, uint8 (S, S), its category, and its mask, bool (S, S)."""
        # The category is written last and read first, so that it is absent while another process
        # is still writing the crop.
        category, pixels = int(self._category[number]), np.array(self._pixels[number])
        # Nothing is flushed to disk, which would be slow. After a power failure the category may
        # therefore be on disk without the pixels; this is detectable, as no crop is all black.
        if category == NOT_SIMULATED or not pixels.any():
            # Two processes that simulate the same crop write the same bytes.
            seed = np.random.SeedSequence((self.seed, SIMULATE, number))
            (pixels,), category, (mask,) = self.simulate(seed)
            self._pixels[number], self._mask[number] = pixels, np.packbits(mask, axis=1)
            self._category[number] = category
        size = pixels.shape[1]
        mask = np.unpackbits(self._mask[number], axis=1, count=size).astype(bool)
        return pixels, category, mask


def _item(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], *, category: int) -> Item:
    """Return tensors of a crop and its mask, both (S, S)."""
    return torch.from_numpy(np.array(pixels[None])), category, torch.from_numpy(mask[None])


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
    """Several sources of samples, concatenated."""

    def __init__(self, sources: Sequence[CropSamples | SimulatedSamples]) -> None:
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
    """The batches of a whole training from step `start`, restricted to this process's share.

    Each epoch shuffles all samples and drops the last, incomplete batch. `batch_size` is the total
    over all processes.
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
