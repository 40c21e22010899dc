"""The test double that ships."""

import time

import numpy as np
import pytest

from hipedge.backends.fake import FakeBackend
from hipedge.errors import BackendError
from hipedge.types import CATEGORIES


@pytest.mark.parametrize("k", range(len(CATEGORIES)))
def test_a_white_row_makes_its_category_sure(k):
    sample = np.zeros((1, 1, 64, 64), np.uint8)
    sample[..., 8 * k : 8 * (k + 1), :] = 255
    with FakeBackend(64) as backend:
        (scores,) = backend.infer(sample)
    assert scores.logits.tolist() == [8.0 if i == k else 0.0 for i in range(8)]
    assert scores.maps[k, k].tolist() == [1.0] * 8


def test_the_maps_sum_to_the_logits():
    samples = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    with FakeBackend(64) as backend:
        for scores in backend.infer(samples):
            np.testing.assert_allclose(scores.maps.sum((1, 2)), scores.logits, rtol=1e-6)
            assert scores.logits.std() > 0


def test_failures_come_in_the_order_of_the_script_and_then_end():
    sample = np.zeros((1, 1, 64, 64), np.uint8)
    with FakeBackend(64, failures=[None, BackendError("the device is gone")]) as backend:
        backend.infer(sample)
        with pytest.raises(BackendError, match="the device is gone"):
            backend.infer(sample)
        backend.infer(sample)


def test_latency_is_slept_for_each_batch():
    with FakeBackend(64, latency_s=0.05) as backend:
        start = time.monotonic()
        backend.infer(np.zeros((4, 1, 64, 64), np.uint8))
        assert time.monotonic() - start >= 0.05


def test_it_stands_in_for_a_model(untrained_model):
    with FakeBackend.open(untrained_model) as backend:
        assert backend.size_px == 64
        assert backend.fingerprint.runtime == "fake"


def test_the_map_shows_which_part_of_the_row_is_bright():
    """A part of a cell counts by its area."""
    sample = np.zeros((1, 1, 64, 64), np.uint8)
    sample[0, 0, 16:24, 40:44] = 255  # half of the sixth cell in the third row
    with FakeBackend(64) as backend:
        (scores,) = backend.infer(sample)
    expected = np.zeros((8, 8, 8), np.float32)
    expected[2, 2, 5] = 0.5
    np.testing.assert_array_equal(scores.maps, expected)
    np.testing.assert_array_equal(scores.logits, expected.sum((1, 2)))
