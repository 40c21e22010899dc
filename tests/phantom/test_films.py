"""Films as files: clean, lossless, the same for the same seed, and seen alike by the line."""

import csv
import shutil
import subprocess
from dataclasses import replace

import imagecodecs
import numpy as np
import pydicom
import pytest

from hipedge.dicom.read import read
from hipedge.imaging.geometry import is_mirrored
from hipedge.imaging.prepare import prepare
from hipedge.phantom import crop, crop_of, develop, generate, write_film
from hipedge.phantom.film import draw_film
from hipedge.phantom.generate import COLUMNS, file_name
from hipedge.phantom.hospitals import (
    EXTERNAL,
    HOSPITALS,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
)
from hipedge.phantom.write import digitised
from hipedge.types import Category, CropGeometry, Hip, View
from tests.phantom.conftest import bilateral_seed, film_of

GEOMETRY = CropGeometry(size_px=128, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
SYNTAXES = [
    (name, syntax) for name, place in HOSPITALS.items() for syntax in place.transfer_syntaxes
]
DECODERS = {
    JPEG_LOSSLESS_SV1: imagecodecs.ljpeg_decode,
    JPEG_LS_LOSSLESS: imagecodecs.jpegls_decode,
    JPEG_2000_LOSSLESS: imagecodecs.jpeg2k_decode,
}


@pytest.fixture(scope="module", params=SYNTAXES, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def written(request, tmp_path_factory, coarse):
    """A film, its picture and its file, for each hospital and transfer syntax."""
    name, syntax = request.param
    film = replace(film_of(bilateral_seed(), hospital=name), transfer_syntax_uid=syntax)
    picture = develop(film)
    path = tmp_path_factory.mktemp("film") / "film.dcm"
    write_film(path, film, picture)
    return film, picture, path


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) not installed")
def test_a_film_is_clean_under_dciodvfy(written):
    _, _, path = written
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
    assert [line for line in said.splitlines() if line.startswith(("Error", "Warning"))] == []


def test_every_pixel_survives_the_file(written):
    film, picture, path = written
    expected = digitised(picture, film.hospital.bits_stored, film.hospital.monochrome1)
    dataset = pydicom.dcmread(path)
    if film.transfer_syntax_uid in DECODERS:
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        stored = DECODERS[film.transfer_syntax_uid](frame)
    else:
        stored = dataset.pixel_array
    np.testing.assert_array_equal(stored, expected)


def test_the_line_reads_a_film_bone_bright_and_at_the_scale_of_the_hips(written):
    film, picture, path = written
    radiograph = read(path)
    assert radiograph.pixels.shape == film.view.shape
    rows = np.array(radiograph.pixels, float).ravel() / 65535
    assert np.corrcoef(rows, picture.ravel())[0, 1] > 0.98
    assert radiograph.film.spacing_mm == pytest.approx(film.hip_spacing_mm, rel=1e-3)
    assert radiograph.film.view is View.FRONTAL


def test_no_patient_is_named(written):
    _, _, path = written
    dataset = pydicom.dcmread(path)
    assert str(dataset.PatientName).startswith("PHANTOM^")
    assert dataset.PatientID.startswith("PHANTOM-")
    assert dataset.PatientBirthDate == ""


@pytest.mark.parametrize("name", HOSPITALS)
def test_a_crop_is_what_the_line_sees_of_the_written_film(name, tmp_path):
    film = film_of(bilateral_seed(), hospital=name)
    write_film(tmp_path / "film.dcm", film, develop(film))
    radiograph = read(tmp_path / "film.dcm")
    for side in film.sides:
        box = film.box(side, GEOMETRY)
        hip = Hip(
            side, film.centre_px(side), box, 1.0, is_mirrored(side, radiograph.film.orientation)
        )
        (sample,) = prepare(radiograph, hip, GEOMETRY.size_px)
        drawn = crop_of(film, side, GEOMETRY)
        assert drawn.shape == sample.pixels.shape
        assert drawn.dtype == np.uint8
        # They differ by their noise, which is not the same, and by the file's rounding.
        apart = np.abs(drawn.astype(int) - sample.pixels.astype(int))
        assert np.median(apart) <= 2
        assert np.percentile(apart, 99) <= 16


def test_the_same_seed_gives_the_same_crop():
    first, truth = crop(7, GEOMETRY)
    again, same = crop(7, GEOMETRY)
    np.testing.assert_array_equal(first, again)
    assert truth == same
    assert first.shape == (1, 128, 128)


def test_a_generator_gives_one_crop_after_another():
    rng = np.random.default_rng(7)
    first, _ = crop(rng, GEOMETRY)
    second, _ = crop(rng, GEOMETRY)
    assert (first != second).any()


@pytest.mark.parametrize("category", Category)
def test_a_crop_has_what_it_was_asked_for(category):
    pixels, truth = crop(3, GEOMETRY, category, "south")
    assert (truth.category, truth.hospital) == (category, "south")
    assert pixels.std() > 20


def rows_of(truth):
    with truth.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    generate(folder, count=4, seed=5)
    return folder


def test_truth_is_a_manifest_with_one_row_a_hip(folder):
    rows = rows_of(folder / "truth.csv")
    assert tuple(rows[0]) == COLUMNS
    assert {row["path"] for row in rows} == {file_name(k) for k in range(4)}
    for row in rows:
        assert (folder / row["path"]).is_file()
        assert row["split"] in ("train", "val", "test", "external")
        assert (row["split"] == "external") == (row["site"] == EXTERNAL)
        assert float(row["x0"]) < float(row["x"]) < float(row["x1"])


def test_workers_make_the_same_films(folder, tmp_path):
    generate(tmp_path, count=4, seed=5, workers=2)
    for path in [*(file_name(k) for k in range(4)), "truth.csv"]:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes()


def test_an_interrupted_run_goes_on(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "again")
    (tmp_path / "again" / file_name(2)).unlink()
    kept = (tmp_path / "again" / file_name(0)).stat().st_mtime_ns
    calls = []
    truth = generate(
        tmp_path / "again", count=4, seed=5, progress=lambda done, total: calls.append(done)
    )
    assert calls == [3, 4]
    assert truth.read_bytes() == (folder / "truth.csv").read_bytes()
    assert (tmp_path / "again" / file_name(2)).read_bytes() == (folder / file_name(2)).read_bytes()
    assert (tmp_path / "again" / file_name(0)).stat().st_mtime_ns == kept


def test_another_seed_gives_other_films():
    assert draw_film(1).technique != draw_film(2).technique
