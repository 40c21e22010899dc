import threading

import numpy as np
import pytest
from PIL import Image

from hipedge.dicom.read import read
from hipedge.errors import InputError
from hipedge.imaging.prepare import prepare
from hipedge.locate.rules import locate
from hipedge.train.augment import Strength, augment
from hipedge.train.data import LabelledCrops, check_pixels, prepare_crops
from hipedge.train.manifest import read_manifest
from hipedge.train.samples import SimulatedSamples
from hipedge.types import CropGeometry
from tests.train.films import write_films

GEOMETRY = CropGeometry(size_px=64, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)


@pytest.fixture
def manifest(tmp_path):
    return read_manifest(write_films(tmp_path, 4))


def test_a_crop_is_what_the_product_would_see(tmp_path, manifest):
    crops = prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")
    assert crops.pixels.shape == (8, 1, 64, 64)
    radiograph = read(tmp_path / "000.png")
    given = [hip for row in manifest.rows[:2] for hip in row.given]
    for crop, hip in zip(crops.pixels[:2], locate(radiograph, GEOMETRY, given).hips, strict=True):
        (sample,) = prepare(radiograph, hip, 64)
        np.testing.assert_array_equal(crop, sample.pixels)


def test_crops_come_in_the_order_of_the_rows_each_with_its_own(tmp_path, manifest):
    """Rows of one film need not lie together, and some of them are refused."""
    in_order = prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")
    expected = {row.line: pixels for row, pixels in in_order}
    (tmp_path / "002.png").write_bytes(b"no picture")
    shuffled = [manifest.rows[i] for i in (7, 0, 4, 2, 6, 1, 5, 3)]
    crops = prepare_crops(shuffled, GEOMETRY, tmp_path / "cache")
    assert [row.line for row in crops.rows] == [9, 2, 4, 8, 3, 5]
    assert [row.line for row, _ in crops.refused] == [6, 7]
    for row, pixels in crops:
        np.testing.assert_array_equal(pixels, expected[row.line])


def test_a_split_keeps_the_crops_of_its_rows(tmp_path):
    manifest = read_manifest(write_films(tmp_path, 4, splits=["train", "val"]))
    crops = prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")
    val = crops.in_split("val")
    assert val.rows == manifest.of("val")
    by_line = {row.line: pixels for row, pixels in crops}
    for row, pixels in val:
        np.testing.assert_array_equal(pixels, by_line[row.line])


def test_crops_without_a_row_each_are_an_error(tmp_path, manifest):
    with pytest.raises(ValueError, match="3 crops for 2 rows"):
        LabelledCrops(np.zeros((3, 1, 64, 64), np.uint8), manifest.rows[:2])


def test_a_second_time_no_film_is_decoded(tmp_path, manifest, monkeypatch):
    first = prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")
    monkeypatch.setattr("hipedge.train.data.read", None)
    second = prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.rows == second.rows


def test_another_geometry_another_content_or_another_mark_is_another_cache(tmp_path, manifest):
    cache = tmp_path / "cache"
    prepare_crops(manifest.rows, GEOMETRY, cache)
    wider = CropGeometry(64, 200.0, 10.0, 20.0)
    prepare_crops(manifest.rows, wider, cache)
    prepare_crops(manifest.rows[1:], GEOMETRY, cache)
    Image.fromarray(np.full((240, 320), 7, np.uint8)).save(tmp_path / "000.png")
    prepare_crops(manifest.rows, GEOMETRY, cache)
    assert len(list(cache.glob("*.json"))) == 4


def test_a_cache_that_was_not_finished_is_made_again(tmp_path, manifest):
    whole = np.array(prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache").pixels)
    (index,) = (tmp_path / "cache").glob("*.json")
    index.unlink()
    index.with_suffix(".partial").write_bytes(b"half")
    again = prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")
    np.testing.assert_array_equal(again.pixels, whole)


def test_two_trainings_may_fill_the_same_cache_at_once(tmp_path, manifest, monkeypatch):
    cache = tmp_path / "cache"
    other = []
    once = threading.Lock()

    def read_while_another_training_fills(path):
        if once.acquire(blocking=False):
            monkeypatch.setattr("hipedge.train.data.read", read)
            other.append(prepare_crops(manifest.rows, GEOMETRY, cache))
        return read(path)

    monkeypatch.setattr("hipedge.train.data.read", read_while_another_training_fills)
    crops = prepare_crops(manifest.rows, GEOMETRY, cache)
    np.testing.assert_array_equal(crops.pixels, other[0].pixels)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]


def test_what_is_interrupted_leaves_nothing_behind(tmp_path, manifest):
    def interrupt(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache", interrupt)
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_trainings_may_make_the_same_pool_of_phantoms_at_once(tmp_path, monkeypatch):
    def pool():
        return SimulatedSamples(
            lambda seed: (np.full((1, 64, 64), 9, np.uint8), 3, np.eye(64, dtype=bool)[None]),
            lambda pixels, mask, rng: (pixels, mask),
            tmp_path,
            source="flat",
            geometry=GEOMETRY,
            per_epoch=4,
            pool=8,
            seed=1,
        )

    make, others = np.lib.format.open_memmap, []

    def make_while_another_training_does(*arguments):
        monkeypatch.setattr(np.lib.format, "open_memmap", make)
        made = make(*arguments)
        others.append(pool())
        return made

    monkeypatch.setattr(np.lib.format, "open_memmap", make_while_another_training_does)
    ours = pool()
    for samples in (ours, others[0]):
        pixels, category, mask = samples[0, 5]
        assert category == 3
        assert (pixels == 9).all()
        np.testing.assert_array_equal(mask.numpy()[0], np.eye(64, dtype=bool))
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy"}


def test_a_film_that_cannot_be_read_is_left_out_and_named(tmp_path, manifest):
    (tmp_path / "001.png").write_bytes(b"no picture")
    crops = prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")
    assert [row.line for row, _ in crops.refused] == [4, 5]
    assert crops.refused[0][1].startswith("not_an_image")
    assert [row.line for row in crops.rows] == [2, 3, 6, 7, 8, 9]


def test_nothing_to_train_on_is_an_error(tmp_path, manifest):
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"no hip .* could be read; 000\.png: not_an_image"):
        prepare_crops(manifest.rows, GEOMETRY, tmp_path / "cache")


def copies(tmp_path, splits, *, same_category=True):
    """Two patients with the same pixels under two names."""
    path = write_films(tmp_path, 2, splits=splits)
    (tmp_path / "001.png").write_bytes((tmp_path / "000.png").read_bytes())
    if same_category:
        lines = path.read_text().splitlines()
        for this, other in ((3, 1), (4, 2)):
            cells = lines[this].split(",")
            cells[2] = lines[other].split(",")[2]
            lines[this] = ",".join(cells)
        path.write_text("\n".join(lines) + "\n")
    rows = read_manifest(path).rows
    return path, prepare_crops(rows, GEOMETRY, tmp_path / "cache")


def test_the_same_pixels_in_two_splits_are_leakage(tmp_path):
    path, crops = copies(tmp_path, ["train", "test"])
    with pytest.raises(InputError, match=r"line 4: leakage: .* in test here and in train in line"):
        check_pixels(crops, path)


def test_the_same_hip_under_two_categories_is_an_error(tmp_path):
    path, crops = copies(tmp_path, ["train", "train"], same_category=False)
    with pytest.raises(InputError, match="line 4: the same hip is osteoarthritis here and normal"):
        check_pixels(crops, path)


def test_a_copy_in_one_split_is_no_error(tmp_path):
    path, crops = copies(tmp_path, ["train", "train"])
    check_pixels(crops, path)


UNMARKED = np.zeros((64, 64), bool)


def test_augmentation_depends_on_the_seed_alone():
    square = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    results = [
        augment(square, UNMARKED, np.random.default_rng(seed), Strength())[0] for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_augmentation_never_flips():
    """A bright left half stays left, whatever is drawn."""
    square = np.full((64, 64), 40, np.uint8)
    square[:, :32] = 200
    plain = Strength(holes=1, hole=0.06)
    for seed in range(50):
        result = augment(square, UNMARKED, np.random.default_rng(seed), plain)[0].astype(float)
        assert result[16:48, 8:24].mean() > result[16:48, 40:56].mean()


CONTINUOUS = ("rotate_deg", "scale", "shift", "gamma", "contrast", "noise", "shading")


def test_without_strength_augmentation_changes_nothing_that_counts():
    """The affine map is right: with no turn, scale and shift, the pixels stay where they are."""
    still = Strength(
        **dict.fromkeys(CONTINUOUS, 0.0),
        blur_px=0.3001,
        sharpen=0.2,
        equalise=0.2,
        holes=1,
        hole=0.0501,
    )
    square = np.zeros((64, 64), np.uint8)
    square[20:40, 10:50] = 200
    result = augment(square, UNMARKED, np.random.default_rng(3), still)[0].astype(int)
    assert np.median(np.abs(result - square)) == 0


def test_a_mask_goes_where_its_lesion_goes():
    """A bright square is marked; whatever is drawn, its mark lies on it."""
    square = np.full((64, 64), 60, np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[8:24, 36:56] = True
    square[mask] = 250
    plain = Strength(contrast=0.0, noise=0.0, shading=0.0, blur_px=0.3)
    for seed in range(30):
        pixels, marked = augment(square, mask, np.random.default_rng(seed), plain)
        assert marked.sum() > 100
        bright = pixels > 0.7 * pixels.max()
        assert bright[marked].mean() > 0.9


def test_what_is_cut_out_of_a_crop_is_not_marked():
    square, everywhere = np.full((64, 64), 100, np.uint8), np.ones((64, 64), bool)
    still = Strength(**dict.fromkeys(CONTINUOUS, 0.0), holes=1, hole=0.3)
    unmarked = [
        (~augment(square, everywhere, np.random.default_rng(seed), still)[1]).sum()
        for seed in range(20)
    ]
    assert 0 < np.count_nonzero(unmarked) < 20
    assert max(unmarked) <= (0.3 * 64) ** 2
