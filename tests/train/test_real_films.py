"""Real films for the locator: their manifest, drawn implants, pictures that are no radiographs."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs the extra train")

from hipedge.dicom.read import read
from hipedge.errors import InputError
from hipedge.insertion.manifest import read_manifest as read_backgrounds
from hipedge.locate.learned import make_thumbnail
from hipedge.locate.session import OnnxLocator
from hipedge.train.film_implants import IMPLANT_FILMS, draw_implants
from hipedge.train.film_manifest import read_film_manifest
from hipedge.train.locator import LocatorSettings, train_locator
from hipedge.train.locator_data import IGNORED, LocatorSamples, prepare_films
from hipedge.train.manifest import read_manifest
from hipedge.train.other_pictures import picture_files, read_other_picture
from hipedge.train.real_films import RealFilmSources, prepare_real_films
from hipedge.train.reference import BACKGROUNDS, REAL_FILMS
from tests.train.films import write_films

HEADER = "path,split,patient,kind,quarter_turns,left_x,left_y,right_x,right_y"
ROWS = (
    "a.png,train,p1,adult,0,30,40,70,41",
    "b.png,train,p2,hand,0,,,,",
    "c.png,val,p3,adult,1,,,40.5,20",
)


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        pixels = rng.integers(0, 255, (80, 100)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return write(tmp_path, *ROWS)


def write(folder, *rows):
    path = folder / "films.csv"
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    return path


def test_a_film_has_two_heads_or_one_or_none(manifest):
    rows = read_film_manifest(manifest).rows
    assert rows[0].heads == ((30.0, 40.0), (70.0, 41.0))
    assert not rows[1].has_hip
    assert rows[2].heads == (None, (40.5, 20.0))
    assert rows[2].quarter_turns == 1


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("d.png,train,p4,adult,0,1,2,3,4", "line 5: no file"),
        ("a.png,test,p4,adult,0,1,2,3,4", "line 5: the same film as in line 2"),
        ("d.png,holdout,p4,adult,0,1,2,3,4", "no file"),
        ("b.png,holdout,p4,adult,0,1,2,3,4", "split must be train, val, test"),
        ("b.png,train,p4,adult,0,1,,3,4", "the head at the left needs two numbers"),
        ("b.png,train,,adult,0,1,2,3,4", "no patient"),
        ("b.png,train,p4,adult,half,1,2,3,4", "quarter_turns must be a whole number"),
    ],
)
def test_faults_are_named_by_line(manifest, row, fault):
    rows = ROWS if "the same" in fault or "no file" in fault else (ROWS[0], ROWS[2])
    with pytest.raises(InputError, match=fault):
        read_film_manifest(write(manifest.parent, *rows, row))


def test_a_patient_in_two_splits_is_leakage(manifest):
    moved = (*ROWS[:2], ROWS[2].replace("p3", "p1"))
    with pytest.raises(InputError, match="leakage: this patient is in val here and in train"):
        read_film_manifest(write(manifest.parent, *moved))


def test_the_shipped_films_are_in_the_splits_of_the_classifiers_hips():
    """No patient that a classifier is tested on is one that the locator is trained on."""
    with REAL_FILMS.open(newline="") as file:
        films = list(csv.DictReader(file))
    split_of_film = {row["path"]: row["split"] for row in films}
    split_of_patient = {row["patient"]: row["split"] for row in films}
    assert len(split_of_film) == len(films)
    assert all(split_of_patient[row["patient"]] == row["split"] for row in films)
    with BACKGROUNDS.open(newline="") as file:
        hips = list(csv.DictReader(file))
    assert {row["path"] for row in hips} <= set(split_of_film)
    for row in hips:
        assert split_of_film[row["path"]] == row["split"]
        assert split_of_patient[row["patient"]] == row["split"]


def test_films_are_kept_upright_with_their_heads(manifest, tmp_path):
    real = prepare_real_films(read_film_manifest(manifest), tmp_path / "cache")
    upright = make_thumbnail(np.rot90(read(manifest.parent / "c.png").pixels), None, 384)
    np.testing.assert_array_equal(real.films.thumbnails[2], upright.pixels)
    assert real.films.heads[2, 1] == pytest.approx(upright.from_film((40.5, 20.0)))
    assert np.isnan(real.films.heads[2, 0]).all()
    assert real.with_hip("train").tolist() == [0]
    assert real.without_hip("train").tolist() == [1]


def test_films_are_prepared_once_and_again_where_one_has_changed(manifest, tmp_path):
    films = read_film_manifest(manifest)
    first = prepare_real_films(films, tmp_path / "cache")
    seen = []
    again = prepare_real_films(films, tmp_path / "cache", on_film=lambda *n: seen.append(n))
    assert not seen
    assert again.digest == first.digest
    Image.fromarray(np.zeros((80, 100), np.uint8)).save(manifest.parent / "b.png")
    other = prepare_real_films(films, tmp_path / "cache", on_film=lambda *n: seen.append(n))
    assert seen[-1] == (3, 3)
    assert other.digest != first.digest


def test_a_film_that_cannot_be_read_is_named(manifest, tmp_path):
    (manifest.parent / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.png cannot be read"):
        prepare_real_films(read_film_manifest(manifest), tmp_path / "cache")


def test_pictures_are_of_any_kind_but_radiographs():
    ct = Path(pydicom.data.get_testdata_file("CT_small.dcm"))
    assert read_other_picture(ct).shape == (128, 128)
    assert read_other_picture(Path(__file__)) is None
    radiograph = ct.parent / "chrJapMulti.dcm"
    files = picture_files([ct, ct.parent])
    assert files[0] == ct
    assert files.count(ct) == 2
    if radiograph.exists():
        assert read_other_picture(radiograph) is None


def test_samples_with_real_films_hold_hips_and_what_is_none(manifest, tmp_path):
    real = prepare_real_films(read_film_manifest(manifest), tmp_path / "cache")
    simulated = tmp_path / "simulated"
    simulated.mkdir()
    hips = read_manifest(write_films(simulated, 4, splits=("train", "train", "val", "test")))
    films = prepare_films(hips.rows, hips.path, tmp_path / "cache")
    samples = LocatorSamples(films, films.of("train"), 0, None, real)
    kinds = {IGNORED: 0, 0: 0, 1: 0}
    for epoch in range(100):
        pixels, _, present, turns, _, hip = samples[epoch, epoch % 2]
        assert pixels.shape == (1, 128, 128)
        assert (present == 0).all() if hip == 0 else hip == IGNORED or turns == 0
        kinds[int(hip)] += 1
    assert min(kinds.values()) > 10


@pytest.mark.slow
def test_a_locator_is_trained_on_real_films_and_measured_on_those_held_out(manifest, tmp_path):
    simulated = tmp_path / "simulated"
    simulated.mkdir()
    hips = write_films(simulated, 12, splits=("train", "train", "val", "test"))
    run = tmp_path / "run"
    settings = LocatorSettings(epochs=1, batch_size=6, imagenet=False)
    path = train_locator(
        hips, run, settings, real_films=RealFilmSources(manifest), about="Of a test.", device="cpu"
    )
    measured = json.loads((run / "locator.json").read_text())
    assert set(measured) == {"val", "test", "real_val", "real_test"}
    assert measured["real_val"].keys() >= {"accepted", "refused", "near", "turned"}
    assert OnnxLocator(path).about == (
        "6 films of the manifest. 1 real films of 1 patients with a hip, and 0 made of them by"
        " drawing implants. 1 real films of 1 patients without a hip. 0 pictures that are no"
        " radiographs. Of a test."
    )


def test_a_drawn_implant_is_where_the_hip_is_and_changes_nothing_else(shared_data, tmp_path):
    pytest.importorskip("numba", reason="needs the extra phantom")
    folder = shared_data / "fracatlas"
    hips = [
        hip for hip in read_backgrounds(BACKGROUNDS, folder) if hip.path.name == "IMG0000316.jpg"
    ]
    films = read_film_manifest(REAL_FILMS, folder)
    (row,) = (row for row in films.rows if row.path.name == "IMG0000316.jpg")
    thumbnail = make_thumbnail(read(row.path).pixels, None, 384)
    implants, of = draw_implants([row], [thumbnail], hips, tmp_path, seed=0)
    assert of == [0] * IMPLANT_FILMS
    heads = np.array([thumbnail.from_film(head) for head in row.heads])
    distance = np.hypot(*(heads[1] - heads[0]))
    rows, columns = np.mgrid[:384, :384] + 0.5
    for implant in implants:
        # Metal is as bright as the film gets; what is far from every head keeps its order of tones.
        added = implant.astype(int) - thumbnail.pixels
        y, x = np.argwhere(added > 80).mean(axis=0)
        assert min(np.hypot(x - hx, y - hy) for hx, hy in heads) < 0.6 * distance
        far = np.min([np.hypot(columns - hx, rows - hy) for hx, hy in heads], axis=0) > distance
        here = far & (thumbnail.pixels > 0)
        assert np.corrcoef(implant[here], thumbnail.pixels[here])[0, 1] > 0.999


def test_implants_need_the_scale_of_a_hip(shared_data, tmp_path):
    pytest.importorskip("numba", reason="needs the extra phantom")
    folder = shared_data / "fracatlas"
    hips = [
        replace(hip, mm_per_px=None)
        for hip in read_backgrounds(BACKGROUNDS, folder)
        if hip.path.name == "IMG0000316.jpg"
    ]
    films = read_film_manifest(REAL_FILMS, folder)
    (row,) = (row for row in films.rows if row.path.name == "IMG0000316.jpg")
    thumbnail = make_thumbnail(np.ones((200, 200), np.uint16), None, 384)
    with pytest.raises(InputError, match=r"x, y and mm_per_px"):
        draw_implants([row], [thumbnail], hips, tmp_path, seed=0)
