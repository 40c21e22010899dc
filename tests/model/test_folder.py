"""A model folder is opened whole and unchanged, or not at all."""

import dataclasses
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hipedge.errors import ModelError
from hipedge.model import Golden, open_model
from hipedge.model.folder import write_card
from hipedge.model.untrained import DEFAULT_GEOMETRY, untrained_card

FILES = ["README.md", "card.json", "classifier.onnx", "golden.npz", "locator.onnx"]


def golden():
    rng = np.random.default_rng(0)
    return Golden(
        rng.integers(0, 256, (64, 1, 32, 32), dtype=np.uint8),
        rng.normal(size=(64, 8)).astype(np.float32),
        rng.normal(size=(64, 8, 1, 1)).astype(np.float32),
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with all that a model can have, except that nothing could run its networks."""
    (tmp_path / "classifier.onnx").write_bytes(b"a classifier")
    (tmp_path / "locator.onnx").write_bytes(b"a locator")
    golden().save(tmp_path / "golden.npz")
    write_card(tmp_path, untrained_card(0, DEFAULT_GEOMETRY))
    return tmp_path


def test_a_model_folder_is_opened(folder):
    model = open_model(folder)
    assert model.card.name == "untrained-0"
    assert model.classifier.read_bytes() == b"a classifier"
    assert model.locator is not None
    assert model.locator.read_bytes() == b"a locator"
    assert np.array_equal(model.golden().samples, golden().samples)
    assert np.array_equal(model.golden().logits, golden().logits)
    assert np.array_equal(model.golden().maps, golden().maps)


def test_a_model_may_have_no_locator(folder):
    (folder / "locator.onnx").unlink()
    write_card(folder, untrained_card(0, DEFAULT_GEOMETRY))
    assert open_model(folder).locator is None


def test_a_model_is_the_same_wherever_it_lies(folder, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copies") / "copy"
    shutil.copytree(folder, copy)
    assert open_model(copy).model_id == open_model(folder).model_id


@pytest.mark.parametrize("change", ["card", "classifier"])
def test_another_content_is_another_model(folder, change):
    before = open_model(folder).model_id
    card = untrained_card(0, DEFAULT_GEOMETRY)
    if change == "card":
        card = dataclasses.replace(card, temperature=2.0)
    else:
        (folder / "classifier.onnx").write_bytes(b"another classifier")
    write_card(folder, card)
    assert open_model(folder).model_id != before


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_anywhere_is_found_and_its_file_named(folder, name, place, bit):
    path = folder / name
    original = path.read_bytes()
    data = bytearray(original)
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        with pytest.raises(ModelError, match=name):
            open_model(folder)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_cure(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} is missing: .*hipedge model new"):
        open_model(folder)


@pytest.mark.parametrize("name", ["classifier.onnx", "golden.npz"])
def test_a_card_written_without_a_file_is_of_no_complete_model(folder, name):
    (folder / name).unlink()
    write_card(folder, untrained_card(0, DEFAULT_GEOMETRY))
    with pytest.raises(ModelError, match=f"no hash of {name}"):
        open_model(folder)


def test_a_locator_that_the_card_does_not_know_is_refused(folder):
    locator = (folder / "locator.onnx").read_bytes()
    (folder / "locator.onnx").unlink()
    write_card(folder, untrained_card(0, DEFAULT_GEOMETRY))
    (folder / "locator.onnx").write_bytes(locator)
    with pytest.raises(ModelError, match=r"locator\.onnx is not in the card"):
        open_model(folder)


def test_a_folder_in_a_files_place_cannot_be_read(folder):
    (folder / "classifier.onnx").unlink()
    (folder / "classifier.onnx").mkdir()
    with pytest.raises(ModelError, match=r"classifier\.onnx cannot be read"):
        open_model(folder)


@pytest.mark.parametrize("name", ["nowhere", "classifier.onnx"])
def test_a_path_that_is_no_folder_is_no_model(folder, name):
    with pytest.raises(ModelError, match=f"{name} is not a model folder"):
        open_model(folder / name)


def test_a_card_that_could_not_be_read_again_is_not_written(folder):
    before = (folder / "card.json").read_bytes()
    card = dataclasses.replace(untrained_card(0, DEFAULT_GEOMETRY), temperature=float("nan"))
    with pytest.raises(ModelError, match="temperature"):
        write_card(folder, card)
    assert (folder / "card.json").read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04"])
def test_golden_samples_that_are_none_are_named(folder, data):
    (folder / "golden.npz").write_bytes(data)
    with pytest.raises(ModelError, match=r"golden\.npz does not hold golden samples"):
        Golden.load(folder / "golden.npz")
