"""Traces of insertion must say nothing: no network may tell redrawn hips from untouched ones."""

import numpy as np
import pytest

from hipedge.insertion import DrawInserted
from hipedge.types import Category, CropGeometry

torch = pytest.importorskip("torch")

GEOMETRY = CropGeometry(size_px=128, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
CHANCE_AT_MOST = 0.6
PER_HIP = 8
EPOCHS = 8


def redrawn_and_untouched(draw, seed):
    """Every hip of a split, redrawn without a lesion (1) and untouched (0)."""
    pixels, labels = [], []
    for hip in draw.backgrounds.of(draw.split):
        for copy in range(PER_HIP):
            key = np.random.SeedSequence((seed, int(hip), copy))
            redrawn = draw.sample(key, category=Category.NORMAL, grade="kl0", background=int(hip))
            pixels += [redrawn.pixels, draw.untouched(key, int(hip))]
            labels += [1.0, 0.0]
    return torch.from_numpy(np.stack(pixels)), torch.tensor(labels)


def residual_and_picture(pixels):
    """The picture, and beside it what its finest detail is: where traces of resampling lie."""
    picture = pixels.float() / 255.0 - 0.5
    smooth = torch.nn.functional.avg_pool2d(picture, 3, 1, 1)
    return torch.cat([picture, 8.0 * (picture - smooth)], dim=1)


def small_network():
    layers, width = [], 2
    for out in (16, 32, 48, 64):
        layers += [
            torch.nn.Conv2d(width, out, 3, stride=2, padding=1),
            torch.nn.BatchNorm2d(out),
            torch.nn.ReLU(),
        ]
        width = out
    return torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(width, 1)
    )


def trained(pixels, labels, seed):
    torch.manual_seed(seed)
    network = small_network().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(64):
            inputs = residual_and_picture(pixels[batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                network(inputs)[:, 0], labels[batch]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval()


def auc(scores, labels):
    order = np.argsort(scores)
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positive = labels > 0.5
    n = positive.sum()
    return (ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(labels) - n))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_network_cannot_tell_redrawn_hips_from_untouched_ones(fracatlas):
    train = redrawn_and_untouched(DrawInserted(fracatlas, GEOMETRY, "train"), seed=1)
    network = trained(*train, seed=0)
    with torch.no_grad():
        found = []
        for split in ("val", "test"):
            held_out = redrawn_and_untouched(DrawInserted(fracatlas, GEOMETRY, split), seed=2)
            scores = torch.cat([network(residual_and_picture(p)) for p in held_out[0].split(256)])
            found.append((scores[:, 0].numpy(), held_out[1].numpy()))
    scores, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    assert auc(scores, labels) <= CHANCE_AT_MOST


def test_the_measure_sees_traces_where_there_are_some():
    # The same network on noise that was resampled, against noise that was not.
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (160, 1, 64, 64), dtype=np.uint8)
    blurred = ((sharp.astype(np.float32) + np.roll(sharp, 1, axis=3)) / 2).astype(np.uint8)
    pixels = torch.from_numpy(np.concatenate([sharp, blurred]))
    labels = torch.cat([torch.zeros(160), torch.ones(160)])
    order = torch.randperm(320, generator=torch.Generator().manual_seed(0))
    train, held_out = order[:240], order[240:]
    network = trained(pixels[train], labels[train], seed=0)
    with torch.no_grad():
        scores = network(residual_and_picture(pixels[held_out]))[:, 0].numpy()
    assert auc(scores, labels[held_out].numpy()) > 0.95
