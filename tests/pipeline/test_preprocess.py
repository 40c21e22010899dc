"""What a worker process returns for one file."""

import hashlib
from dataclasses import replace
from datetime import date

import pytest

from hipedge.dicom.read import Payload
from hipedge.errors import Code, InstallationError, Refused
from hipedge.locate.given import read_hips_csv
from hipedge.pipeline import preprocess
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.pipeline.workers import Workers
from hipedge.types import CropGeometry, Known, Mark, Refusal
from tests.watch.clinic import ROOT_UID, SIZE_PX, dicom

GEOMETRY = CropGeometry(64, 160.0, 10.0, 20.0)
STAGES = ["load", "hash", "read", "locate", "prepare"]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom(1))
    return path


@pytest.fixture
def preprocessor(tmp_path):
    hips = tmp_path / "hips.csv"
    hips.write_text(
        f"sop_instance_uid,side,x0,y0,x1,y1\n{ROOT_UID}.1,right,0,0,{SIZE_PX},{SIZE_PX}\n"
    )
    return Preprocessor(GEOMETRY, read_hips_csv(hips), frozenset())


def test_a_film_comes_back_with_its_hips_and_the_time_of_each_stage(preprocessor, path):
    prepared = preprocessor(path)
    assert isinstance(prepared, Prepared)
    ((_, (sample,)),) = prepared.hips
    assert sample.pixels.shape == (1, 64, 64)
    assert list(prepared.timings_ms) == STAGES
    assert all(0 < ms < 60_000 for ms in prepared.timings_ms.values())
    assert 0 < prepared.core_s < 60


def test_a_worker_measures_times_shorter_than_the_kernels_ticks(preprocessor, path):
    with Workers(preprocessor, 1) as workers:
        batches = workers.run([path] * 30, lambda _: None)
        times_s = [prepared.core_s for batch in batches for _, prepared in batch]
    assert len(times_s) == 30
    assert min(times_s) > 0


def test_a_content_that_is_recorded_already_is_not_read(preprocessor, path, monkeypatch):
    content_hash = preprocessor(path).film.content_hash
    monkeypatch.setattr(preprocess, "read", None)
    known = Preprocessor(GEOMETRY, preprocessor.given_hips, frozenset({content_hash}))
    assert known(path) == Known(path, content_hash)


def test_sha256_is_computed_only_where_it_is_asked_for(preprocessor, path, tmp_path, monkeypatch):
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    by_hash = tmp_path / "by_hash.csv"
    by_hash.write_text(f"sha256,side,x0,y0,x1,y1\n{sha256},right,0,0,{SIZE_PX},{SIZE_PX}\n")
    given = Preprocessor(GEOMETRY, read_hips_csv(by_hash), frozenset(), with_sha256=True)(path)
    assert len(given.hips) == 1
    assert given.film.sha256 == sha256
    path.write_bytes(data[:-100])
    assert replace(preprocessor, with_sha256=True)(path).sha256 is not None
    path.write_bytes(data)
    monkeypatch.setattr(Payload, "sha256", None)
    assert preprocessor(path).film.sha256 is None


def test_a_content_that_an_older_hipedge_recorded_is_not_read(preprocessor, path, monkeypatch):
    film = replace(preprocessor, with_sha256=True)(path).film
    monkeypatch.setattr(preprocess, "read", None)
    known = replace(preprocessor, known=frozenset({film.sha256}), with_sha256=True)
    assert known(path) == Known(path, film.content_hash, film.sha256)


def test_only_with_a_sites_key_does_a_film_say_whose_it_is(preprocessor, path):
    who = {"PatientID": "4711", "PatientBirthDate": "19500131", "StudyDate": "20240305"}
    path.write_bytes(dicom(1, **who))
    assert preprocessor(path).film.patient is None
    linked = replace(preprocessor, patient_key=b"k" * 32)(path).film
    assert len(linked.patient) == 32
    assert linked.studied_on == date(2024, 3, 5)


def raises(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (Refused(Code.NO_HIP_FOUND, "empty"), Code.NO_HIP_FOUND, "empty"),
        (MemoryError(), Code.TOO_LARGE, "needs more memory than it may have"),
        (ValueError("Mrs Jones"), Code.UNEXPECTED_ERROR, "ValueError in test_preprocess.py:"),
    ],
    ids=["refused", "memory", "bug"],
)
def test_a_fault_costs_the_film_alone_and_keeps_what_is_known_of_it(
    preprocessor, path, monkeypatch, error, code, detail
):
    monkeypatch.setattr(preprocess, "locate", raises(error))
    marked = dicom(1, PatientAge="012Y")
    path.write_bytes(marked)
    refusal = preprocessor(path)
    assert isinstance(refusal, Refusal)
    assert (refusal.source, refusal.code) == (path, code)
    assert refusal.detail.startswith(detail)
    assert "Jones" not in refusal.detail
    assert refusal.film is not None
    assert refusal.content_hash == refusal.film.content_hash
    assert refusal.marks == refusal.film.marks
    assert list(refusal.timings_ms) == STAGES[:4]


def test_a_broken_installation_is_no_fault_of_the_film(preprocessor, path, monkeypatch):
    monkeypatch.setattr(preprocess, "read", raises(InstallationError("no decoder")))
    with pytest.raises(InstallationError, match="no decoder"):
        preprocessor(path)


def test_a_file_that_is_gone_is_a_refusal_without_a_film(preprocessor, tmp_path):
    refusal = preprocessor(tmp_path / "gone.dcm")
    assert isinstance(refusal, Refusal)
    assert (refusal.film, refusal.content_hash, refusal.marks) == (None, None, frozenset())


def test_the_marks_of_the_film_and_of_its_hips_are_both_kept(preprocessor, path, monkeypatch):
    found = preprocess.locate

    def locate(*arguments, **options):
        located = found(*arguments, **options)
        return type(located)(located.hips, located.marks | {Mark.SIDE_UNCLEAR})

    monkeypatch.setattr(preprocess, "locate", locate)
    prepared = preprocessor(path)
    assert prepared.marks == prepared.film.marks | {Mark.SIDE_UNCLEAR}
