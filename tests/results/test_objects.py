"""The objects are valid by other people's tools, and say what the case says."""

import shutil
import subprocess

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from hipedge.config import Settings
from hipedge.dicom.read import load, read
from hipedge.errors import Code, ConfigError, InputError, Refused
from hipedge.results.build import Builder, file_bytes
from hipedge.results.codes import load_codes
from hipedge.results.kinds import Kind
from hipedge.results.source import NotReportable, read_source, tolerant
from hipedge.store.store import Store
from hipedge.types import Box, Category, Mark, Side
from tests.results.recorded import PATIENT, STUDY, record, record_refusal, scored

URGENT, ROUTINE, NORMAL = (
    Category.FEMORAL_NECK_FRACTURE,
    Category.OSTEOARTHRITIS,
    Category.NORMAL,
)
BUILDER = Builder.of(Settings(results=("sc", "sr", "gsps", "kos"), results_heat_maps=True))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cases.db") as opened:
        yield opened


def build(case, kind, sop_class=None, builder=BUILDER):
    with tolerant():
        source = read_source([case.path], case.content_hash)
        return builder.build(kind, sop_class or kind.classes[0], case, source)


def build_all(case):
    return {
        (kind, sop_class): build(case, kind, sop_class)
        for kind in BUILDER.kinds_for(case)
        for sop_class in kind.classes
    }


def dciodvfy_errors(path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy (dicom3tools)")
    run = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
    return [line for line in run.stderr.splitlines() if line.startswith("Error")]


def pixelmed_errors(path):
    if shutil.which("DicomSRValidator") is None:
        pytest.skip("no DicomSRValidator (pixelmed-apps)")
    # Its style sheets have more expressions than Java allows to those from anywhere.
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]
    classpath = ["-cp", "/usr/share/java/pixelmed.jar"]
    command = ["java", *limits, *classpath, "com.pixelmed.validate.DicomSRValidator", path]
    run = subprocess.run(command, capture_output=True, text=True)
    assert "IOD validation complete" in run.stderr + run.stdout
    return [line for line in (run.stderr + run.stdout).splitlines() if "Error" in line]


def save(result, folder):
    path = folder / f"{result.SOPClassUID}.dcm"
    path.write_bytes(file_bytes(result))
    return path


CASES = {
    "both hips": ([scored(URGENT), scored(NORMAL, Side.LEFT)], (), {}),
    "left, with marks": ([scored(ROUTINE, Side.LEFT)], [Mark.HIPS_MAY_BE_MISSING], {}),
    "side unknown": ([scored(URGENT, Side.UNKNOWN)], [Mark.SIDE_UNCLEAR, Mark.TURNED_90], {}),
    "nothing copied": ([scored(URGENT)], (), dict.fromkeys(PATIENT)),
    "inverted": (
        [scored(Category.TOTAL_HIP_ARTHROPLASTY), scored(URGENT, Side.LEFT)],
        (),
        {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 1000, "WindowWidth": 2000},
    ),
    "compressed with loss": (
        [scored(URGENT)],
        (),
        {"LossyImageCompression": "01", "LossyImageCompressionRatio": "10"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_object_of_each_case_is_valid(store, tmp_path, name):
    hips, marks, elements = CASES[name]
    present = {key: value for key, value in elements.items() if value is not None}
    left_out = {key: "" for key, value in elements.items() if value is None}
    case = record(store, tmp_path, *hips, marks=marks, **left_out | present)
    for result in build_all(case).values():
        assert dciodvfy_errors(save(result, tmp_path)) == []


@pytest.mark.parametrize("code", [Code.NO_HIP_FOUND, Code.UNSUPPORTED_TRANSFER_SYNTAX])
def test_a_film_that_was_not_read_has_a_valid_report_that_says_why(store, tmp_path, code):
    case = record_refusal(store, tmp_path, code)
    results = build_all(case)
    assert {kind for kind, _ in results} == {Kind.STRUCTURED_REPORT}
    for result in results.values():
        path = save(result, tmp_path)
        assert dciodvfy_errors(path) == []
        dump = subprocess.run(["dsrdump", path], capture_output=True, check=True)
        text = dump.stdout.decode("latin-1")
        assert f"({code.value},99HIPEDGE," in text
        assert '(111245,DCM,"No algorithms succeeded; without findings")' in text


def test_highdicom_reads_the_report_back(store, tmp_path):
    case = record(store, tmp_path, scored(URGENT), scored(ROUTINE, Side.LEFT))
    report = highdicom.sr.srread(save(build(case, Kind.STRUCTURED_REPORT), tmp_path))
    assert isinstance(report, highdicom.sr.Comprehensive3DSR)
    film, right, left = report.content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in (film, right, left)] == [
        "film",
        "right hip",
        "left hip",
    ]
    assert right.finding_type.value == "5913000"
    assert right.finding_sites[0].value.value == "24136001"
    assert right.finding_sites[0].laterality.value == "24028007"
    assert left.finding_sites[0].laterality.value == "7771000"
    np.testing.assert_array_equal(right.roi.value[[0, 2]], [[10, 20], [110, 120]])
    certainty = next(m for m in right.get_measurements() if m.name.value == "111012")
    found = case.findings[0].probabilities[list(Category).index(URGENT)]
    assert certainty.value == pytest.approx(100 * found, abs=0.05)
    urgencies = [
        evaluation.value.value
        for group in (right, left)
        for evaluation in group.get_qualitative_evaluations()
        if evaluation.name.value == "URGENCY"
    ]
    assert urgencies == ["RID49481", "RID49482"]


def test_dsrdump_reads_each_document(store, tmp_path):
    case = record(store, tmp_path)
    for (kind, _), result in build_all(case).items():
        if kind in (Kind.STRUCTURED_REPORT, Kind.KEY_OBJECTS):
            subprocess.run(["dsrdump", save(result, tmp_path)], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.STRUCTURED_REPORT, Kind.KEY_OBJECTS])
def test_pixelmed_finds_no_error_in_a_document(store, tmp_path, kind):
    case = record(store, tmp_path, scored(URGENT), scored(NORMAL, Side.LEFT))
    assert pixelmed_errors(save(build(case, kind), tmp_path)) == []


@pytest.mark.slow
def test_pixelmed_finds_no_error_in_the_report_of_a_film_that_was_not_read(store, tmp_path):
    case = record_refusal(store, tmp_path, Code.NO_HIP_FOUND)
    assert pixelmed_errors(save(build(case, Kind.STRUCTURED_REPORT), tmp_path)) == []


@pytest.mark.parametrize("kind", Kind)
def test_patient_and_study_are_those_of_the_film(store, tmp_path, kind):
    case = record(store, tmp_path)
    path = save(build(case, kind), tmp_path)
    written, film = dcmread(path), dcmread(case.path)
    assert written.StudyInstanceUID == STUDY
    for keyword in PATIENT.keys() - {"SeriesInstanceUID"}:
        assert written[keyword].value == film[keyword].value
    assert written.SeriesInstanceUID != film.SeriesInstanceUID
    assert str(written.PatientName) == "Hüft^Hanna"


def test_text_beyond_ascii_in_a_film_without_a_character_set_is_kept_as_utf_8(store, tmp_path):
    case = record(store, tmp_path, SpecificCharacterSet="ISO_IR 100")
    case.path.write_bytes(case.path.read_bytes().replace(b"ISO_IR 100", b"          "))
    with tolerant():
        source = read_source([case.path], load(case.path).content_hash)
        result = BUILDER.build(Kind.KEY_OBJECTS, Kind.KEY_OBJECTS.classes[0], case, source)
    written = dcmread(save(result, tmp_path))
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert str(written.PatientName) == "Hüft^Hanna"


@pytest.mark.parametrize("kind", Kind)
def test_a_result_that_is_built_again_is_the_same_in_every_byte(store, tmp_path, kind):
    case = record(store, tmp_path)
    assert file_bytes(build(case, kind)) == file_bytes(build(case, kind))


def test_another_finding_is_another_instance_of_the_same_series(store, tmp_path):
    first = build(record(store, tmp_path), Kind.STRUCTURED_REPORT)
    second = build(record(store, tmp_path, scored(NORMAL), number=2), Kind.STRUCTURED_REPORT)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    third = build(record(store, tmp_path, number=3), Kind.SECONDARY_CAPTURE)
    assert third.SeriesInstanceUID != first.SeriesInstanceUID


@pytest.mark.parametrize(
    ("hips", "elements", "laterality"),
    [
        ([scored(URGENT)], {}, "R"),
        ([scored(URGENT, Side.LEFT)], {"Laterality": "R"}, "L"),
        ([scored(URGENT, Side.UNKNOWN)], {"ImageLaterality": "L"}, "L"),
        ([scored(URGENT, Side.UNKNOWN)], {}, ""),
        ([scored(URGENT), scored(NORMAL, Side.LEFT)], {"Laterality": "R"}, None),
    ],
)
def test_the_laterality_is_that_of_the_hips(store, tmp_path, hips, elements, laterality):
    case = record(store, tmp_path, *hips, **elements)
    for kind in (Kind.SECONDARY_CAPTURE, Kind.PRESENTATION_STATE):
        assert build(case, kind).get("Laterality") == laterality


@pytest.mark.parametrize(
    ("mark", "stored"),
    [
        (None, Box(10, 20, 60, 120)),
        (Mark.TURNED_90, Box(120, 10, 220, 60)),
        (Mark.TURNED_180, Box(140, 120, 190, 220)),
        (Mark.TURNED_270, Box(20, 140, 120, 190)),
    ],
)
def test_the_region_of_a_turned_film_lies_where_its_pixels_are_stored(mark, stored):
    """Against numpy: a film is turned by rot90, and the box has to frame the same pixels."""
    from hipedge.locate.upright import turns_of
    from hipedge.results.geometry import stored_box

    upright = np.zeros((240, 200))
    upright[20:120, 10:60] = 1
    marks = [mark] if mark else []
    film = np.rot90(upright, -turns_of(marks))
    assert stored_box(Box(10, 20, 60, 120), upright.shape, marks) == stored
    inside = film[int(stored.y0) : int(stored.y1), int(stored.x0) : int(stored.x1)]
    assert inside.all()
    assert inside.size == film.sum()


def test_a_box_beyond_the_film_is_cut_to_it(store, tmp_path):
    case = record(store, tmp_path, scored(URGENT, box=Box(-50.0, 20.0, 500.0, 900.0)))
    report = highdicom.sr.srread(save(build(case, Kind.STRUCTURED_REPORT), tmp_path))
    _, hip = report.content.get_planar_roi_measurement_groups()
    assert (hip.roi.value.min(axis=0).tolist(), hip.roi.value.max(axis=0).tolist()) == (
        [0, 20],
        [200, 240],
    )


def test_only_an_urgent_film_is_a_key_object(store, tmp_path):
    assert Kind.KEY_OBJECTS in BUILDER.kinds_for(record(store, tmp_path))
    routine = record(store, tmp_path, scored(ROUTINE), number=2)
    assert Kind.KEY_OBJECTS not in BUILDER.kinds_for(routine)


def test_the_overlay_of_an_inverted_film_says_so(store, tmp_path):
    plain = record(store, tmp_path)
    inverted = record(store, tmp_path, number=2, PhotometricInterpretation="MONOCHROME1")
    shapes = [build(c, Kind.PRESENTATION_STATE).PresentationLUTShape for c in (plain, inverted)]
    assert shapes == ["IDENTITY", "INVERSE"]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1000, "WindowWidth": 1500}])
def test_dcmtk_shows_a_film_under_its_overlay_as_it_shows_the_film(
    store, tmp_path, photometric, window
):
    if shutil.which("dcmp2pgm") is None:
        pytest.skip("no dcmp2pgm (dcmtk)")
    case = record(store, tmp_path, PhotometricInterpretation=photometric, **window)
    overlay = save(build(case, Kind.PRESENTATION_STATE), tmp_path)
    check = subprocess.run(["dcmpschk", overlay], capture_output=True, text=True)
    assert "Test passed" in check.stdout + check.stderr
    shown = []
    for state in ([], ["--pstate", overlay]):
        picture = tmp_path / "shown.pgm"
        subprocess.run(["dcmp2pgm", *state, case.path, picture], check=True, capture_output=True)
        shown.append(picture.read_bytes())
    assert shown[0] == shown[1]


def test_the_picture_differs_with_heat_maps_and_says_that_it_is_burnt_in(store, tmp_path):
    case = record(store, tmp_path)
    with_maps = build(case, Kind.SECONDARY_CAPTURE)
    without = build(
        case, Kind.SECONDARY_CAPTURE, builder=Builder.of(Settings(results_heat_maps=False))
    )
    assert not np.array_equal(with_maps.pixel_array, without.pixel_array)
    assert with_maps.BurnedInAnnotation == "YES"
    (film,) = with_maps.SourceImageSequence
    assert film.ReferencedSOPInstanceUID == case.sop_instance_uid


HOSTILE = {
    "a private class": {"SOPClassUID": "1.2.3"},
    "an unknown sex": {"PatientSex": "weiblich"},
    "dates that are none": {"PatientBirthDate": "unknown", "StudyDate": "x", "StudyTime": "noon"},
    "long names": {"PatientID": "x" * 200, "PatientName": "y" * 300},
    "backslashes": {"PatientID": "a\\b", "PatientName": "a\\b"},
    "an orientation that is none": {"PatientOrientation": ["X", "Q"]},
    "a time zone that is none": {"TimezoneOffsetFromUTC": "+9999"},
    "several windows": {"WindowCenter": [1, 2], "WindowWidth": [3, 4]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_the_header_of_a_film_says_its_results_are_built(store, tmp_path, name):
    case = record(store, tmp_path, **HOSTILE[name])
    results = build_all(case).values()
    with tolerant():
        film = dcmread(case.path)
        written = [dcmread(save(result, tmp_path)) for result in results]
        assert {str(result.PatientID) for result in written} == {str(film.PatientID)}
    for result in results:
        assert film.SOPClassUID.encode() in file_bytes(result)


def test_a_film_that_was_changed_or_removed_has_no_result(store, tmp_path):
    case = record(store, tmp_path)
    case.path.write_bytes(case.path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="no longer"):
        build(case, Kind.SECONDARY_CAPTURE)
    case.path.unlink()
    with pytest.raises(InputError, match="no longer"):
        build(case, Kind.STRUCTURED_REPORT)


def test_a_film_without_a_study_has_no_result(store, tmp_path):
    case = record(store, tmp_path, StudyInstanceUID="")
    with pytest.raises(NotReportable):
        build(case, Kind.STRUCTURED_REPORT)


@pytest.mark.promise(22)
def test_no_result_is_ever_screened(store, tmp_path):
    case = record(store, tmp_path)
    for result in build_all(case).values():
        with pytest.raises(Refused) as info:
            read(save(result, tmp_path))
        assert info.value.code is Code.OWN_RESULT


@pytest.mark.promise(22)
def test_the_film_is_left_as_it_was(store, tmp_path):
    case = record(store, tmp_path)
    before, status = case.path.read_bytes(), case.path.stat()
    build_all(case)
    assert case.path.read_bytes() == before
    assert case.path.stat().st_mtime_ns == status.st_mtime_ns


def test_a_site_replaces_single_codes(store, tmp_path):
    own = tmp_path / "codes.toml"
    own.write_text(
        '[category.internal_fixation]\nvalue = "1"\nscheme = "99CLINIC"\nmeaning = "Screws"\n'
    )
    codes = load_codes(own)
    assert codes("category", "internal_fixation").scheme == "99CLINIC"
    assert codes("category", "osteoarthritis") == load_codes()("category", "osteoarthritis")
    builder = Builder.of(Settings(results_codes=own))
    case = record(store, tmp_path, scored(Category.INTERNAL_FIXATION))
    report = build(case, Kind.STRUCTURED_REPORT, builder=builder)
    assert b"99CLINIC" in file_bytes(report)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[category.other]\nvalue='1'\nscheme='S'\nmeaning='M'", "no code category.other"),
        ("[other.normal]\nvalue='1'\nscheme='S'\nmeaning='M'", "no code other.normal"),
        ("[category.normal]\nvalue='1'\nscheme='S'", "meaning"),
        ("[category.normal]\nvalue=''\nscheme='S'\nmeaning='M'", "1 to 64"),
        ("[category.normal]\nvalue='1'\nscheme='S'\nmeaning='" + "M" * 65 + "'", "1 to 64"),
        ("[category.normal]\nvalue='1'\nscheme='" + "S" * 17 + "'\nmeaning='M'", "1 to 16"),
        ("[category", "no table of codes"),
    ],
)
def test_a_wrong_table_of_codes_is_an_error_that_names_it(tmp_path, text, complaint):
    own = tmp_path / "codes.toml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as info:
        load_codes(own)
    assert "codes.toml" in str(info.value)
