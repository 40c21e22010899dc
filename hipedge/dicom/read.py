"""Read a file into a `Radiograph`, or raise `Refused`."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from blake3 import blake3

from hipedge.content import BLAKE3, is_sha256
from hipedge.dicom.dataset import PixelElement, has_prefix, is_dicom
from hipedge.dicom.gate import gate
from hipedge.dicom.grayscale import Grayscale, StoredValues, polarity_is_doubtful, render
from hipedge.dicom.header import Header, read_header
from hipedge.dicom.partial import open_pixels
from hipedge.dicom.pictures import decode_picture, is_picture
from hipedge.dicom.pixels import CodedFrame, Decoded, PixelFormat, checked_format
from hipedge.errors import Code, Refused
from hipedge.imaging.area import WholePixels
from hipedge.types import CODESTREAM_HASH, Film, Mark, Radiograph

MAX_FILE_BYTES = 512 * 2**20

# PS3.10 7.1 leaves the preamble to applications, so that a DICOM file can also be a TIFF file. With
# one of these signatures it would be executed or unpacked by other programs.
POLYGLOT_MAGIC = (
    b"MZ", b"\x7fELF", b"#!", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe",
    b"PK\x03\x04", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf", b"%PDF", b"<",
    b"GIF8", b"\xff\xd8\xff", b"\x89PNG",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Payload:
    """The content of a file."""

    data: bytes

    @cached_property
    def content_hash(self) -> str:
        """Its name, which is BLAKE3 of its bytes."""
        return BLAKE3 + blake3(self.data).hexdigest()

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def is_named(self, name: str | None) -> bool:
        """Return whether this content has a name, which may be from hipedge 0.2 or before."""
        if name is None:
            return False
        return name == (self.sha256 if is_sha256(name) else self.content_hash)


def load(path: Path) -> Payload:
    """Read a file from disk. Raises `Refused`: `unreadable`, `empty_file`, `too_large`.

    Only regular files are read: a pipe may never end.
    """
    try:
        # Checked before opening: to open a pipe waits for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused(Code.UNREADABLE, "not a regular file")
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise Refused(Code.TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes")
            data = file.readall()
    except OSError as error:
        raise Refused(Code.UNREADABLE, type(error).__name__) from error
    if not data:
        raise Refused(Code.EMPTY_FILE)
    return Payload(data)


def read(
    path: Path, payload: Payload | None = None, patient_key: bytes | None = None
) -> Radiograph:
    """Read one file: DICOM, PNG, JPEG or TIFF by its content, whatever it is called.

    `payload` is the file's content if the caller has loaded it already. With `patient_key` the film
    has a pseudonym of its patient, and its date; else it has nothing of either. The gate is checked
    before pixels are decoded. Raises `Refused` with a code of the stages `read` and `gate`, and no
    other exception whatever the file contains.
    """
    payload = load(path) if payload is None else payload
    if is_dicom(payload.data):
        return _read_dicom(path, payload, patient_key)
    if is_picture(payload.data):
        return _read_picture(path, payload)
    raise Refused(Code.NOT_AN_IMAGE)


def _read_dicom(path: Path, payload: Payload, patient_key: bytes | None) -> Radiograph:
    header = read_header(payload.data)
    gate(header)
    element, form = checked_pixels(header)
    rendered, source = open_pixels(element, header, form, header.grayscale)
    film = _film(path, payload, header, _pixel_hash(source), (form.rows, form.columns))
    if patient_key is not None and (patient := header.patient.pseudonym(patient_key)):
        film = replace(film, patient=patient, studied_on=header.studied_on)
    if rendered.overview is not None:
        film = replace(film, overview_hash=hash_pixels(rendered.overview))
    if not rendered.window_used:
        film = replace(film, marks=film.marks | {Mark.WINDOW_UNUSABLE})
    return _marked(Radiograph(film, rendered.pixels))


def _marked(radiograph: Radiograph) -> Radiograph:
    """Mark a film that is damaged, and one whose pixels contradict its photometric interpretation.

    Of a film that is decoded in part more damage may be noticed later (`Radiograph.marks`).
    """
    marks = radiograph.marks
    if polarity_is_doubtful(radiograph.overview.pixels):
        marks |= {Mark.POLARITY_DOUBTFUL}
    return replace(radiograph, film=replace(radiograph.film, marks=marks))


def checked_pixels(header: Header) -> tuple[PixelElement, PixelFormat]:
    """Return the Pixel Data of a header and their format. Raises `Refused`."""
    form = checked_format(header.image_pixel)
    if header.pixels is None or len(header.pixels.value) == 0:
        raise Refused(Code.NO_PIXELS)
    if form.photometric == "PALETTE COLOR" and header.grayscale.palette is None:
        raise Refused(Code.UNSUPPORTED_PIXELS, "palette")
    return header.pixels, form


def _pixel_hash(source: CodedFrame | Decoded) -> str:
    """Return the hash of a codestream, or of the stored values of a film that is decoded whole."""
    if isinstance(source, CodedFrame):
        return CODESTREAM_HASH + blake3(source.data).hexdigest()
    return hash_pixels(source.values)


def _film(
    path: Path, payload: Payload, header: Header, pixel_hash: str, shape: tuple[int, int]
) -> Film:
    return Film(
        source=path,
        content_hash=payload.content_hash,
        pixel_hash=pixel_hash,
        shape=shape,
        transfer_syntax_uid=header.transfer_syntax_uid,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        study_instance_uid=header.study_instance_uid,
        modality=header.modality,
        view=header.view,
        laterality=header.laterality,
        orientation=header.orientation,
        inverted=header.grayscale.inverted,
        spacing_mm=header.spacing_mm,
        age_years=header.age_years,
        sex=header.sex,
        manufacturer=header.manufacturer,
        marks=_marks(payload.data),
    )


def _marks(data: bytes) -> frozenset[Mark]:
    polyglot = has_prefix(data) and data.startswith(POLYGLOT_MAGIC)
    return frozenset({Mark.POLYGLOT}) if polyglot else frozenset()


def _read_picture(path: Path, payload: Payload) -> Radiograph:
    picture = decode_picture(payload.data)
    pixels = WholePixels(render(picture.values, 16, Grayscale()), picture.damaged)
    film = Film(
        source=path,
        content_hash=payload.content_hash,
        pixel_hash=hash_pixels(picture.values),
        shape=pixels.pixels.shape,
        marks=picture.marks,
    )
    return _marked(Radiograph(film, pixels))


def hash_pixels(values: StoredValues) -> str:
    """Return BLAKE3 of stored values and their shape, the same in every lossless encoding.

    It is used only to compare films.
    """
    digest = blake3(f"{values.shape}{values.dtype.kind}".encode())
    little_endian = values.astype(f"<{values.dtype.kind}2", copy=False)
    digest.update(np.ascontiguousarray(little_endian).data.cast("B"))
    return digest.hexdigest()
