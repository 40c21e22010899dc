"""Films of one patient have one pseudonym, which says nothing without the key."""

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from hipedge.dicom.patient import Patient
from hipedge.dicom.read import read
from tests.dicom.dicom_films import film

KEY = b"k" * 32
PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
WHO = {
    "PatientID": "K-4711",  # no random UID has it in it
    "IssuerOfPatientID": "CLINIC",
    "PatientBirthDate": "19500131",
    "StudyDate": "20240305",
}


@pytest.fixture
def film_of(tmp_path):
    def read_film(key=KEY, **elements):
        path = tmp_path / "film.dcm"
        path.write_bytes(film(PIXELS, **elements))
        return read(path, patient_key=key).film

    return read_film


def test_without_a_key_nothing_of_the_patient_leaves_the_header(film_of):
    known = film_of(key=None, **WHO)
    assert (known.patient, known.studied_on) == (None, None)
    assert "K-4711" not in repr(known)


def test_it_is_an_hmac_of_issuer_id_and_date_of_birth(film_of):
    known = film_of(**WHO)
    text = json.dumps(["CLINIC", "K-4711", "1950-01-31"]).encode()
    assert known.patient == hmac.new(KEY, text, hashlib.sha256).hexdigest()[:32]
    assert known.studied_on == date(2024, 3, 5)
    assert "K-4711" not in repr(known)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"StudyDate": "20250101", "PatientName": "OTHER^NAME", "Manufacturer": "ACME"}, True),
        ({"PatientID": " K-4711 "}, True),  # PS3.5 6.2: spaces around it are not significant
        ({"PatientID": "K-4712"}, False),
        ({"IssuerOfPatientID": "ELSEWHERE"}, False),
        ({"PatientBirthDate": "19500201"}, False),
    ],
)
def test_who_has_the_same_pseudonym(film_of, changed, same):
    assert (film_of(**WHO).patient == film_of(**WHO | changed).patient) is same


def test_under_another_key_nobody_is_the_same(film_of):
    assert film_of(**WHO).patient != film_of(key=b"l" * 32, **WHO).patient


@pytest.mark.parametrize(
    "changed",
    [{"PatientID": ""}, {"PatientID": None}, {"PatientBirthDate": ""},
     {"PatientBirthDate": "00000000"}, {"PatientID": "x" * 99}],
)  # fmt: skip
def test_an_id_that_may_stand_for_nobody_has_none_and_no_date_either(film_of, changed):
    elements = {k: v for k, v in (WHO | changed).items() if v is not None}
    known = film_of(**elements)
    assert (known.patient, known.studied_on) == (None, None)


def test_parts_that_run_into_each_other_are_told_apart():
    one = Patient("A", "B1", "1950-01-31")
    assert one.pseudonym(KEY) != replace(one, issuer="AB", patient_id="1").pseudonym(KEY)
