"""Guidance of activation maps by the masks of inserted lesions."""

import numpy as np
import pytest
import torch

from hipedge.train.classifier import Classification
from hipedge.train.guidance import NORMAL, guidance_loss
from hipedge.train.losses import FocalLoss
from hipedge.train.network import HipNet
from hipedge.train.recipe import untrained_objective
from hipedge.train.settings import TrainingSettings
from hipedge.types import CATEGORIES, Category, CropGeometry

NECK = CATEGORIES.index(Category.FEMORAL_NECK_FRACTURE)


def mask(rows, columns):
    """The mask of one sample of 64 pixels a side, eight to a cell."""
    marked = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    marked[0, 0, rows, columns] = True
    return marked


def maps(category, row, column):
    """Maps of 8 × 8 cells with evidence in one cell of one category."""
    found = torch.zeros(1, len(CATEGORIES), 8, 8)
    found[0, category, row, column] = 4.0
    return found


def test_evidence_within_the_lesion_costs_nothing_and_elsewhere_much():
    lesion, neck = mask(slice(20, 28), slice(30, 36)), torch.tensor([NECK])
    assert float(guidance_loss(maps(NECK, 3, 4), neck, lesion)) == pytest.approx(0, abs=1e-6)
    assert float(guidance_loss(maps(NECK, 7, 0), neck, lesion)) > 3


def test_evidence_against_normal_has_to_lie_in_the_lesion_too():
    lesion, neck = mask(slice(20, 28), slice(30, 36)), torch.tensor([NECK])
    against = maps(NECK, 3, 4) - maps(NORMAL, 7, 0)
    assert float(guidance_loss(against, neck, lesion)) > 0.3


def test_without_a_mask_there_is_no_loss():
    unknown = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    assert float(guidance_loss(maps(NECK, 7, 0), torch.tensor([NECK]), unknown)) == 0


def test_samples_without_a_mask_do_not_dilute_those_with_one():
    lesion, both = mask(slice(20, 28), slice(30, 36)), torch.tensor([NECK, NECK])
    alone = guidance_loss(maps(NECK, 7, 0), both[:1], lesion)
    mixed = guidance_loss(
        torch.cat([maps(NECK, 7, 0), maps(NECK, 1, 1)]),
        both,
        torch.cat([lesion, torch.zeros_like(lesion)]),
    )
    assert float(mixed) == pytest.approx(float(alone))


def test_the_recipe_guides_by_the_weight_of_its_settings():
    geometry = CropGeometry(size_px=64, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
    settings = TrainingSettings(geometry=geometry, backbone="efficientnet_lite0", guidance=0.7)
    objective = untrained_objective(settings, [10] * len(CATEGORIES))
    assert objective.guidance == 0.7


def test_guidance_moves_the_evidence_of_a_network_into_the_lesion():
    """Ten steps on one batch; without guidance the evidence stays spread over the crop."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (8, 1, 64, 64)).astype(np.uint8))
    categories = torch.full((8,), NECK)
    lesions = mask(slice(0, 16), slice(0, 16)).expand(8, -1, -1, -1)
    spread = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        network = HipNet("efficientnet_lite0", size_px=64)
        objective = Classification(network, FocalLoss(torch.ones(len(CATEGORIES))), weight)
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
        objective.train()
        for _ in range(10):
            optimizer.zero_grad()
            objective(pixels, categories, lesions).backward()
            optimizer.step()
        with torch.no_grad():
            logits, found = network(pixels)
            spread[weight] = float(guidance_loss(found, categories, lesions))
        torch.testing.assert_close(logits, found.sum((2, 3)) + network.bias)
    assert spread[1.0] < 0.7 * spread[0.0]
