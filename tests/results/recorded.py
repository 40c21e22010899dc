"""Recorded cases whose films are real DICOM files in a folder."""

from dataclasses import replace

import numpy as np

from hipedge.dicom.read import Payload
from hipedge.locate.upright import turns_of
from hipedge.store.outbox import ResultPolicy
from hipedge.types import Box, Category, Hip, Refusal, ScoredHip, Side
from tests.builders import RULE, scored_hip, screened
from tests.builders import film as described
from tests.dicom.dicom_films import EXPLICIT
from tests.dicom.dicom_films import film as film_file
from tests.store.test_store import start

STUDY = "1.2.826.0.1.3680043.9999.5"
BOX = Box(10.0, 20.0, 110.0, 120.0)
RULES = {"model": RULE}
EVERYTHING = ResultPolicy(("pacs",), unflagged=True, not_read=True)
PATIENT = {
    "PatientName": "Hüft^Hanna",
    "PatientID": "4711",
    "IssuerOfPatientID": "CLINIC",
    "PatientBirthDate": "19400229",
    "PatientSex": "F",
    "StudyDate": "20261130",
    "StudyTime": "101500",
    "StudyID": "S1",
    "AccessionNumber": "A-1",
    "ReferringPhysicianName": "Arzt^A",
    "StudyDescription": "Becken",
    "SpecificCharacterSet": "ISO_IR 100",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.9999.6",
    "InstanceNumber": 3,
}


def scored(category, side=Side.RIGHT, box=BOX):
    hip = scored_hip(category, side)
    return ScoredHip(Hip(side, (60.0, 70.0), box, 0.9, side is Side.LEFT), hip.scores)


def write_film(folder, number, shape=(240, 200), syntax=EXPLICIT, **elements):
    """Write a film of a patient; return its path and the name of its content."""
    pixels = np.random.default_rng(number).integers(0, 4096, shape, np.uint16)
    header = {**PATIENT, "StudyInstanceUID": STUDY, "SOPInstanceUID": f"{STUDY}.{number}"}
    data = film_file(pixels, syntax, bits=12, **header | elements)
    path = folder / f"{number}.dcm"
    path.write_bytes(data)
    return path, Payload(data).content_hash


def record(store, folder, *hips, number=1, marks=(), policy=EVERYTHING, run=None, **elements):
    """Record a screened film with these hips, as `hipedge watch` does; return its case."""
    upright = (240, 200)
    stored = upright[::-1] if turns_of(marks) % 2 else upright
    path, content_hash = write_film(folder, number, stored, **elements)
    film = described(str(number), uid=f"{STUDY}.{number}", study_instance_uid=STUDY)
    film = replace(
        film, source=path, content_hash=content_hash, pixel_hash=content_hash, shape=upright
    )
    outcome = screened(film, *hips or (scored(Category.FEMORAL_NECK_FRACTURE),), marks=marks)
    store.record(run or start(store), [outcome], RULE, results=policy)
    (case,) = store.find(RULES, str(path))
    return case


def record_refusal(store, folder, code, number=1, policy=EVERYTHING, **elements):
    path, content_hash = write_film(folder, number, **elements)
    store.record(
        start(store), [Refusal(path, code, content_hash=content_hash)], RULE, results=policy
    )
    (case,) = store.find(RULES, str(path))
    return case
