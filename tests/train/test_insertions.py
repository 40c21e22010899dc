"""Training on lesions inserted into real hips: splits, samples, and a run of a few steps."""

import csv
import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hipedge.errors import ConfigError, InputError
from hipedge.model import open_model
from hipedge.model.untrained import untrained_card
from hipedge.train.appearance import Appearance
from hipedge.train.locator import LocatorSettings
from hipedge.train.recipe import train
from hipedge.train.restyle import STRENGTH, Restyle, collimate, lower_resolution
from hipedge.train.settings import TrainingSettings
from hipedge.types import CATEGORIES, Category, CropGeometry

pytest.importorskip("xraylib", reason="insertions: pip install 'hipedge[phantom]'")

from hipedge.train.insertions import InsertionSource
from hipedge.train.network import Checkpoint, HipNet
from hipedge.train.reference import BACKGROUNDS, make_reference

GEOMETRY = CropGeometry(size_px=64, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
# Two steps.
SETTINGS = TrainingSettings(
    geometry=GEOMETRY,
    backbone="efficientnet_lite0",
    epochs=1,
    batch_size=4,
    insertions=6,
    phantoms=2,
    pool=2,
)


@pytest.fixture(scope="module")
def films(shared_data):
    return shared_data / "fracatlas"


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    """Two hips of adults in each split, of patients of their own."""
    with BACKGROUNDS.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["age_class"] == "adult"]
    chosen = [
        row
        for split in ("train", "val", "test")
        for row in [r for r in rows if r["split"] == split][:2]
    ]
    path = tmp_path_factory.mktemp("backgrounds") / "backgrounds.csv"
    write(path, chosen)
    return path


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def source(backgrounds, films, cache):
    return InsertionSource.open(backgrounds, films, GEOMETRY, cache)


@pytest.fixture
def few_held_out(monkeypatch):
    """Forty held-out hips in each split."""
    monkeypatch.setattr(InsertionSource.held_out, "__defaults__", (40,))


@pytest.fixture
def sources(backgrounds, films, cache, few_held_out):
    """What a training reads its samples from."""
    return {"backgrounds": backgrounds, "films": films, "cache": cache, "device": "cpu"}


def test_held_out_hips_are_of_their_splits_patients_alone(source):
    patients = {
        split: {hip.patient for hip in source.backgrounds.hips if hip.split == split}
        for split in ("train", "val", "test")
    }
    assert source.splits == ("val", "test")
    for split in source.splits:
        crops = source.held_out(split, seed=0, count=24)
        assert crops.pixels.shape == (24, 1, 64, 64)
        assert {row.patient for row in crops.rows} <= patients[split]
        assert not {row.patient for row in crops.rows} & patients["train"]
        assert {row.split for row in crops.rows} == {split}
        normal = [row.category is Category.NORMAL for row in crops.rows]
        assert 4 < sum(normal) < 20


def test_held_out_hips_are_the_same_when_they_come_from_the_cache(source, monkeypatch):
    first = source.held_out("val", seed=1, count=6)
    monkeypatch.setattr("hipedge.train.insertions.DrawInserted", None)
    again = source.held_out("val", seed=1, count=6)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.rows == again.rows


def test_appearance_is_that_of_training_backgrounds(source):
    appearance = source.appearance(0)
    assert appearance.images.shape[1:] == (64, 64)
    assert len(appearance.images) % len(source.backgrounds.of("train")) == 0


def test_training_samples_carry_the_masks_of_their_lesions(source):
    draw = source.training()
    for number in range(12):
        pixels, category, mask = draw(np.random.SeedSequence((3, number)))
        assert mask.shape == pixels.shape == (1, 64, 64)
        if CATEGORIES[category] is Category.NORMAL:
            assert not mask.any()
        elif CATEGORIES[category] is Category.TOTAL_HIP_ARTHROPLASTY:
            assert mask.any()


def test_backgrounds_without_a_calibration_split_are_refused(backgrounds, films, tmp_path):
    with backgrounds.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "val"]
    write(tmp_path / "some.csv", rows)
    with pytest.raises(InputError, match="no background in the split val can be used"):
        InsertionSource.open(tmp_path / "some.csv", films, GEOMETRY, tmp_path)


def test_a_training_without_labels_leaves_a_calibrated_checkpoint(sources, tmp_path):
    path = train(None, tmp_path, SETTINGS, **sources)
    checkpoint = Checkpoint.load(path)
    assert checkpoint.network.backbone_name == "efficientnet_lite0"
    assert checkpoint.golden_samples.shape == (64, 1, 64, 64)
    card = checkpoint.card
    assert card.metrics["inserted_val_hips"] == card.metrics["inserted_test_hips"] == 40
    assert "6 lesions inserted into real hips" in card.training_data
    assert "Backgrounds in test: 2 hips of" in card.training_data
    assert len(json.loads((tmp_path / "data.json").read_text())["backgrounds"]) == 3
    with pytest.raises(ConfigError, match="another insertions"):
        train(None, tmp_path, replace(SETTINGS, insertions=8), **sources)


def test_a_network_is_distilled_from_the_checkpoint_of_another_without_labels(sources, tmp_path):
    teacher = tmp_path / "teacher.pt"
    golden = np.zeros((64, 1, 64, 64), np.uint8)

    def save_teacher(geometry):
        network = HipNet("efficientnet_lite0", size_px=64)
        Checkpoint(network, untrained_card(0, geometry), golden).save(teacher)

    save_teacher(GEOMETRY)
    path = train(None, tmp_path / "run", SETTINGS, teacher=teacher, **sources)
    card = Checkpoint.load(path).card
    sha256 = hashlib.sha256(teacher.read_bytes()).hexdigest()
    assert f"distilled from the checkpoint with SHA-256 {sha256}" in card.training_data
    assert "focal loss" not in card.training_data
    save_teacher(GEOMETRY)  # of other random weights
    with pytest.raises(ConfigError, match="another teacher"):
        train(None, tmp_path / "run", SETTINGS, teacher=teacher, **sources)
    save_teacher(replace(GEOMETRY, crop_mm=200.0))
    with pytest.raises(ConfigError, match="which are not those of this training"):
        train(None, tmp_path / "other", SETTINGS, teacher=teacher, **sources)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_reference_command_makes_a_model_and_distils_a_student_from_it(
    backgrounds, films, few_held_out, tmp_path, monkeypatch, reference_model
):
    (tmp_path / "locator").mkdir()
    shutil.copyfile(reference_model.locator, tmp_path / "locator" / "locator.onnx")

    def make():
        return make_reference(
            tmp_path,
            fracatlas=films,
            films=6,
            locator=LocatorSettings(),
            classifier=SETTINGS,
            student=replace(SETTINGS, backbone="resnet50", imagenet=False),
            backgrounds=backgrounds,
            device="cpu",
            log=lambda text: None,
        )

    assert make() == tmp_path / "model"
    made = [open_model(tmp_path / name).card for name in ("model", "student_model")]
    sha256 = hashlib.sha256((tmp_path / "classifier" / "checkpoint.pt").read_bytes()).hexdigest()
    assert "class-balanced focal loss" in made[0].training_data
    assert "Backbone resnet50, CBAM, GeM and distilled from the checkpoint" in made[1].training_data
    assert sha256 in made[1].training_data
    assert all("Locator: " in card.training_data for card in made)
    monkeypatch.setattr("hipedge.train.reference.train", None)  # nothing is made again
    assert make() == tmp_path / "model"


def test_nothing_to_train_on_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="nothing to train on"):
        train(None, tmp_path)


def test_insertions_without_backgrounds_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match="give their manifest"):
        train(tmp_path / "manifest.csv", tmp_path, TrainingSettings(insertions=5))


@pytest.fixture
def crop():
    """A bright disc on gray."""
    y, x = np.mgrid[:64, :64]
    return np.where(np.hypot(x - 32, y - 32) < 16, 200, 80).astype(np.uint8)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_restyling_is_determined_by_its_seed_and_keeps_the_anatomy(crop, share):
    real = np.random.default_rng(5).integers(1, 255, (3, 64, 64)).astype(np.uint8)
    restyle = Restyle(Appearance(real), share)
    disc = crop == crop.max()
    for seed in range(20):
        (once, mask), (again, _) = (
            restyle(crop, disc, np.random.default_rng(seed)) for _ in range(2)
        )
        np.testing.assert_array_equal(once, again)
        assert once.shape == mask.shape == (64, 64)
        assert (once.dtype, mask.dtype) == (np.uint8, bool)
    restyled = [restyle(crop, disc, np.random.default_rng(s)) for s in range(60)]
    mean = np.mean([pixels for pixels, _ in restyled], axis=0)
    assert mean[26:38, 26:38].mean() > mean[4:12, 4:60].mean() + 30
    marked = np.mean([mask for _, mask in restyled], axis=0)
    assert marked[28:36, 28:36].mean() > 0.8
    assert not marked[:4].any()


def test_a_black_strip_at_the_edge_is_not_marked_as_a_lesion(crop):
    restyle = Restyle(None, 0.0, replace(STRENGTH, rotate_deg=0.0, scale=0.0, shift=0.0))
    everywhere = np.ones(crop.shape, bool)
    masks = [restyle(crop, everywhere, np.random.default_rng(seed))[1] for seed in range(60)]
    assert 0 < sum(not mask[0].any() for mask in masks) < 30


def test_collimation_blackens_edges_and_nothing_else(crop):
    collimated = collimate(crop, np.random.default_rng(0))
    black = collimated == 0
    assert 0.02 < black.mean() < 0.5
    np.testing.assert_array_equal(collimated[~black], crop[~black])
    assert not black[28:36, 28:36].any()


def test_lower_resolution_removes_fine_detail_and_keeps_the_size():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    lowered = lower_resolution(stripes, np.random.default_rng(0))
    assert lowered.shape == stripes.shape
    assert lowered.std() < stripes.std() / 2
