"""What a film says of itself: spacing, age, side and view, where the header can be believed."""

import json

import numpy as np
import pytest
from dicom_films import BIG_ENDIAN, CR, EXPLICIT, IMPLICIT, after_file_meta, film

from hipedge.dicom.spacing import hip_plane_spacing
from hipedge.types import Laterality, Mark, View

ADULT = np.zeros((2140, 1760), np.uint8)


@pytest.fixture
def film_of(read_bytes):
    """Read a film with these header elements and return what is known of it."""

    def call(array=None, **elements):
        return read_bytes(film(ADULT if array is None else array, **elements)).film

    return call


def spacing(**given):
    arguments = {
        "imager_mm": (),
        "pixel_mm": (),
        "calibrated": False,
        "magnification": None,
        "shape": (2140, 1760),
        "samples_per_pixel": 1,
    }
    return hip_plane_spacing(**arguments | given)


def test_a_film_without_spacing_has_none(film_of):
    assert film_of().spacing_mm is None


def test_pixel_spacing_alone_is_taken_as_it_is(film_of):
    assert film_of(PixelSpacing=[0.2, 0.18]).spacing_mm == (0.2, 0.18)


def test_imager_spacing_is_divided_by_the_magnification_factor(film_of):
    known = film_of(
        ImagerPixelSpacing=[0.15, 0.15], EstimatedRadiographicMagnificationFactor="1.25"
    )
    assert known.spacing_mm == pytest.approx((0.12, 0.12))


def test_imager_spacing_without_a_factor_is_taken_as_it_is(film_of):
    assert film_of(ImagerPixelSpacing=[0.15, 0.15]).spacing_mm == (0.15, 0.15)


def test_pixel_spacing_that_differs_is_calibrated_and_wins(film_of):
    known = film_of(
        ImagerPixelSpacing=[0.15, 0.15],
        PixelSpacing=[0.13, 0.13],
        EstimatedRadiographicMagnificationFactor="1.25",
    )
    assert known.spacing_mm == (0.13, 0.13)


def test_pixel_spacing_that_repeats_imager_spacing_is_not_calibrated():
    given = {"imager_mm": (0.15, 0.15), "pixel_mm": (0.15, 0.15), "magnification": 1.25}
    assert spacing(**given) == pytest.approx((0.12, 0.12))
    assert spacing(**given, calibrated=True) == (0.15, 0.15)


@pytest.mark.parametrize("factor", [0.0, 0.5, -1.2, 7.0, float("nan"), float("inf")])
def test_a_magnification_that_cannot_be_is_ignored(factor):
    assert spacing(imager_mm=(0.15, 0.15), magnification=factor) == (0.15, 0.15)


@pytest.mark.parametrize(
    "pair",
    [
        (0.0, 0.0),
        (-0.2, 0.2),
        (float("nan"), 0.2),
        (float("inf"), 0.2),
        (0.2,),
        (0.2, 0.2, 0.2),
        (0.1, 0.2),
        (1.0, 1.0),
        (0.001, 0.001),
    ],
)
def test_a_spacing_that_no_detector_has_is_not_believed(pair):
    assert spacing(pixel_mm=pair) is None
    assert spacing(imager_mm=pair) is None


def test_a_field_that_no_detector_has_is_not_believed():
    assert spacing(pixel_mm=(0.4, 0.4), shape=(4000, 3000)) is None
    assert spacing(pixel_mm=(0.1, 0.1), shape=(4000, 200)) is None


def test_a_made_up_pixel_spacing_gives_way_to_imager_spacing():
    assert spacing(imager_mm=(0.15, 0.15), pixel_mm=(1.0, 1.0)) == (0.15, 0.15)


def test_a_colour_picture_has_no_detector_and_no_spacing(film_of):
    colour = np.zeros((2140, 1760, 3), np.uint8)
    assert film_of(colour, PixelSpacing=[0.2, 0.2]).spacing_mm is None


@pytest.mark.parametrize("garbage", [b"abc", b"0.2", b"\\\\\\", b"1\\x"])
def test_garbage_in_the_spacing_is_none_and_no_refusal(garbage, read_bytes):
    data = film(ADULT, PixelSpacing="0.21\\0.21").replace(b"0.21\\0.21 ", garbage.ljust(10))
    assert read_bytes(data).film.spacing_mm is None


@pytest.mark.parametrize(
    ("age", "years"),
    [("065Y", 65), ("006M", 0.5), ("026W", 26 * 7 / 365.25), ("010D", 10 / 365.25)],
)
def test_an_age_has_a_unit(age, years, film_of):
    assert film_of(PatientAge=age).age_years == pytest.approx(years)


@pytest.mark.parametrize("age", ["65", "999Y", "-01Y", "abc", "", "65 Y"])
def test_an_age_that_is_none_is_not_believed(age, film_of):
    assert film_of(PatientAge=age).age_years is None


def test_an_age_is_known_from_birth_and_study(film_of):
    known = film_of(PatientBirthDate="19400305", StudyDate="20040304")
    assert known.age_years == pytest.approx(64, abs=0.01)


@pytest.mark.parametrize(("born", "studied"), [("20050101", "20040101"), ("19991332", "20040101")])
def test_dates_that_cannot_be_give_no_age(born, studied, film_of):
    assert film_of(PatientBirthDate=born, StudyDate=studied).age_years is None


def test_the_images_laterality_goes_before_the_series(film_of):
    assert film_of(ImageLaterality="L", Laterality="R").laterality is Laterality.LEFT
    assert film_of(Laterality="R").laterality is Laterality.RIGHT
    assert film_of(ImageLaterality="B").laterality is Laterality.BOTH
    assert film_of(ImageLaterality="left").laterality is None


def test_patient_orientation_is_two_directions(film_of):
    assert film_of(PatientOrientation=["L", "F"]).orientation == ("L", "F")
    assert film_of(PatientOrientation=["L"]).orientation is None
    assert film_of(PatientOrientation=["LEFT", "FOOT"]).orientation is None


@pytest.mark.parametrize("position", ["AP", "PA", "PA AXIAL", "Frontal"])
def test_a_frontal_view_is_said_by_its_position(position, film_of):
    assert film_of(ViewPosition=position).view is View.FRONTAL


@pytest.mark.parametrize("position", ["", "LLD", "RLO", "BILATERAL", "AP/LAT", "FROG", "SPECIAL"])
def test_other_words_say_nothing_of_the_view(position, film_of):
    assert film_of(ViewPosition=position).view is View.UNKNOWN


def test_a_frontal_view_is_said_by_the_orientation(film_of):
    assert film_of(PatientOrientation=["L", "F"]).view is View.FRONTAL


def test_the_view_position_goes_before_the_orientation(film_of):
    known = film_of(ViewPosition="AP", PatientOrientation=["A", "F"])
    assert known.view is View.FRONTAL


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_a_dataset_without_preamble_and_meta_is_read(syntax, read_bytes):
    data = film(ADULT, syntax, Modality="CR", SOPClassUID=CR)
    known = read_bytes(data[after_file_meta(data) :]).film
    assert (known.modality, known.sop_class_uid) == ("CR", CR)
    assert known.transfer_syntax_uid == syntax


def test_identity_is_read_from_the_file_meta_where_the_dataset_has_none(film_of):
    known = film_of(SOPInstanceUID=None)
    assert known.sop_instance_uid == "1.2.3"


@pytest.mark.parametrize("uid", ["1.2.a", "JOHN^DOE", "1." * 33])
def test_what_is_no_uid_is_not_taken_for_one(uid, film_of):
    assert film_of(StudyInstanceUID=uid).study_instance_uid is None


def test_text_swept_in_by_a_damaged_length_is_not_kept(film_of):
    assert film_of(Manufacturer="ACME " * 20).manufacturer is None
    assert film_of(Manufacturer="AC\nME").manufacturer is None
    assert film_of(Manufacturer=" ACME ").manufacturer == "ACME"


@pytest.mark.parametrize("sex", ["M", "F", "O"])
def test_sex_is_one_of_three_terms(sex, film_of):
    assert film_of(PatientSex=sex).sex == sex
    assert film_of(PatientSex="MALE").sex is None


@pytest.mark.parametrize("magic", [b"MZ", b"\x7fELF", b"PK\x03\x04", b"%PDF-1.7", b"<html>"])
def test_a_preamble_that_other_programs_would_run_is_marked(magic, read_bytes):
    data = film(ADULT)
    polyglot = magic.ljust(128, b"\0") + data[128:]
    assert read_bytes(polyglot).film.marks == {Mark.POLYGLOT}


@pytest.mark.parametrize("magic", [b"", b"II*\0", b"MM\0*", b"some vendor's note"])
def test_a_preamble_as_the_standard_means_it_is_not_marked(magic, read_bytes):
    data = magic.ljust(128, b"\0") + film(ADULT)[128:]
    assert read_bytes(data).film.marks == frozenset()


def test_the_made_up_spacing_of_wrapped_pictures_is_not_believed(shared_data, read_bytes):
    films = sorted((shared_data / "radoss_ddh").glob("*.dcm"))
    assert films
    for path in films:
        known = read_bytes(path.read_bytes()).film
        assert known.spacing_mm is None
        assert known.shape == (331, 331)
        assert json.loads(path.with_suffix(".json").read_text())["landmark_list"]


def test_rg2_has_the_spacing_of_its_plate(shared_data, read_bytes):
    known = read_bytes((shared_data / "wg04" / "RG2_UNC.dcm").read_bytes()).film
    assert known.spacing_mm == (0.2, 0.2)
    assert known.shape == (2140, 1760)
    assert (known.sex, known.age_years, known.laterality) == ("M", None, None)
    assert known.manufacturer == "Fuji Photo Film Co.,Ltd."
