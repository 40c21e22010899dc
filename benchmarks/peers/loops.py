"""How others get from a file to the network's crops: four loops, each in its documented way.

Each returns uint8 (N, 1, S, S), bone bright, in the order of the film's looks. None of them finds
a hip: they are given the boxes. Where a box reaches beyond the film, they take what is there. All
decode with pydicom's usual plugins, but for the careful loop, which is also measured with faster.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import pydicom
import torchxrayvision
from monai.data import PydicomReader
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    Flip,
    LoadImage,
    Resize,
    ScaleIntensity,
    SpatialCrop,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut
from skimage.transform import resize
from torchvision.transforms import Compose as TorchvisionCompose

from benchmarks.peers.decoders import FASTEST
from benchmarks.peers.films import Film, Look
from benchmarks.peers.names import CAREFUL, CAREFUL_FASTEST, MONAI, NAIVE, XRAYVISION

Crops = NDArray[np.uint8]
Loop = Callable[[Film, int], Crops]


def careful(film: Film, size_px: int, *, fastest_decoder: bool = False) -> Crops:
    """Do in one thread what an engineer does who has measured: window and shrink only the crops."""
    cv2.setNumThreads(1)
    dataset = pydicom.dcmread(film.path)
    plugin = FASTEST.get(dataset.file_meta.TransferSyntaxUID, "") if fastest_decoder else ""
    dataset.pixel_array_options(view_only=True, decoding_plugin=plugin)
    pixels = dataset.pixel_array
    low, width = _window(dataset)
    crops = []
    for look in film.looks:
        crop = pixels[_part(look, *pixels.shape)].astype(np.float32)
        crop -= low
        crop *= 255 / width
        np.clip(crop, 0, 255, out=crop)
        small = cv2.resize(crop, (size_px, size_px), interpolation=cv2.INTER_AREA)
        crops.append(_turned(small, dataset, look, top=255))
    return _stacked(crops)


def naive(film: Film, size_px: int) -> Crops:
    """Follow the tutorials: the VOI LUT over the whole film, scikit-image with anti-aliasing."""
    dataset = pydicom.dcmread(film.path)
    pixels = apply_voi_lut(dataset.pixel_array, dataset).astype(float)
    pixels -= pixels.min()
    pixels /= pixels.max()
    crops = []
    for look in film.looks:
        crop = pixels[_part(look, *pixels.shape)]
        small = resize(crop, (size_px, size_px), anti_aliasing=True)
        crops.append(_turned(small, dataset, look, top=1) * 255)
    return _stacked(crops)


def monai(film: Film, size_px: int) -> Crops:
    """Read with MONAI's PydicomReader, and transform as its transforms are documented.

    Its images run (x, y); it leaves MONOCHROME1 as it is, which none of the films here is.
    """
    load, shrink, flip = _monai_transforms(size_px)
    image = load(film.path)
    _, width, height = image.shape
    crops = []
    for look in film.looks:
        rows, columns = _part(look, height, width)
        crop = SpatialCrop(roi_start=(columns.start, rows.start), roi_end=(columns.stop, rows.stop))
        small = shrink(crop(image))
        crops.append((flip(small) if look.mirrored else small)[0].numpy().T)
    return _stacked(crops)


@lru_cache(maxsize=1)
def _monai_transforms(size_px: int) -> tuple[Any, Any, Any]:
    load = Compose(
        [
            LoadImage(reader=PydicomReader(), image_only=True),
            EnsureChannelFirst(),
            ScaleIntensity(0, 255),
        ]
    )
    return load, Resize((size_px, size_px), mode="area"), Flip(spatial_axis=0)


def xrayvision(film: Film, size_px: int) -> Crops:
    """Load, normalise, crop and resize with torchxrayvision, as its page on usage shows."""
    transform = TorchvisionCompose(
        [
            torchxrayvision.datasets.XRayCenterCrop(),
            torchxrayvision.datasets.XRayResizer(size_px),
        ]
    )
    image = torchxrayvision.utils.load_image(film.path)  # (1, H, W), -1024 to 1024
    crops = []
    for look in film.looks:
        rows, columns = _part(look, *image.shape[1:])
        small = transform(image[:, rows, columns])[0]
        crops.append((small[:, ::-1] if look.mirrored else small) * (255 / 2048) + 127.5)
    return _stacked(crops)


LOOPS: dict[str, Loop] = {
    CAREFUL: careful,
    CAREFUL_FASTEST: partial(careful, fastest_decoder=True),
    NAIVE: naive,
    MONAI: monai,
    XRAYVISION: xrayvision,
}


def _part(look: Look, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a look that are on the film."""
    box = look.box
    return (
        slice(max(0, round(box.y0)), min(height, round(box.y1))),
        slice(max(0, round(box.x0)), min(width, round(box.x1))),
    )


def _window(dataset: Dataset) -> tuple[float, float]:
    """Return the window's lower edge and its width (PS3.3 C.11.2.1.2), or all that is stored."""
    if "WindowCenter" not in dataset:
        return 0.0, float(2**dataset.BitsStored)
    centre, width = (
        float(np.atleast_1d(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth")
    )
    return centre - width / 2, width


def _turned(small: NDArray[Any], dataset: Dataset, look: Look, top: int) -> NDArray[Any]:
    bright = top - small if dataset.PhotometricInterpretation == "MONOCHROME1" else small
    return bright[:, ::-1] if look.mirrored else bright


def _stacked(crops: list[NDArray[Any]]) -> Crops:
    return np.stack(crops)[:, None].astype(np.uint8)
