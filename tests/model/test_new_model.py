"""From a seed or a checkpoint to a model folder, whole or not at all."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from hipedge.errors import ConfigError, InstallationError, ModelError
from hipedge.model import Status
from hipedge.model.untrained import synthetic_crops, untrained_card
from hipedge.train.new_model import new_model
from hipedge.types import CropGeometry

SMALL = CropGeometry(64, 160.0, 10.0, 20.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as a training with the lighter backbone would leave it."""
    pytest.importorskip("torch")
    from hipedge.train.network import Checkpoint, HipNet

    card = dataclasses.replace(
        untrained_card(0, SMALL), name="trained", status=Status.TRAINED, status_text="On nothing."
    )
    path = tmp_path_factory.mktemp("runs") / "checkpoint.pt"
    Checkpoint(HipNet("efficientnet_lite0"), card, synthetic_crops(64)).save(path)
    return path


def test_a_model_from_a_seed_says_that_it_is_untrained(untrained_model):
    assert untrained_model.card.status is Status.UNTRAINED
    assert "**Untrained.**" in (untrained_model.path / "README.md").read_text()


def test_its_golden_scores_are_those_of_64_samples_that_differ(untrained_model):
    golden = untrained_model.golden()
    assert golden.samples.shape == (64, 1, 64, 64)
    assert golden.samples.dtype == np.uint8
    assert golden.logits.shape == (64, 8)
    assert golden.maps.shape == (64, 8, 4, 4)
    assert golden.logits.dtype == golden.maps.dtype == np.float32
    assert golden.logits.std(0).min() > 0.5


@pytest.mark.slow
def test_a_seed_gives_the_same_folder_byte_for_byte(untrained_model, tmp_path):
    pytest.importorskip("torch")
    again = new_model(tmp_path / "again", seed=0, geometry=untrained_model.card.input)
    assert again.model_id == untrained_model.model_id


def test_a_checkpoint_becomes_a_model_folder_in_an_empty_one(checkpoint, tmp_path):
    from hipedge.train.network import Checkpoint, score

    folder = tmp_path / "model"
    folder.mkdir()
    model = new_model(folder, checkpoint=checkpoint)
    source = Checkpoint.load(checkpoint)
    assert dataclasses.replace(model.card, files={}) == source.card
    logits, _ = score(source.network, source.golden_samples)
    assert np.array_equal(model.golden().samples, source.golden_samples)
    assert np.array_equal(model.golden().logits, logits)
    assert list(tmp_path.iterdir()) == [folder]


def test_golden_samples_of_another_size_are_refused(checkpoint, tmp_path):
    from hipedge.train.network import Checkpoint

    wrong = dataclasses.replace(Checkpoint.load(checkpoint), golden_samples=synthetic_crops(32))
    wrong.save(tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match=r"uint8 \(64, 1, 32, 32\), not uint8 \(64, 1, 64, 64\)"):
        new_model(tmp_path / "model", checkpoint=tmp_path / "checkpoint.pt")
    assert not (tmp_path / "model").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="is not empty: name a new folder"):
        new_model(tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="model cannot be written: Not a directory"):
        new_model(tmp_path / "file" / "model", seed=0)


def test_an_interruption_leaves_nothing_behind(checkpoint, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hipedge.export.onnx.export_classifier", interrupt)
    with pytest.raises(KeyboardInterrupt):
        new_model(tmp_path / "model", checkpoint=checkpoint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sources", [{}, {"seed": 0, "checkpoint": "checkpoint.pt"}])
def test_a_model_has_one_source(sources, tmp_path):
    with pytest.raises(ConfigError, match="give one of them"):
        new_model(tmp_path / "model", **sources)


def test_without_torch_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InstallationError, match=r"torch.*pip install 'hipedge\[train\]'"):
        new_model(tmp_path / "model", seed=0)


def test_a_model_can_be_opened_without_torch(untrained_model):
    program = (
        "import sys; from pathlib import Path; from hipedge.model import open_model;"
        "print(open_model(Path(sys.argv[1])).model_id);"
        "assert not {'torch', 'timm', 'onnx'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, untrained_model.path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == untrained_model.model_id
