import math

import pytest
import torch

from hipedge.train.losses import FocalLoss, class_balanced_weights


def test_the_weights_are_those_of_the_formula_by_hand():
    # Cui et al. eq. 2 with beta = 0.9: E(1) = 1, E(2) = 1 + 0.9, E(3) = 1 + 0.9 + 0.81.
    inverse = [1.0, 1 / 1.9, 1 / 2.71]
    expected = [3 * value / sum(inverse) for value in inverse]
    assert class_balanced_weights([1, 2, 3], beta=0.9).tolist() == pytest.approx(expected)


def test_the_weights_lie_between_none_and_by_inverse_frequency():
    counts = [10_000, 100]
    ratio = (lambda weights: (weights[1] / weights[0]).item())(class_balanced_weights(counts))
    assert 1 < ratio < 100
    expected = (1 - 0.9999**10_000) / (1 - 0.9999**100)
    assert ratio == pytest.approx(expected, rel=1e-4)


def test_a_category_without_samples_weighs_nothing():
    weights = class_balanced_weights([5, 0, 5])
    assert weights.tolist() == pytest.approx([1.0, 0.0, 1.0])


def test_the_loss_is_that_of_the_formula_by_hand():
    # Two categories with logits 0 and ln 3: probabilities 1/4 and 3/4.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    loss = FocalLoss(torch.tensor([2.0, 0.5]), gamma=2.0)
    first = -2.0 * 0.75**2 * math.log(0.25)
    second = -0.5 * 0.25**2 * math.log(0.75)
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx((first + second) / 2)


def test_without_focus_and_weights_it_is_cross_entropy():
    logits, categories = torch.randn(32, 8), torch.arange(32) % 8
    plain = FocalLoss(torch.ones(8), gamma=0.0)(logits, categories)
    expected = torch.nn.functional.cross_entropy(logits, categories)
    assert plain.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_gradient_is_finite_where_the_network_is_sure():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    FocalLoss(torch.ones(2))(logits, torch.tensor([0, 0])).backward()
    assert torch.isfinite(logits.grad).all()
