"""What the shipped locator accepts of real films that it was not trained on, and where."""

from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

pytest.importorskip("torch", reason="needs the extra train")

from benchmarks.locator_films import fracatlas, measure_hips, measure_others, other_pictures, screen
from hipedge.errors import Code
from hipedge.locate.learned import LearnedLocator
from hipedge.locate.session import OnnxLocator
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.train.film_manifest import read_film_manifest
from hipedge.train.reference import REAL_FILMS
from hipedge.types import Refusal


@pytest.fixture(scope="module")
def locator(reference_model):
    return LearnedLocator(OnnxLocator(reference_model.locator))


@pytest.fixture(scope="module")
def seen(locator, shared_data):
    """What is seen on the films of the patients that neither training nor thresholds have seen."""
    manifest = read_film_manifest(REAL_FILMS, shared_data / "fracatlas")
    return [screen(picture, locator) for picture in fracatlas(manifest, "test")]


def share(figures, name):
    return figures[name]["share"]


def test_films_of_adult_hips_are_accepted_and_their_heads_found(seen):
    figures = measure_hips([one for one in seen if one.picture.kind == "adult"])
    assert figures["films"] >= 40
    assert share(figures, "accepted") >= 0.97
    assert share(figures, "heads within 5 % of the width") >= 0.95
    assert share(figures, "wrongly turned") == 0


def test_no_single_hip_gains_a_second(seen):
    figures = measure_hips([one for one in seen if any(one.picture.heads)])
    assert figures["a single hip gains a second"]["n"] >= 10
    assert share(figures, "a single hip gains a second") == 0


def test_films_of_hands_legs_and_shoulders_are_refused(seen):
    figures = measure_others([one for one in seen if not any(one.picture.heads)])
    assert figures["films"] >= 45
    assert share(figures, "accepted") <= 0.02


def test_pictures_of_other_kinds_are_refused(locator, shared_data):
    seen = [screen(picture, locator) for picture in other_pictures(shared_data)]
    assert len(seen) >= 12
    assert [one.picture.name for one in seen if one.hips] == []


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm"])
def test_a_slice_that_its_header_calls_a_radiograph_is_refused_by_its_pixels(
    name, reference_model, tmp_path
):
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file(name))
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        ComputedRadiographyImageStorage
    )
    dataset.Modality, dataset.ImageType = "CR", ["ORIGINAL", "PRIMARY"]
    for keyword in ("BodyPartExamined", "NumberOfFrames"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.save_as(tmp_path / "called_cr.dcm")
    outcome = Preprocessor.for_model(reference_model)(Path(tmp_path / "called_cr.dcm"))
    assert isinstance(outcome, Refusal)
    assert outcome.code is Code.NO_HIP_FOUND


def test_a_film_of_noise_is_refused(locator):
    noise = np.random.default_rng(0).integers(0, 65536, (400, 300)).astype(np.uint16)
    assert locator(noise, None) is None
