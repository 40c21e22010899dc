"""The gate refuses what a header says is no frontal radiograph of a hip, and nothing else."""

import numpy as np
import pytest
from dicom_films import CR, DX, JPEG_2000_LOSSLESS, after_file_meta, encapsulate, film, write
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

from hipedge.dicom.gate import gate
from hipedge.dicom.header import read_header
from hipedge.errors import CODES, Code, Refused, Stage

PIXELS = np.zeros((8, 8), np.uint8)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def verdict(**elements):
    """Return the gate's code for a film with these header elements, or None where it passes."""
    try:
        gate(read_header(film(PIXELS, **elements)))
    except Refused as refused:
        return refused.code
    return None


def coded(value, scheme):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    return item


def test_a_hip_passes():
    assert verdict() is None


def test_a_silent_header_passes():
    assert verdict(SOPClassUID=None, Modality=None, BodyPartExamined=None) is None


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "OT", "DR", "XR", ""])
def test_radiographs_and_local_terms_pass(modality):
    assert verdict(Modality=modality) is None


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "NM", "PT", "MG", "XA", "RF", "IO", "PX"])
def test_another_modality_is_refused(modality):
    assert verdict(Modality=modality) is Code.WRONG_MODALITY


@pytest.mark.parametrize("uid", [SECONDARY_CAPTURE, SECONDARY_CAPTURE + ".2"])
def test_a_digitised_film_passes_though_it_is_a_secondary_capture(uid):
    """PS3.3 C.8.6.1: Conversion Type DF, as film digitisers write it."""
    film = {"SOPClassUID": uid, "Modality": "OT", "ConversionType": "DF"}
    assert verdict(**film) is None
    assert verdict(**film | {"BodyPartExamined": "CHEST"}) is Code.WRONG_BODY_PART
    assert verdict(**film | {"Modality": "CT"}) is Code.WRONG_MODALITY
    for other in ("WSD", "SYN", "SD", "DI", ""):
        assert verdict(**film | {"ConversionType": other}) is Code.SECONDARY_CAPTURE


@pytest.mark.parametrize("modality", ["SR", "PR", "KO", "SEG", "DOC", "RTSTRUCT", "RTPLAN"])
def test_a_modality_that_is_no_image_is_refused(modality):
    assert verdict(Modality=modality) is Code.WRONG_OBJECT


STORAGE = {
    uid: name
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class" and "Storage" in name
}


@pytest.mark.parametrize("uid", [uid for uid in STORAGE if uid not in (CR, DX, DX + ".1")])
def test_every_other_storage_class_is_refused(uid):
    name = STORAGE[uid]
    expected = (
        Code.SECONDARY_CAPTURE
        if "Secondary Capture" in name
        else Code.WRONG_MODALITY
        if "Image Storage" in name
        else Code.WRONG_OBJECT
    )
    assert verdict(SOPClassUID=uid, Modality="DX") is expected


@pytest.mark.parametrize("uid", [CR, DX, DX + ".1", "1.2.840.113619.4.27", "1.2.3"])
def test_radiograph_private_and_unknown_classes_pass(uid):
    assert verdict(SOPClassUID=uid) is None


def test_an_object_without_pixels_is_refused_by_what_it_is(read_bytes):
    report = Dataset()
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "SR"
    with pytest.raises(Refused) as info:
        read_bytes(write(report))
    assert info.value.code is Code.WRONG_OBJECT


def test_a_directory_is_refused_by_its_file_meta():
    """A DICOMDIR (PS3.10 8.6) names its class nowhere else."""
    directory = Dataset()
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    data = write(directory)
    with pytest.raises(Refused) as info:
        gate(read_header(data[: after_file_meta(data)]))
    assert info.value.code is Code.WRONG_OBJECT


@pytest.mark.parametrize(
    "part",
    [
        "CHEST",
        "KNEE",
        "SKULL",
        "CSPINE",
        "C-SPINE",
        "L SPINE",
        "LOWER LEG",
        "FOOT",
        "hand",
        "ABDOMEN",
    ],
)
def test_a_body_part_listed_as_no_hip_is_refused(part):
    assert verdict(BodyPartExamined=part) is Code.WRONG_BODY_PART


@pytest.mark.parametrize(
    "part",
    [
        "HIP", "PELVIS", "EXTREMITY", "LEG", "FEMUR", "THIGH", "UPPERLEG", "SACRUM", "WHOLEBODY",
        "ABDOMENPELVIS", "", "UNKNOWN", "HUEFTE", "BASSIN", "HIP/KNEE", "KNEE AND HIP", "KNIE",
        "SIJOINT", "LOWERLIMB", "CHESTABDPELVIS",
    ],
)  # fmt: skip
def test_hips_mixtures_and_local_words_pass(part):
    assert verdict(BodyPartExamined=part) is None


def test_of_several_body_parts_one_that_may_be_hip_is_enough():
    assert verdict(BodyPartExamined=["KNEE", "HIP"]) is None
    assert verdict(BodyPartExamined=["KNEE", "FOOT"]) is Code.WRONG_BODY_PART


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("72696002", "SCT"), ("T-D9200", "SRT"), ("T-D9200", "SNM3"), ("816094009", "SCT")],
)
def test_a_region_coded_as_no_hip_is_refused(value, scheme):
    region = [coded(value, scheme)]
    assert verdict(AnatomicRegionSequence=region, BodyPartExamined=None) is Code.WRONG_BODY_PART
    assert verdict(AnatomicRegionSequence=region) is None  # the body part says HIP


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("24136001", "SCT"), ("T-15710", "SRT"), ("816092008", "SCT"), ("72696002", "99LOCAL")],
)
def test_hip_and_local_region_codes_pass(value, scheme):
    assert verdict(AnatomicRegionSequence=[coded(value, scheme)], BodyPartExamined=None) is None


@pytest.mark.parametrize("position", ["LL", "RL", "LATERAL", "LAT", "FROG LATERAL", "X-TABLE LAT"])
def test_a_lateral_position_is_refused(position):
    assert verdict(ViewPosition=position) is Code.LATERAL_VIEW


@pytest.mark.parametrize(
    ("value", "scheme"), [("399173006", "SCT"), ("R-10232", "SRT"), ("399067008", "SCT")]
)
def test_a_lateral_view_code_is_refused(value, scheme):
    assert verdict(ViewCodeSequence=[coded(value, scheme)]) is Code.LATERAL_VIEW


def test_rows_that_run_to_the_front_are_a_lateral_view():
    assert verdict(PatientOrientation=["A", "F"]) is Code.LATERAL_VIEW


@pytest.mark.parametrize("position", ["AP", "PA", "", "LLD", "AP/LAT", "BILATERAL"])
def test_frontal_and_unclear_views_pass(position):
    assert verdict(ViewPosition=position) is None


def test_several_frames_are_refused():
    assert verdict(NumberOfFrames=2) is Code.MULTI_FRAME


@pytest.mark.parametrize("frames", [0, 1])
def test_one_frame_passes(frames):
    assert verdict(NumberOfFrames=frames) is None


@pytest.mark.parametrize("value", ["LOCALIZER", "localizer", "SCOUT"])
def test_a_localizer_is_refused(value):
    assert verdict(ImageType=["ORIGINAL", "PRIMARY", value]) is Code.LOCALIZER


@pytest.mark.parametrize(
    "image_type",
    [["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"], ["DERIVED", "SECONDARY"], "DERIVED"],
)
def test_a_derived_or_secondary_image_type_alone_passes(image_type):
    assert verdict(ImageType=image_type) is None


def test_an_image_made_by_ai_is_refused():
    assert verdict(ImageType=["DERIVED", "SECONDARY", "AI"]) is Code.AI_RESULT
    assert verdict(DerivationCodeSequence=[coded("123110", "DCM")]) is Code.AI_RESULT
    assert verdict(AlgorithmName="Fracture finder") is Code.AI_RESULT


def test_equipment_that_is_ai_makes_an_image_its_result():
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [coded("123110", "DCM")]
    assert verdict(ContributingEquipmentSequence=[equipment]) is Code.AI_RESULT


def test_an_original_image_that_an_algorithm_denoised_passes():
    original = {"ImageType": ["ORIGINAL", "PRIMARY"], "AlgorithmName": "Noise reduction"}
    assert verdict(**original) is None


@pytest.mark.parametrize("name", ["hipedge", "HIPEDGE"])
def test_what_hipedge_has_made_or_contributed_to_is_its_own_result(name):
    """Also a radiograph by its class, as a gateway that converts pictures may write it."""
    assert verdict(Manufacturer=name) is Code.OWN_RESULT
    assert verdict(SOPClassUID=SECONDARY_CAPTURE, Manufacturer=name) is Code.OWN_RESULT
    equipment = Dataset()
    equipment.Manufacturer = name
    converted = {"Manufacturer": "GATEWAY", "ContributingEquipmentSequence": [equipment]}
    assert verdict(**converted) is Code.OWN_RESULT
    equipment.Manufacturer = "hipedge PACS"
    assert verdict(**converted) is None


def test_other_derivations_pass():
    assert verdict(DerivationCodeSequence=[coded("113040", "DCM")]) is None


def test_each_refusal_is_of_the_gates_stage():
    for code in (verdict(Modality="CT"), verdict(NumberOfFrames=9), verdict(ViewPosition="LL")):
        assert CODES[code].stage is Stage.GATE


def test_a_refused_film_is_never_decoded(read_bytes):
    data = film(PIXELS, JPEG_2000_LOSSLESS, fragments=[b"no codestream!"], BodyPartExamined="CHEST")
    assert encapsulate([b"no codestream!"]) in data
    with pytest.raises(Refused) as info:
        read_bytes(data)
    assert info.value.code is Code.WRONG_BODY_PART


def test_the_chest_is_refused_and_the_tibia_is_not(shared_data, read_bytes):
    with pytest.raises(Refused) as info:
        read_bytes((shared_data / "wg04" / "RG1_J2KI_chest.dcm").read_bytes())
    assert info.value.code is Code.WRONG_BODY_PART
    assert read_bytes((shared_data / "wg04" / "RG3_JPLL_tibia.dcm").read_bytes())


def test_the_derived_secondary_film_passes(shared_data, read_bytes):
    assert read_bytes((shared_data / "wg04" / "RG2_RLE.dcm").read_bytes())
