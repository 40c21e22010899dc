"""`read` gives a radiograph or a refusal with a code, and says nothing out of the file."""

import logging
import os
import pickle
import time
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from blake3 import blake3
from dicom_films import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RLE,
    after_file_meta,
    deflate_bomb,
    film,
    header,
    write,
)
from pydicom.data import get_testdata_file

from hipedge.dicom import dataset
from hipedge.dicom.read import load, read
from hipedge.errors import Code, Refused

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)


def outcome(path):
    """Return "read" or the code of the refusal; any other exception fails the test."""
    try:
        radiograph = read(path)
    except Refused as refused:
        return refused.code
    assert radiograph.pixels.dtype == np.uint16
    assert radiograph.pixels.shape == radiograph.film.shape
    return "read"


@pytest.fixture
def outcome_of(tmp_path):
    def call(data, name="film.dcm"):
        path = tmp_path / name
        path.write_bytes(data)
        return outcome(path)

    return call


def test_a_film_is_read_from_disk_with_the_hash_of_its_bytes(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(film(PIXELS))
    known = read(path).film
    assert known.source == path
    assert known.content_hash == f"blake3:{blake3(path.read_bytes()).hexdigest()}"


def test_a_payload_is_not_read_again(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(film(PIXELS))
    payload = load(path)
    path.unlink()
    assert read(path, payload).film.content_hash == payload.content_hash


@pytest.mark.parametrize("name", ["film.dcm", "film.png", "film"])
def test_content_and_not_the_name_decides(name, outcome_of):
    assert outcome_of(film(PIXELS), name) == "read"


@pytest.mark.parametrize(
    "data",
    [
        b"Dear colleague, thank you for referring this patient",
        b'{"Modality": "DX"}',
        bytes(range(256)) * 8,
        b"\0" * 1000,
        b"\x08",
        "naïve text".encode("utf-16"),
    ],
)
def test_what_is_no_image_is_refused(data, outcome_of):
    assert outcome_of(data) is Code.NOT_AN_IMAGE


def test_an_empty_file_is_refused(outcome_of):
    assert outcome_of(b"") is Code.EMPTY_FILE


def test_what_cannot_be_opened_is_refused(tmp_path):
    assert outcome(tmp_path / "missing.dcm") is Code.UNREADABLE
    assert outcome(tmp_path) is Code.UNREADABLE


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_refused(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(film(PIXELS))
    path.chmod(0)
    assert outcome(path) is Code.UNREADABLE


@pytest.mark.timeout(10)
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "film.dcm")
    assert outcome(tmp_path / "film.dcm") is Code.UNREADABLE


@pytest.mark.parametrize("end", [133, 160, 300])
def test_a_header_cut_short_is_malformed(end, outcome_of):
    assert outcome_of(film(PIXELS)[:end]) is Code.MALFORMED_HEADER


def test_a_film_without_pixels_is_refused(outcome_of):
    assert outcome_of(write(header(PIXELS))) is Code.NO_PIXELS
    assert outcome_of(film(PIXELS, pixel_data=b"")) is Code.NO_PIXELS


@pytest.mark.parametrize(
    "keyword", ["Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel"]
)
def test_a_film_without_an_attribute_of_its_pixels_is_malformed(keyword, outcome_of):
    assert outcome_of(film(PIXELS, **{keyword: None})) is Code.MALFORMED_HEADER


@pytest.mark.parametrize(
    "elements",
    [
        {"Rows": 0},
        {"Columns": 0},
        {"BitsStored": 0},
        {"BitsStored": 17},
        {"HighBit": 16},
        {"HighBit": 5},
        {"BitsAllocated": 12},
        {"BitsAllocated": 32},
        {"BitsAllocated": 1},
        {"SamplesPerPixel": 3},
        {"SamplesPerPixel": 2},
        {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": "HSV"},
        {"PhotometricInterpretation": None},
    ],
)
def test_pixel_attributes_that_contradict_each_other_are_refused(elements, outcome_of):
    assert outcome_of(film(PIXELS, **elements)) is Code.UNSUPPORTED_PIXELS


def test_a_film_larger_than_any_is_refused_by_its_header(outcome_of):
    assert outcome_of(film(PIXELS, Rows=65535, Columns=65535)) is Code.TOO_LARGE


def test_a_deflated_bomb_is_not_inflated(outcome_of, monkeypatch):
    monkeypatch.setattr(dataset, "MAX_INFLATED_BYTES", 2**20)
    assert outcome_of(deflate_bomb(64 * 2**20)) is Code.TOO_LARGE


@pytest.mark.timeout(10)
def test_elements_without_end_are_refused(outcome_of):
    assert outcome_of(deflate_bomb(64 * 2**20)) is Code.MALFORMED_HEADER


def test_a_deflated_film_cut_short_is_refused(outcome_of):
    data = film(np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16), DEFLATED)
    assert outcome_of(data[:-2000]) is Code.TRUNCATED


def test_a_refusal_says_nothing_out_of_the_file(tmp_path):
    data = film(
        PIXELS,
        PatientName="SECRET^NAME",
        PatientID="SECRET",
        PhotometricInterpretation="SECRET",
        Manufacturer="SECRET",
    )
    (tmp_path / "film.dcm").write_bytes(data)
    with pytest.raises(Refused) as info:
        read(tmp_path / "film.dcm")
    assert "SECRET" not in str(info.value)


def test_reading_leaves_the_warning_filters_and_pydicom_as_they_were(outcome_of):
    filters = list(warnings.filters)
    mode = pydicom.config.settings.reading_validation_mode
    outcome_of(film(PIXELS, Manufacturer="x" * 100, StudyInstanceUID="1.2.x"))
    outcome_of(film(PIXELS)[:300])
    assert warnings.filters == filters
    assert pydicom.config.settings.reading_validation_mode == mode
    assert not logging.getLogger("pydicom").disabled


def test_pydicoms_log_of_values_stays_silent(outcome_of, caplog):
    data = film(PIXELS)
    start = after_file_meta(data)
    with caplog.at_level(logging.DEBUG, "pydicom"):
        outcome_of(data.replace(EXPLICIT.encode() + b"\0", IMPLICIT.encode() + b"\0\0\0"))
        outcome_of(data[: start + 40] + b"\xff" * 30)
    assert not caplog.records


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, RLE, JPEG_LS, JPEG_LOSSLESS_SV1])
def test_a_film_with_damaged_bytes_is_read_or_refused(syntax, seed, outcome_of):
    data = film(
        np.random.default_rng(seed).integers(0, 4096, (24, 24)).astype(np.uint16),
        syntax,
        bits=12,
        WindowCenter=2048,
        WindowWidth=4096,
        PixelSpacing=[0.15, 0.15],
        PatientAge="065Y",
        PatientOrientation=["L", "F"],
        NumberOfFrames=1,
    )
    rng = np.random.default_rng(seed)
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(128, len(data), rng.integers(1, 6)):
            damaged[position] = rng.integers(256)
        if rng.random() < 0.2:
            del damaged[rng.integers(132, len(data)) :]
        assert outcome_of(bytes(damaged)) is not None


@pytest.mark.parametrize("depth", [50, 500, 3000])
@pytest.mark.parametrize("keyword", ["AnatomicRegionSequence", "ViewCodeSequence"])
def test_sequences_nested_without_end_are_refused_or_skipped(depth, keyword, outcome_of):
    tag = pydicom.tag.Tag(keyword)
    opening = (
        tag.group.to_bytes(2, "little")
        + tag.element.to_bytes(2, "little")
        + b"SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    )
    data = film(PIXELS)
    start = data.index(b"\x08\x00\x60\x00CS")
    nested = data[:start] + opening * depth + data[start:]
    assert outcome_of(nested) in ("read", Code.MALFORMED_HEADER)


def test_every_malformed_file_is_read_or_refused_in_time(shared_data):
    paths = [p for p in sorted((shared_data / "malformed").rglob("*")) if p.suffix == ".dcm"]
    assert len(paths) > 300
    for path in paths:
        start = time.perf_counter()
        code = outcome(path)
        assert time.perf_counter() - start < 5
        # The corpus is made from a CT slice: none of it is a radiograph.
        assert code in (Code.WRONG_MODALITY, Code.MALFORMED_HEADER, Code.NOT_AN_IMAGE), path.name


PYDICOM_FILES = {
    "MR_small.dcm": Code.WRONG_MODALITY,
    "CT_small.dcm": Code.WRONG_MODALITY,
    "rtplan.dcm": Code.WRONG_OBJECT,
    "reportsi.dcm": Code.WRONG_OBJECT,
    "DICOMDIR": Code.WRONG_OBJECT,
    "SC_rgb_rle.dcm": Code.SECONDARY_CAPTURE,
    "examples_ybr_color.dcm": Code.WRONG_MODALITY,
    "ExplVR_BigEndNoMeta.dcm": Code.WRONG_OBJECT,
    "ExplVR_LitEndNoMeta.dcm": Code.WRONG_OBJECT,
    "README.txt": Code.NOT_AN_IMAGE,
    "image_dfl.dcm": Code.SECONDARY_CAPTURE,
    "RG1_UNCR.dcm": Code.WRONG_BODY_PART,
    "RG3_UNCI.dcm": "read",
    "RG3_J2KR.dcm": "read",
    "RG3_UNCR.dcm": "read",
}


@pytest.mark.parametrize(("name", "expected"), PYDICOM_FILES.items())
def test_pydicoms_own_files_are_read_or_refused(name, expected):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"neither pydicom nor pydicom-data has {name}")
    assert outcome(Path(path)) == expected


def test_a_refusal_and_a_film_cross_processes(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(film(PIXELS, JPEG_2000_LOSSLESS))
    known = read(path).film
    assert pickle.loads(pickle.dumps(known)) == known
