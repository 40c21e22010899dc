"""The films that all are given: phantoms and a real one, in each of ten transfer syntaxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder

from hipedge.imaging.geometry import is_mirrored
from hipedge.phantom import film as phantom
from hipedge.phantom.write import write_film
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.types import Box, CropGeometry

# A flat panel's usual pixel, which makes a pelvis one of about 2500×3043 pixels. The phantoms that
# train the network are coarser; theirs is the noise of a pixel, so that films shrink when they are
# compressed about as real ones do.
PIXEL_MM = 0.14
HOSPITAL = "north"  # 12 bits stored, MONOCHROME2
SEED = 6
LOSSY_PSNR_DB = 60
JPEG_QUALITY = 95
NEAR = 2

Stored = NDArray[np.uint16]


@dataclass(frozen=True)
class Look:
    """One crop that the network is to see: a box on the film, and whether it is mirrored."""

    box: Box
    mirrored: bool


@dataclass(frozen=True)
class Film:
    """A file, and what is to be seen of it: one look a hip, two where its side is unknown."""

    path: Path
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Syntax:
    """A transfer syntax: how stored values (H, W) of so many bits become a frame of it.

    `wg04` names the real film's file that NEMA's WG04 has in this syntax.
    """

    uid: str
    encode: Callable[[Stored, int], bytes] | None
    wg04: str | None = None
    bits: int | None = None


def _rle(stored: Stored, bits: int) -> bytes:
    frame: bytes = get_encoder(uid.RLELossless).encode(
        stored.tobytes(), rows=stored.shape[0], columns=stored.shape[1],
        samples_per_pixel=1, bits_allocated=16, bits_stored=bits, pixel_representation=0,
        photometric_interpretation="MONOCHROME2", number_of_frames=1,
    )  # fmt: skip
    return frame


def _jpeg_lossless(stored: Stored, bits: int) -> bytes:
    frame: bytes = imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=bits)
    return frame


def _jpeg_ls(stored: Stored, bits: int, near: int = 0) -> bytes:
    # The codec takes all 16 bits for used: a value within `near` of the top could come out above.
    frame: bytes = imagecodecs.jpegls_encode(np.minimum(stored, 2**bits - 1 - near), level=near)
    return frame


def _jpeg_2000(stored: Stored, bits: int, psnr_db: int = 0) -> bytes:
    frame: bytes = imagecodecs.jpeg2k_encode(
        stored, codecformat="J2K", reversible=not psnr_db, level=psnr_db, bitspersample=bits
    )
    return frame


def _htj2k(stored: Stored, _: int) -> bytes:
    frame: bytes = imagecodecs.htj2k_encode(stored, reversible=True)
    return frame


def _jpeg(stored: Stored, bits: int) -> bytes:
    eight = bits == 8
    frame: bytes = imagecodecs.jpeg8_encode(
        stored.astype(np.uint8) if eight else stored,
        level=JPEG_QUALITY,
        bitspersample=8 if eight else 12,
    )
    return frame


SYNTAXES = {
    "uncompressed": Syntax(uid.ExplicitVRLittleEndian, None, "RG2_UNC"),
    "RLE": Syntax(uid.RLELossless, _rle, "RG2_RLE"),
    "JPEG Lossless": Syntax(uid.JPEGLosslessSV1, _jpeg_lossless, "RG2_JPLL"),
    "JPEG-LS": Syntax(uid.JPEGLSLossless, _jpeg_ls, "RG2_JLSL"),
    "JPEG-LS near-lossless": Syntax(
        uid.JPEGLSNearLossless, lambda stored, bits: _jpeg_ls(stored, bits, NEAR), "RG2_JLSN"
    ),
    "JPEG 2000 lossless": Syntax(uid.JPEG2000Lossless, _jpeg_2000, "RG2_J2KR"),
    "JPEG 2000 lossy": Syntax(
        uid.JPEG2000, lambda stored, bits: _jpeg_2000(stored, bits, LOSSY_PSNR_DB), "RG2_J2KI"
    ),
    "HTJ2K": Syntax(uid.HTJ2KLossless, _htj2k),
    "JPEG, 8 bit": Syntax(uid.JPEGBaseline8Bit, _jpeg, bits=8),
    "JPEG, 12 bit": Syntax(uid.JPEGExtended12Bit, _jpeg, "RG2_JPLY"),
}


def phantoms(folder: Path, count: int, geometry: CropGeometry) -> list[Film]:
    """Write `count` simulated pelves, uncompressed, of a clinical detector's resolution."""
    films = list[Film]()
    number = 0
    while len(films) < count:
        number += 1
        drawn = pelvis(number, PIXEL_MM)
        if len(drawn.sides) == 2:
            path = folder / f"phantom-{number}.dcm"
            write_film(path, drawn, phantom.develop(drawn))
            looks = [
                Look(drawn.box(side, geometry), is_mirrored(side, phantom.ORIENTATION))
                for side in drawn.sides
            ]
            films.append(Film(path, tuple(looks)))
    return films


def pelvis(number: int, pixel_mm: float) -> phantom.Film:
    """Draw a phantom with pixels of another size, and the noise of its own; uncompressed."""
    seed = np.random.SeedSequence([SEED, number])
    drawn = phantom.draw_film(seed, number=number, hospital=HOSPITAL)
    finer = drawn.view.pixel_mm / pixel_mm
    rows, columns = (round(pixels * finer) for pixels in drawn.view.shape)
    technique = drawn.technique
    return replace(
        drawn,
        view=replace(drawn.view, shape=(rows, columns), pixel_mm=pixel_mm),
        technique=replace(technique, quanta_per_mm2=technique.quanta_per_mm2 * finer**2),
        shutter_px=None,
        transfer_syntax_uid=str(uid.ExplicitVRLittleEndian),
    )


def real_film(path: Path, front: Preprocessor) -> Film:
    """Return a real film, with the looks that hipedge itself takes: there is no truth for it."""
    prepared = front(path)
    if not isinstance(prepared, Prepared):
        raise ValueError(f"{path.name} was not read: {prepared}")
    looks = [
        Look(hip.box, bool(sample.affine[0, 0] < 0))
        for hip, samples in prepared.hips
        for sample in samples
    ]
    return Film(path, tuple(looks))


def in_syntax(film: Film, syntax: Syntax, folder: Path) -> Film:
    """Write an uncompressed film into `folder` in a transfer syntax."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / film.path.name
    dataset = pydicom.dcmread(film.path)
    if syntax.encode is not None:
        _encode(dataset, syntax)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return Film(path, film.looks)


def _encode(dataset: Dataset, syntax: Syntax) -> None:
    assert syntax.encode is not None
    stored = dataset.pixel_array
    bits = syntax.bits or dataset.BitsStored
    if bits < dataset.BitsStored:
        shift = dataset.BitsStored - bits
        stored = stored >> shift
        for element in ("WindowCenter", "WindowWidth"):
            if element in dataset:
                setattr(dataset, element, f"{float(dataset[element].value) / 2**shift:g}")
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.PixelData = encapsulate([syntax.encode(stored, bits)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax.uid
