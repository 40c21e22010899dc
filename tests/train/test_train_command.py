"""`hipedge train` to `hipedge screen`, as a clinic would do it, on films of a few lines."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from hipedge.errors import ConfigError, InputError
from hipedge.model import open_model
from hipedge.train import recipe
from hipedge.train.distributed import DistributedContext
from hipedge.train.manifest import read_manifest
from hipedge.train.network import Checkpoint
from hipedge.train.recipe import train
from hipedge.train.settings import TrainingSettings
from hipedge.types import CATEGORIES, Category
from tests.train.films import write_films, write_manifest

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SMALL = (
    *("--backbone", "efficientnet_lite0", "--size", "32"),
    *("--epochs", "2", "--batch-size", "12", "--device", "cpu"),
)
SPLITS = ("train", "train", "train", "val", "test", "external")


def start(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "hipedge", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def hipedge(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=110)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return write_films(folder, 24, splits=SPLITS)


@pytest.fixture(scope="module")
def trained(manifest, tmp_path_factory):
    """A run that nothing interrupted, and what it printed: results, then remarks."""
    run = tmp_path_factory.mktemp("run") / "whole"
    code, out, err = hipedge("train", manifest, "-o", run, *SMALL, "--name", "drawn")
    assert code == 0, err
    return run, out, err


def test_what_the_data_hold_is_said_first(trained):
    _, out, _ = trained
    assert "patients" in out
    assert "sites: one 24, two 24" in out
    assert "ages in train: 40 to 60 years" in out


def test_a_run_leaves_what_its_documentation_says(trained):
    run, _, _ = trained
    for name in ("settings.json", "data.json", "curves.png", "predictions.csv", "checkpoint.pt"):
        assert (run / name).stat().st_size > 0, name
    assert len(json.loads((run / "history.json").read_text())["steps"]) == 2


def test_the_card_says_what_was_learned_from_and_what_was_measured(trained, manifest):
    card = Checkpoint.load(trained[0] / "checkpoint.pt").card
    assert (card.name, card.status.value, card.input.size_px) == ("drawn", "trained", 32)
    assert card.age_range_years == (40, 60)
    assert "24 hips of 12 patients in train" in card.training_data
    assert read_manifest(manifest).sha256 in card.training_data
    assert "placeholders: 0 hips without a finding are too few" in card.training_data
    assert card.metrics["test_hips"] == card.metrics["external_hips"] == 8
    assert card.metrics["val_nll"] <= card.metrics["val_nll_before_calibration"]
    assert card.metrics["test_accuracy_low"] <= card.metrics["test_accuracy"]


def test_every_hip_outside_training_has_its_prediction(trained):
    lines = (trained[0] / "predictions.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert header == ["path", "side", "split", *(category.value for category in CATEGORIES)]
    assert len(lines) == 1 + 3 * 8
    assert lines[1].startswith("003.png,right,val,")
    sums = [sum(map(float, line.split(",")[3:])) for line in lines[1:]]
    assert sums == pytest.approx([1.0] * 24, abs=1e-5)


@pytest.fixture(scope="module")
def resumed(manifest, tmp_path_factory):
    """A run that was killed as soon as it had a state, and gone on with."""
    run = tmp_path_factory.mktemp("run") / "resumed"
    arguments = ("train", manifest, "-o", run, *SMALL, "--name", "drawn")
    process = start(*arguments)
    deadline = time.monotonic() + 90
    while not (run / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run / "checkpoint.pt").exists()
    code, _, err = hipedge(*arguments)
    assert code == 0, err
    return run


def test_a_killed_run_ends_in_the_same_checkpoint(trained, resumed):
    whole, again = (Checkpoint.load(run / "checkpoint.pt") for run in (trained[0], resumed))
    assert whole.card == again.card
    np.testing.assert_array_equal(whole.golden_samples, again.golden_samples)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_other_settings_in_the_same_folder_are_refused(trained, manifest):
    settings = TrainingSettings(
        name="drawn", backbone="efficientnet_lite0", epochs=2, batch_size=12, seed=5
    )
    with pytest.raises(ConfigError, match="with another geometry, seed: name a new folder"):
        train(manifest, trained[0], settings)


def test_a_model_is_made_of_the_run_and_screens(trained, manifest, tmp_path):
    code, _, err = hipedge(
        "model", "new", tmp_path / "model", "--checkpoint", trained[0] / "checkpoint.pt"
    )
    assert code == 0, err
    model = open_model(tmp_path / "model")
    assert set(model.card.operating_points) == {"sensitive", "specific"}
    assert Category.NORMAL not in model.card.operating_points["sensitive"]
    assert model.golden().samples.shape == (64, 1, 32, 32)
    films, hips = sorted(manifest.parent.glob("00[0-3].png")), tmp_path / "hips.csv"
    rows = [
        {"path": row.path, "side": row.side.value, "x": row.marked[0], "y": row.marked[1]}
        for row in read_manifest(manifest).rows[:8]
    ]
    write_manifest(hips, rows)
    code, out, err = hipedge(
        "screen", *films, "--model", tmp_path / "model", "--db", tmp_path / "db", "--hips", hips
    )
    assert code == 0, err
    assert "4" in out + err


@pytest.mark.slow
def test_offline_it_says_so_and_starts_from_scratch(manifest, tmp_path):
    arguments = ("--size", "32", "--epochs", "1", "--batch-size", "12", "--device", "cpu")
    code, _, err = hipedge("train", manifest, "-o", tmp_path / "run", *arguments)
    assert code == 0, err
    assert "ImageNet weights resnet50.a1_in1k are not available" in err
    assert "training starts from random weights" in err


def test_the_leader_makes_the_pool_of_phantoms_before_the_others_go_on(
    manifest, tmp_path, monkeypatch
):
    pytest.importorskip("xraylib", reason="phantoms: pip install 'hipedge[phantom]'")
    found = []

    class Ready(Exception):  # not an error
        pass

    class Leader(DistributedContext):
        def wait(self):
            found.extend(path.name for path in tmp_path.glob("simulated-*.npy"))
            raise Ready

    monkeypatch.setattr(
        recipe, "distributed_context", lambda device: nullcontext(Leader(CPU, 0, 2))
    )
    with pytest.raises(Ready):
        train(manifest, tmp_path / "run", TrainingSettings(phantoms=4, pool=8), cache=tmp_path)
    assert len(found) == 3  # pixels, masks, categories


@pytest.mark.parametrize(
    ("splits", "fault"),
    [(("train",), "no hip that could be read is in the split val"), (("val",), "split train")],
)
def test_a_manifest_without_a_split_cannot_be_trained_on(tmp_path, splits, fault):
    manifest = write_films(tmp_path, 2, splits=splits)
    with pytest.raises(InputError, match=fault):
        train(manifest, tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--locator", "--pictures", "p"], "with --real-films"),
        (["--locator", "--real-films", "none.csv", "--size", "64"], "the locator has no --size"),
        (["--real-films", "none.csv"], "only the locator has --real-films"),
        (["--locator", "--real-films", "none.csv"], "none.csv: cannot be read"),
    ],
)
def test_options_of_the_locator_are_for_the_locator(manifest, tmp_path, arguments, complaint):
    status, _, err = hipedge("train", manifest, "-o", tmp_path / "run", *arguments)
    assert status == 2
    assert complaint in " ".join(err.replace("│", " ").split())


def test_a_model_gets_another_locator_on_the_command_line(
    untrained_model, reference_model, tmp_path
):
    folder = tmp_path / "model"
    status, _, err = hipedge(
        "model", "new", folder, "--copy-of", untrained_model.path,
        "--locator", reference_model.locator,
    )  # fmt: skip
    assert status == 0, err
    model = open_model(folder)
    assert "FracAtlas" in model.card.training_data
    assert model.card.files["locator.onnx"] == reference_model.card.files["locator.onnx"]
