"""Faithfulness of activation maps: what hiding a region shows, against what the map says of it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hipedge.train.classifier import Classification
from hipedge.train.faithfulness import REGIONS, hide, infidelity
from hipedge.train.losses import FocalLoss
from hipedge.train.network import HipNet
from hipedge.train.recipe import untrained_objective
from hipedge.train.settings import TrainingSettings
from hipedge.types import CATEGORIES, CropGeometry


class Local(nn.Module):
    """Each cell sees the contrast of its own pixels, or of those of the cell `away` from it."""

    def __init__(self, away=0):
        super().__init__()
        self.away = away
        self.pool = nn.Identity()
        self.head = nn.Conv2d(1, len(CATEGORIES), 1, bias=False)

    def features(self, pixels):
        contrast = pixels.float() / 255 - GRAY / 255
        return functional.avg_pool2d(contrast, 8).roll(self.away, 3)


GRAY = 100


@pytest.fixture
def pixels():
    """Crops whose mean gray is 100, bright in the middle."""
    crops = np.full((8, 1, 64, 64), 80, np.uint8)
    crops[:, :, 16:48, 16:48] = 160
    return torch.from_numpy(crops)


def test_a_hidden_region_is_gray_and_all_else_as_before(pixels):
    rows, columns = torch.arange(8) % REGIONS, torch.arange(8) // REGIONS
    hidden = hide(pixels, rows, columns)
    for number in range(8):
        region = np.zeros((64, 64), bool)
        top, left = 16 * int(rows[number]), 16 * int(columns[number])
        region[top : top + 16, left : left + 16] = True
        assert (hidden[number, 0].numpy()[region] == GRAY).all()
        np.testing.assert_array_equal(
            hidden[number, 0].numpy()[~region], pixels[number, 0].numpy()[~region]
        )


@pytest.mark.parametrize(("away", "is_faithful"), [(0, True), (2, False)])
def test_a_map_is_faithful_where_its_cells_see_their_own_pixels(pixels, away, is_faithful):
    torch.manual_seed(0)
    network = Local(away)
    with torch.no_grad():
        found = [float(infidelity(network, pixels, network.features(pixels))) for _ in range(20)]
    assert max(found) < 1e-10 if is_faithful else np.mean(found) > 1e-3


def test_the_loss_of_training_has_the_term_with_the_weight_of_its_settings():
    geometry = CropGeometry(size_px=64, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
    settings = TrainingSettings(geometry=geometry, backbone="efficientnet_lite0", faithfulness=0.7)
    counts = [10] * len(CATEGORIES)
    assert untrained_objective(settings, counts).faithfulness == 0.7
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (4, 1, 64, 64)).astype(np.uint8))
    unknown = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    network = HipNet("efficientnet_lite0", size_px=64).eval()
    losses = []
    for weight in (0.0, 0.7, 1.4):
        torch.manual_seed(1)
        objective = Classification(network, FocalLoss(torch.ones(8)), faithfulness=weight)
        with torch.no_grad():
            losses.append(float(objective(pixels, torch.arange(4), unknown)))
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-3)
