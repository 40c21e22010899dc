"""Read a DICOM header into plain values for the gate, the decoder and `Film`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

import numpy as np
from pydicom.dataset import Dataset

from hipedge.dicom import dataset as elements
from hipedge.dicom.dataset import Parsed, PixelElement
from hipedge.dicom.grayscale import Grayscale, LookupTable, Window
from hipedge.dicom.patient import Patient
from hipedge.dicom.spacing import hip_plane_spacing
from hipedge.dicom.view import view_of
from hipedge.types import Laterality, View

Coded = tuple[str, str]
"""A (Code Value, Coding Scheme Designator) pair."""

OLDEST_YEARS = 125.0

KEYWORDS = (
    "AlgorithmFamilyCodeSequence",
    "AlgorithmName",
    "AnatomicRegionSequence",
    "BitsAllocated",
    "BitsStored",
    "BluePaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "BodyPartExamined",
    "Columns",
    "ContributingEquipmentSequence",
    "ConversionType",
    "DerivationAlgorithmSequence",
    "DerivationCodeSequence",
    "EstimatedRadiographicMagnificationFactor",
    "GreenPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "HighBit",
    "ImageLaterality",
    "ImageType",
    "ImagerPixelSpacing",
    "IssuerOfPatientID",
    "Laterality",
    "Manufacturer",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PatientAge",
    "PatientBirthDate",
    "PatientID",
    "PatientOrientation",
    "PatientSex",
    "PhotometricInterpretation",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "PlanarConfiguration",
    "PresentationLUTShape",
    "RedPaletteColorLookupTableData",
    "RedPaletteColorLookupTableDescriptor",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "StudyDate",
    "StudyInstanceUID",
    "VOILUTFunction",
    "VOILUTSequence",
    "ViewCodeSequence",
    "ViewPosition",
    "WindowCenter",
    "WindowWidth",
)

# Overlay Bit Position (60xx,0102) of the sixteen overlays (PS3.3 C.9.2). Not 0, it names the bit of
# Pixel Data that holds the overlay, as PS3.3 had it until 2004.
OVERLAY_BIT_POSITIONS = tuple(range(0x6000_0102, 0x6020_0102, 0x2_0000))


@dataclass(frozen=True)
class ImagePixel:
    """The Image Pixel Module as it is in the file, not validated (PS3.3 C.7.6.3)."""

    rows: int | None
    columns: int | None
    samples_per_pixel: int | None
    photometric: str | None
    planar_configuration: int | None
    bits_allocated: int | None
    bits_stored: int | None
    high_bit: int | None
    pixel_representation: int | None


@dataclass(frozen=True, eq=False)
class Header:
    """A DICOM header. Missing or invalid values are None or ()."""

    transfer_syntax_uid: str | None
    sop_class_uid: str | None
    sop_instance_uid: str | None
    study_instance_uid: str | None
    studied_on: date | None
    patient: Patient
    modality: str | None
    conversion_type: str | None
    image_type: tuple[str, ...]
    number_of_frames: int
    body_parts: tuple[str, ...]
    anatomic_regions: tuple[Coded, ...]
    derivations: tuple[Coded, ...]
    names_algorithm: bool
    contributors: tuple[str, ...]
    view: View
    laterality: Laterality | None
    orientation: tuple[str, str] | None
    spacing_mm: tuple[float, float] | None
    age_years: float | None
    sex: str | None
    manufacturer: str | None
    image_pixel: ImagePixel
    grayscale: Grayscale
    overlay_in_pixels: bool
    pixels: PixelElement | None


def read_header(data: bytes) -> Header:
    """Parse a DICOM file in memory. Raises `Refused` (`malformed_header`, `too_large`)."""
    with elements.quarantine_pydicom():
        return _header(elements.parse(data, KEYWORDS, OVERLAY_BIT_POSITIONS))


def _header(parsed: Parsed) -> Header:
    ds, meta = parsed.elements, parsed.file_meta
    image_pixel = _image_pixel(ds)
    orientation = _orientation(ds)
    return Header(
        transfer_syntax_uid=parsed.transfer_syntax_uid,
        sop_class_uid=elements.uid(ds, "SOPClassUID")
        or elements.uid(meta, "MediaStorageSOPClassUID"),
        sop_instance_uid=elements.uid(ds, "SOPInstanceUID")
        or elements.uid(meta, "MediaStorageSOPInstanceUID"),
        study_instance_uid=elements.uid(ds, "StudyInstanceUID"),
        studied_on=_date(ds, "StudyDate"),
        patient=Patient(
            elements.text(ds, "IssuerOfPatientID") or "",
            elements.text(ds, "PatientID") or "",
            born.isoformat() if (born := _date(ds, "PatientBirthDate")) else "",
        ),
        modality=elements.text(ds, "Modality"),
        conversion_type=elements.text(ds, "ConversionType"),
        image_type=elements.texts(ds, "ImageType"),
        number_of_frames=elements.integer(ds, "NumberOfFrames") or 1,
        body_parts=elements.texts(ds, "BodyPartExamined"),
        anatomic_regions=elements.codes(ds, "AnatomicRegionSequence"),
        derivations=_derivations(ds),
        names_algorithm=_names_algorithm(ds),
        contributors=_contributors(ds),
        view=view_of(
            elements.texts(ds, "ViewPosition"), elements.codes(ds, "ViewCodeSequence"), orientation
        ),
        laterality=_laterality(ds),
        orientation=orientation,
        spacing_mm=_spacing_mm(ds, image_pixel),
        age_years=_age_years(ds),
        sex=sex if (sex := elements.text(ds, "PatientSex")) in ("M", "F", "O") else None,
        manufacturer=elements.text(ds, "Manufacturer"),
        image_pixel=image_pixel,
        grayscale=_grayscale(ds, image_pixel, little_endian=parsed.little_endian),
        overlay_in_pixels=any(elements.integer(ds, tag) for tag in OVERLAY_BIT_POSITIONS),
        pixels=parsed.pixels,
    )


def _image_pixel(ds: Dataset) -> ImagePixel:
    return ImagePixel(
        rows=elements.integer(ds, "Rows"),
        columns=elements.integer(ds, "Columns"),
        samples_per_pixel=elements.integer(ds, "SamplesPerPixel"),
        photometric=elements.text(ds, "PhotometricInterpretation"),
        planar_configuration=elements.integer(ds, "PlanarConfiguration"),
        bits_allocated=elements.integer(ds, "BitsAllocated"),
        bits_stored=elements.integer(ds, "BitsStored"),
        high_bit=elements.integer(ds, "HighBit"),
        pixel_representation=elements.integer(ds, "PixelRepresentation"),
    )


def _laterality(ds: Dataset) -> Laterality | None:
    """Return Image Laterality (0020,0062), else the series' Laterality (0020,0060)."""
    for keyword in ("ImageLaterality", "Laterality"):
        value = elements.text(ds, keyword)
        if value in {member.value for member in Laterality}:
            return Laterality(value)
    return None


def _orientation(ds: Dataset) -> tuple[str, str] | None:
    """Return Patient Orientation (PS3.3 C.7.6.1.1.1): letters of A, P, R, L, H, F, twice."""
    values = elements.texts(ds, "PatientOrientation")
    if len(values) == 2 and all(re.fullmatch(r"[APRLHF]{1,3}", value) for value in values):
        return values[0], values[1]
    return None


def _spacing_mm(ds: Dataset, image_pixel: ImagePixel) -> tuple[float, float] | None:
    if not image_pixel.rows or not image_pixel.columns:
        return None
    return hip_plane_spacing(
        imager_mm=elements.numbers(ds, "ImagerPixelSpacing"),
        pixel_mm=elements.numbers(ds, "PixelSpacing"),
        calibrated=elements.text(ds, "PixelSpacingCalibrationType") is not None,
        magnification=elements.number(ds, "EstimatedRadiographicMagnificationFactor"),
        shape=(image_pixel.rows, image_pixel.columns),
        samples_per_pixel=image_pixel.samples_per_pixel or 1,
    )


def _age_years(ds: Dataset) -> float | None:
    """Return Patient's Age (PS3.5 6.2: nnnD, W, M or Y), else study date less birth date.

    None where it is negative or above `OLDEST_YEARS`.
    """
    age = re.fullmatch(r"(\d{3})([DWMY])", elements.text(ds, "PatientAge") or "")
    if age:
        years = int(age[1]) / {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}[age[2]]
    else:
        born, studied = _date(ds, "PatientBirthDate"), _date(ds, "StudyDate")
        if born is None or studied is None:
            return None
        years = (studied - born).days / 365.25
    return years if 0 <= years <= OLDEST_YEARS else None


def _date(ds: Dataset, keyword: str) -> date | None:
    """Return a DA value (PS3.5 6.2: YYYYMMDD), or None where it is no date."""
    digits = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", elements.text(ds, keyword) or "")
    try:
        return date(int(digits[1]), int(digits[2]), int(digits[3])) if digits else None
    except ValueError:
        return None


def _derivations(ds: Dataset) -> tuple[Coded, ...]:
    """Return the codes for how, and by what kind of equipment, the image was derived."""
    equipment = elements.items(ds, "ContributingEquipmentSequence")
    return (
        *elements.codes(ds, "DerivationCodeSequence"),
        *(c for item in equipment for c in elements.codes(item, "PurposeOfReferenceCodeSequence")),
        *elements.codes(ds, "AlgorithmFamilyCodeSequence"),
        *(
            c
            for item in elements.items(ds, "DerivationAlgorithmSequence")
            for c in elements.codes(item, "AlgorithmFamilyCodeSequence")
        ),
    )


def _contributors(ds: Dataset) -> tuple[str, ...]:
    """Return the manufacturers of the equipment that made or changed the image (PS3.3 C.12.1)."""
    equipment = (ds, *elements.items(ds, "ContributingEquipmentSequence"))
    names = (elements.text(item, "Manufacturer") for item in equipment)
    return tuple(name for name in names if name is not None)


def _names_algorithm(ds: Dataset) -> bool:
    """Return whether the image itself has an Algorithm Identification Macro (PS3.3 10.16)."""
    return elements.text(ds, "AlgorithmName") is not None or bool(
        elements.items(ds, "DerivationAlgorithmSequence")
    )


def _grayscale(ds: Dataset, image_pixel: ImagePixel, *, little_endian: bool) -> Grayscale:
    signed = image_pixel.pixel_representation == 1
    photometric = image_pixel.photometric
    if photometric == "PALETTE COLOR":
        return Grayscale(
            palette=_palette(ds, signed=signed, little_endian=little_endian),
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return Grayscale()
    slope, intercept = (elements.number(ds, k) for k in ("RescaleSlope", "RescaleIntercept"))
    modality_lut = _first_lut(ds, "ModalityLUTSequence", signed=signed, little_endian=little_endian)
    # PS3.3 C.11.2.1.1: the VOI LUT's input is the Modality LUT's output, signed if that can be.
    voi_signed = modality_lut is None and (signed or (intercept or 0.0) < 0)
    return Grayscale(
        modality_lut=modality_lut,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        voi_lut=_first_lut(ds, "VOILUTSequence", signed=voi_signed, little_endian=little_endian),
        window=_window(ds),
        inverted=photometric == "MONOCHROME1"
        or elements.text(ds, "PresentationLUTShape") == "INVERSE",
        padding=_padding(ds, signed=signed, little_endian=little_endian),
    )


def _window(ds: Dataset) -> Window | None:
    """Return the first Window Center and Width (PS3.3 C.11.2.1.2), the manufacturer's default."""
    centre, width = elements.number(ds, "WindowCenter"), elements.number(ds, "WindowWidth")
    if centre is None or width is None:
        return None
    return Window(centre, width, elements.text(ds, "VOILUTFunction") or "LINEAR")


def _padding(ds: Dataset, *, signed: bool, little_endian: bool) -> tuple[int, int] | None:
    """Return the lowest and the highest padding value (PS3.3 C.7.5.1.1.2)."""
    bounds = [
        words[0].astype(np.int16 if signed else np.uint16)
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        if len(words := elements.words(ds, keyword, little_endian=little_endian))
    ]
    return (int(min(bounds)), int(max(bounds))) if bounds else None


def _first_lut(
    ds: Dataset, keyword: str, *, signed: bool, little_endian: bool
) -> LookupTable | None:
    for item in elements.items(ds, keyword):
        return _lut(item, "LUT", signed=signed, little_endian=little_endian)
    return None


def _lut(ds: Dataset, prefix: str, *, signed: bool, little_endian: bool) -> LookupTable | None:
    """Return a LUT by its Descriptor and Data (PS3.3 C.11.1.1.1), or None where it has no entries.

    The descriptor is (entries, 0 meaning 65536; first value mapped; bits of an entry). Entries of
    8 bits may be packed two to a word.
    """
    descriptor = elements.words(ds, f"{prefix}Descriptor", little_endian=little_endian)
    entries = elements.words(ds, f"{prefix}Data", little_endian=little_endian)
    if len(descriptor) != 3 or len(entries) == 0:
        return None
    count = int(descriptor[0]) or 65536
    bits = int(descriptor[2])
    if bits == 8 and len(entries) == (count + 1) // 2:
        entries = entries.astype("<u2").view(np.uint8).astype(np.uint16)
    first = int(descriptor[1].astype(np.int16) if signed else descriptor[1])
    return LookupTable(first, bits, entries[:count])


def _palette(
    ds: Dataset, *, signed: bool, little_endian: bool
) -> tuple[LookupTable, LookupTable, LookupTable] | None:
    """Return the red, green and blue LUTs (PS3.3 C.7.6.3.1.5), or None where one is missing.

    Segmented palettes (C.7.9.2) are not read.
    """
    red, green, blue = (
        _lut(ds, f"{colour}PaletteColorLookupTable", signed=signed, little_endian=little_endian)
        for colour in ("Red", "Green", "Blue")
    )
    return (red, green, blue) if red and green and blue else None
