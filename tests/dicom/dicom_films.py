"""Films made for tests: one array in any transfer syntax, with any header."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
from pydicom import dcmwrite
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_encoder
from pydicom.uid import generate_uid

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K = "1.2.840.10008.1.2.4.203"

NATIVE = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)
HAS_HTJ2K = hasattr(imagecodecs, "htj2k_encode")
LOSSLESS = (
    *NATIVE,
    RLE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_2000_LOSSLESS,
    *((HTJ2K_LOSSLESS,) if HAS_HTJ2K else ()),
)


def film(array, syntax=EXPLICIT, *, bits=None, fragments=None, pixel_data=None, **elements):
    """Return a DICOM file's bytes: `array` (H, W) or (H, W, 3) in a transfer syntax.

    `fragments` are given as they are; `pixel_data` is the whole value; `elements` go over the
    header, None leaves one out.
    """
    with disable_value_validation():  # so that films can be wrong as real ones are
        dataset = header(array, bits=bits)
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
    if pixel_data is not None:
        dataset.PixelData = pixel_data
    elif syntax in NATIVE:
        dataset.PixelData = native_bytes(array, syntax)
    else:
        depth = bits or array.dtype.itemsize * 8
        dataset.PixelData = encapsulate(fragments or [encode(array, syntax, depth)])
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB" if syntax not in NATIVE or array.dtype.itemsize == 1 else "OW"
    return write(dataset, syntax)


def header(array, *, bits=None):
    """Return the header of a hip radiograph whose pixels are `array`."""
    dataset = Dataset()
    dataset.SOPClassUID = DX
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.Modality = "DX"
    dataset.BodyPartExamined = "HIP"
    dataset.Rows, dataset.Columns = array.shape[:2]
    dataset.SamplesPerPixel = 1 if array.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if array.ndim == 2 else "RGB"
    if array.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = array.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 1 if array.dtype.kind == "i" else 0
    return dataset


def write(dataset, syntax=EXPLICIT):
    """Return a dataset as a file with preamble and File Meta Information."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", DX)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    with disable_value_validation():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def native_bytes(array, syntax):
    order = ">" if syntax == BIG_ENDIAN else "<"
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    return data + b"\0" * (len(data) % 2)


def encode(array, syntax, bits):
    """Return one frame compressed in a syntax."""
    if syntax == RLE:
        return encode_rle(array)
    unsigned = array.view(array.dtype.str.replace("i", "u"))
    if array.dtype.kind == "i":  # JPEG knows no sign: two's complement in `bits` bits
        unsigned = unsigned & ((1 << bits) - 1)
    if bits <= 8:  # as encoders have it, also where 16 bits are allocated
        unsigned, array = unsigned.astype(np.uint8), array.astype(array.dtype.kind + "1")
    colour = "RGB" if array.ndim == 3 else None
    if syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        return imagecodecs.jpeg8_encode(
            unsigned,
            lossless=True,
            predictor=1 if syntax == JPEG_LOSSLESS_SV1 else 6,
            bitspersample=max(bits, 2),
            colorspace=colour,
            outcolorspace=colour,
        )
    if syntax in (JPEG_BASELINE, JPEG_EXTENDED):
        return imagecodecs.jpeg8_encode(unsigned, level=95, bitspersample=8 if bits <= 8 else 12)
    if syntax in (JPEG_LS, JPEG_LS_NEAR):
        return imagecodecs.jpegls_encode(unsigned, level=0 if syntax == JPEG_LS else 2)
    if syntax in (HTJ2K_LOSSLESS, HTJ2K):
        return imagecodecs.htj2k_encode(array, reversible=syntax == HTJ2K_LOSSLESS)
    reversible = syntax == JPEG_2000_LOSSLESS
    return imagecodecs.jpeg2k_encode(
        array.astype(f"{array.dtype.kind}1") if bits <= 8 else array,
        codecformat="J2K",
        reversible=reversible,
        level=0 if reversible else 60,
        bitspersample=bits,
    )


def encode_rle(array):
    return get_encoder(RLE).encode(
        array,
        rows=array.shape[0],
        columns=array.shape[1],
        samples_per_pixel=1 if array.ndim == 2 else 3,
        bits_allocated=array.dtype.itemsize * 8,
        bits_stored=array.dtype.itemsize * 8,
        pixel_representation=1 if array.dtype.kind == "i" else 0,
        photometric_interpretation="MONOCHROME2" if array.ndim == 2 else "RGB",
        planar_configuration=0,
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


def encapsulate(fragments, *, offset_table=b""):
    """Return encapsulated Pixel Data (PS3.5 A.4), without the delimiter that pydicom writes."""
    items = [offset_table, *(f + b"\0" * (len(f) % 2) for f in fragments)]
    return b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item for item in items)


def after_file_meta(data):
    """Return where the dataset starts, by the File Meta Information Group Length (PS3.10 7.1)."""
    return 144 + struct.unpack_from("<L", data, 140)[0]


def deflate_bomb(inflated_bytes):
    """Return a deflated DICOM file whose dataset is that many zeros."""
    data = write(Dataset(), DEFLATED)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    megabyte = bytes(2**20)
    zeros = b"".join(compressor.compress(megabyte) for _ in range(inflated_bytes // 2**20))
    return data[: after_file_meta(data)] + zeros + compressor.flush()
