"""What all results have in common: patient and study of the film, the device, dates and UIDs."""

from __future__ import annotations

import hashlib
import re
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any

from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

import hipedge
from hipedge.dicom.gate import OWN_MANUFACTURER
from hipedge.results.kinds import Kind
from hipedge.results.source import Source
from hipedge.results.uids import instance_uid, series_uid
from hipedge.store.connection import utc_moment
from hipedge.store.rows import Case

# The gate refuses what this manufacturer has made, or contributed to.
MANUFACTURER = OWN_MANUFACTURER
MODEL_NAME = "hipedge"
NOTE = "Research use only: not a medical device."
# A valid UID for the constructors; `finish` replaces it by the one of the content.
PLACEHOLDER_UID = "2.25.0"

# PS3.3 C.7.1.1 Patient, C.7.2.1 General Study, C.7.2.2 Patient Study: what identifies the patient
# and the study, and what a study of the same patient has to agree in. Type 2 ones come first.
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_OPTIONAL = (
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "PatientAge",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "TimezoneOffsetFromUTC",
)
# Left out of the digest, since a film that is reported again has the same result.
_TIMES = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "SeriesDate",
    "SeriesTime",
    "ContentDate",
    "ContentTime",
    "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
    "PresentationCreationDate",
    "PresentationCreationTime",
)
# In references to the film, until `finish`: Computed Radiography.
STAND_IN_CLASS = "1.2.840.10008.5.1.4.1.1.1"
# Series of results come after those of any modality.
_FIRST_SERIES_NUMBER = 9900


def equipment(case: Case) -> dict[str, Any]:
    """Return the arguments of highdicom's constructors for the equipment and the series."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": software_versions(case),
        "device_serial_number": case.model_id[:16],
    }


def software_versions(case: Case) -> tuple[str, ...]:
    """Return the versions of hipedge and of the model, for Software Versions (0018,1020)."""
    return hipedge.__version__, f"{case.model} {case.model_version}".strip()[:64]


def evidence_of(source: Source) -> Dataset:
    """Return the film as highdicom wants to be told of it: UIDs, and type 2 attributes empty.

    Its constructors check values of the film, which `finish` copies as they are, and refuse private
    SOP Classes: `finish` sets the film's class in all references to it.
    """
    film = Dataset()
    for keyword in _TYPE_2:
        setattr(film, keyword, "")
    film.SOPClassUID = STAND_IN_CLASS
    film.SOPInstanceUID = source.film_uid
    film.StudyInstanceUID = source.study_uid
    film.SeriesInstanceUID = source.header.get("SeriesInstanceUID") or source.study_uid
    return film


def finish(result: Dataset, kind: Kind, case: Case, source: Source) -> Dataset:
    """Set what all results have in common, and the UIDs last; return the same dataset.

    The SOP Instance UID is derived from the content without its dates. These are the time at which
    the film was recorded, so that a result that is sent again is equal in every byte.
    """
    series = series_uid(source.study_uid, case.model_id, kind.value)
    _copy_patient_and_study(source.header, result)
    _set_class_of_film(result, source)
    result.SeriesInstanceUID = series
    result.SeriesNumber = _FIRST_SERIES_NUMBER + tuple(Kind).index(kind) + 1
    result.SeriesDescription = f"hipedge {kind.label} (research use only)"
    result.InstanceNumber = _instance_number(source.header)
    result.ContributingEquipmentSequence = [_contribution(case)]
    for keyword in _TIMES:
        if keyword in result:
            delattr(result, keyword)
    result.SOPInstanceUID = instance_uid(series, source.film_uid, _digest(result))
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    _set_times(result, kind, _local_time(case.recorded_at, source.header))
    return result


def _copy_patient_and_study(film: Dataset, result: Dataset) -> None:
    """Copy the film's values unchanged: PACS files the result under what they say."""
    result.StudyInstanceUID = str(film.StudyInstanceUID)
    for keyword in (*_TYPE_2, *_OPTIONAL):
        if keyword in film:
            result[keyword] = deepcopy(film[keyword])
        elif keyword in _TYPE_2:
            setattr(result, keyword, None)
        elif keyword in result:
            delattr(result, keyword)
    copied = (str(result[keyword].value) for keyword in (*_TYPE_2, *_OPTIONAL) if keyword in result)
    if film.get("SpecificCharacterSet"):
        result.SpecificCharacterSet = film.SpecificCharacterSet
    elif not all(text.isascii() for text in copied):
        result.SpecificCharacterSet = "ISO_IR 192"  # the film names none: it was taken for Latin-1


def _set_class_of_film(result: Dataset, source: Source) -> None:
    def set_class(item: Dataset, element: DataElement) -> None:
        if element.keyword == "ReferencedSOPInstanceUID" and element.value == source.film_uid:
            item.ReferencedSOPClassUID = source.film_class

    result.walk(set_class)


def _instance_number(film: Dataset) -> int:
    try:
        return max(1, int(film.get("InstanceNumber") or 1))
    except (TypeError, ValueError):
        return 1


def _contribution(case: Case) -> Dataset:
    """Return an item of Contributing Equipment (PS3.3 C.12.1), by which AI results are known."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MODEL_NAME
    item.SoftwareVersions = list(software_versions(case))
    item.ContributionDescription = "Artificial intelligence, research use only"
    return item


def _digest(result: Dataset) -> str:
    with BytesIO() as file:
        dcmwrite(file, result)
        return hashlib.sha256(file.getbuffer()).hexdigest()


def _local_time(recorded_at: str, film: Dataset) -> datetime:
    """Return the time of recording in the film's time zone, or else in this machine's.

    Without Timezone Offset From UTC (0008,0201) dates are in the local time (PS3.3 C.12.1).
    """
    utc = utc_moment(recorded_at)
    offset = str(film.get("TimezoneOffsetFromUTC") or "")
    if re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", offset):
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
        return utc.astimezone(zone)
    return utc.astimezone()


def _set_times(result: Dataset, kind: Kind, moment: datetime) -> None:
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    series = ("SeriesDate", "SeriesTime")
    for names in (("InstanceCreationDate", "InstanceCreationTime"), series, kind.dated):
        for name, value in zip(names, (date, time), strict=True):
            setattr(result, name, value)
