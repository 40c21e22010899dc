"""Distillation: a network that learns from another, without labels."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from hipedge.train.distill import Distillation, divergence, in_cells
from hipedge.train.distributed import distributed_context
from hipedge.train.loop import Schedule, fit
from hipedge.train.network import HipNet
from hipedge.types import CATEGORIES

STEPS, BATCH = 8, 4


class Looks(Dataset):
    """Random crops of 64 pixels a side; one of them may fail to be read, once."""

    def __init__(self, broken=None):
        rng = np.random.default_rng(0)
        self.pixels = torch.from_numpy(rng.integers(0, 256, (16, 1, 64, 64)).astype(np.uint8))
        self.broken, self.read = broken, 0

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, key):
        self.read += 1
        if self.read == self.broken:
            raise KeyboardInterrupt
        return self.pixels[key[1]], 0, torch.zeros(1, 64, 64, dtype=torch.bool)


def objective():
    torch.manual_seed(0)
    student, teacher = (HipNet("efficientnet_lite0", size_px=64) for _ in range(2))
    return Distillation(student, teacher)


def distilled(folder, samples):
    schedule = Schedule(steps=STEPS, batch_size=BATCH, learning_rate=3e-3)
    ours = objective()
    with distributed_context("cpu") as place:
        fit(ours, samples, lambda network: 0.0, schedule, folder, place=place)
    return ours


def loss_of(ours):
    pixels = Looks().pixels
    unknown = torch.zeros(len(pixels), dtype=torch.int64)
    with torch.no_grad():
        ours.train()
        return float(ours(pixels, unknown, torch.zeros_like(pixels, dtype=torch.bool)))


def test_a_student_comes_nearer_to_its_teacher_which_stays_as_it_is(tmp_path):
    before = objective()
    after = distilled(tmp_path, Looks())
    assert loss_of(after) < 0.8 * loss_of(before)
    for name, value in before.teacher.state_dict().items():
        torch.testing.assert_close(after.teacher.state_dict()[name], value, rtol=0, atol=0)
    assert not any(module.training for module in after.teacher.modules())


def test_an_interrupted_distillation_ends_with_the_same_weights(tmp_path):
    """Those of the projection too, which is no part of the network."""
    for folder in ("once", "twice"):
        (tmp_path / folder).mkdir()
    whole = distilled(tmp_path / "once", Looks())
    with pytest.raises(KeyboardInterrupt):
        distilled(tmp_path / "twice", Looks(broken=6 * BATCH))
    resumed = distilled(tmp_path / "twice", Looks())
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_in_larger_cells_maps_still_add_up_to_the_logits():
    """ResNet-50 sees 256 pixels in 8 × 8 cells, EfficientNet-lite0 in 16 × 16."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 5, 16, 16, generator=generator)
    maps = torch.rand(2, len(CATEGORIES), 16, 16, generator=generator)
    fewer, added = in_cells(features, maps, (8, 8))
    torch.testing.assert_close(added.sum((2, 3)), maps.sum((2, 3)))
    torch.testing.assert_close(added[0, 0, 0, 0], maps[0, 0, :2, :2].sum())
    torch.testing.assert_close(fewer[0, 0, 0, 0], features[0, 0, :2, :2].mean())


def test_the_divergence_is_that_of_softened_probabilities():
    ours, theirs = torch.zeros(1, len(CATEGORIES)), torch.zeros(1, len(CATEGORIES))
    theirs[0, 0] = 2.0
    assert float(divergence(theirs, theirs)) == pytest.approx(0, abs=1e-6)
    p = torch.softmax(theirs / 2, 1)
    expected = 4 * float((p * (p / (1 / len(CATEGORIES))).log()).sum())
    assert float(divergence(ours, theirs)) == pytest.approx(expected, rel=1e-5)
