"""Write a film as a DICOM file: Digital X-Ray Image Storage – For Presentation (PS3.3 A.26)."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid

from hipedge.phantom.film import ORIENTATION, SimulatedFilm
from hipedge.phantom.hospitals import (
    EXPLICIT_LITTLE_ENDIAN,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    Spacing,
)
from hipedge.phantom.physics import Image
from hipedge.types import Side

DX_FOR_PRESENTATION = UID("1.2.840.10008.5.1.4.1.1.1.1")
ISO_2022_UTF8 = "ISO_IR 192"
DATE = "20260101"


def write_film(path: Path, film: SimulatedFilm, picture: Image) -> None:
    """Write a rendered film atomically; `picture` is (H, W), from 0 (dark) to 1 (bright)."""
    stored = digitised(picture, film.hospital.bits_stored, film.hospital.monochrome1)
    dataset = _dataset(film, stored)
    partial = path.with_suffix(".part")
    pydicom.dcmwrite(partial, dataset, enforce_file_format=True)
    partial.replace(path)


def digitised(picture: Image, bits_stored: int, monochrome1: bool) -> NDArray[np.uint16]:
    """Return stored values from 0 to 2^`bits_stored` − 1, inverted for MONOCHROME1."""
    top = 2**bits_stored - 1
    values = np.rint(np.clip(picture, 0.0, 1.0) * top).astype(np.uint16)
    return np.asarray(top - values, np.uint16) if monochrome1 else values


def encoded(stored: NDArray[np.uint16], bits_stored: int, transfer_syntax_uid: str) -> bytes:
    """Encode the pixels (H, W) as one frame in a transfer syntax, without loss."""
    if transfer_syntax_uid == JPEG_LOSSLESS_SV1:
        return bytes(imagecodecs.ljpeg_encode(stored, bitspersample=bits_stored))
    if transfer_syntax_uid == JPEG_LS_LOSSLESS:
        return bytes(imagecodecs.jpegls_encode(stored))
    if transfer_syntax_uid == JPEG_2000_LOSSLESS:
        return bytes(
            imagecodecs.jpeg2k_encode(
                stored, codecformat="J2K", reversible=True, bitspersample=bits_stored
            )
        )
    if transfer_syntax_uid == RLE_LOSSLESS:
        return bytes(
            RLELosslessEncoder.encode(
                stored.tobytes(), rows=stored.shape[0], columns=stored.shape[1],
                samples_per_pixel=1, bits_allocated=16, bits_stored=bits_stored,
                pixel_representation=0, photometric_interpretation="MONOCHROME2",
                number_of_frames=1,
            )
        )  # fmt: skip
    return stored.tobytes()


def _dataset(film: SimulatedFilm, stored: NDArray[np.uint16]) -> Dataset:
    ds = Dataset()
    number = f"{film.identity.number:06d}"
    uids = [film.hospital.name, number, str(film.noise_seed)]

    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = DX_FOR_PRESENTATION
    ds.file_meta.MediaStorageSOPInstanceUID = _uid("instance", uids)
    ds.file_meta.TransferSyntaxUID = UID(film.transfer_syntax_uid)

    # SOP Common, PS3.3 C.12.1
    ds.SpecificCharacterSet = ISO_2022_UTF8
    ds.SOPClassUID = DX_FOR_PRESENTATION
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID
    # Patient, General Study, Patient Study, C.7.1 and C.7.2, of no real person
    ds.PatientName = f"PHANTOM^{film.hospital.name.upper()} {number}"
    ds.PatientID = film.identity.patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = film.identity.sex
    ds.PatientAge = f"{film.identity.age_years:03d}Y"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "Simulated: there is no patient"
    ds.StudyInstanceUID = _uid("study", uids)
    ds.StudyDate = DATE
    ds.StudyTime = "120000"
    ds.StudyID = number[-6:]
    ds.AccessionNumber = ""
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Simulated pelvis"
    # General Series, DX Series, C.7.3.1 and C.8.11.1
    ds.Modality = "DX"
    ds.SeriesInstanceUID = _uid("series", uids)
    ds.SeriesNumber = 1
    ds.PresentationIntentType = "FOR PRESENTATION"
    # General Equipment, C.7.5.1
    ds.Manufacturer = film.hospital.manufacturer
    ds.ManufacturerModelName = film.hospital.model
    ds.InstitutionName = film.hospital.institution
    ds.SoftwareVersions = "hipedge phantom"
    _add_image(ds, film, stored)
    _add_anatomy(ds, film)
    _add_acquisition(ds, film)
    _add_pixels(ds, film, stored)
    return ds


def _add_image(ds: Dataset, film: SimulatedFilm, stored: NDArray[np.uint16]) -> None:
    """Add the attributes of General Image and DX Image, PS3.3 C.7.6.1 and C.8.11.3."""
    ds.InstanceNumber = 1
    ds.ContentDate = DATE
    ds.ContentTime = "120000"
    ds.AcquisitionDate = DATE
    ds.AcquisitionTime = "120000"
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.DerivationDescription = "Simulated radiograph"
    ds.PatientOrientation = list(ORIENTATION)
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.PixelIntensityRelationship = "LOG"
    # -1: stored values increase as X-ray intensity decreases, as in MONOCHROME2 with bright bone.
    ds.PixelIntensityRelationshipSign = 1 if film.hospital.monochrome1 else -1
    ds.RescaleIntercept = "0"
    ds.RescaleSlope = "1"
    ds.RescaleType = "US"
    ds.PresentationLUTShape = "INVERSE" if film.hospital.monochrome1 else "IDENTITY"
    top = 2**film.hospital.bits_stored
    ds.WindowCenter = f"{top / 2:g}"
    ds.WindowWidth = f"{top:g}"


def _add_anatomy(ds: Dataset, film: SimulatedFilm) -> None:
    """Add DX Anatomy Imaged and DX Positioning, PS3.3 C.8.11.2 and C.8.11.5."""
    single = len(film.sides) == 1
    if single:
        ds.ImageLaterality = "R" if film.sides[0] is Side.RIGHT else "L"
    else:
        ds.ImageLaterality = "B"
    ds.BodyPartExamined = "HIP" if single else "PELVIS"
    region = ("24136001", "Hip joint") if single else ("12921003", "Pelvis")
    ds.AnatomicRegionSequence = Sequence([_code(region[0], "SCT", region[1])])
    ds.PositionerType = ""
    ds.ViewPosition = "AP"
    view = _code("399348003", "SCT", "antero-posterior")
    view.ViewModifierCodeSequence = Sequence([])
    ds.ViewCodeSequence = Sequence([view])
    ds.PatientOrientationCodeSequence = Sequence([_code("102538003", "SCT", "recumbent")])
    ds.AcquisitionContextSequence = Sequence([])


def _add_acquisition(ds: Dataset, film: SimulatedFilm) -> None:
    """Add DX Detector, X-Ray Acquisition Dose and Generation, PS3.3 C.8.11.4, C.8.7.8, C.8.11.7."""
    ds.DetectorType = film.hospital.detector
    ds.DetectorConfiguration = "AREA"
    ds.KVP = str(film.technique.kilovolts)
    distance = film.view.source_to_detector_mm
    ds.DistanceSourceToDetector = f"{distance:.3f}"
    spacing = f"{film.view.pixel_mm:g}"
    ds.ImagerPixelSpacing = [spacing, spacing]
    if film.hospital.spacing is not Spacing.IMAGER:
        ds.DistanceSourceToPatient = f"{distance / film.hospital.magnification:.3f}"
        ds.EstimatedRadiographicMagnificationFactor = f"{film.hospital.magnification:.2f}"
    if film.hospital.spacing is Spacing.CALIBRATED:
        ds.PixelSpacing = [f"{s:.6g}" for s in film.hip_spacing_mm]
        ds.PixelSpacingCalibrationType = "GEOMETRY"
        ds.PixelSpacingCalibrationDescription = "Plane of the hip joints"


def _add_pixels(ds: Dataset, film: SimulatedFilm, stored: NDArray[np.uint16]) -> None:
    """Add Image Pixel, PS3.3 C.7.6.3."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if film.hospital.monochrome1 else "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated = 16
    ds.BitsStored = film.hospital.bits_stored
    ds.HighBit = film.hospital.bits_stored - 1
    ds.PixelRepresentation = 0
    frame = encoded(stored, film.hospital.bits_stored, film.transfer_syntax_uid)
    if film.transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN:
        ds.PixelData = frame
    else:
        ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OW" if film.transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN else "OB"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def _uid(level: str, of: list[str]) -> UID:
    """Return a UID under 2.25, derived from `level` and `of`: the same for films of the same seed.

    `of` identifies the film.
    """
    return generate_uid(prefix="2.25.", entropy_srcs=[level, *of])
