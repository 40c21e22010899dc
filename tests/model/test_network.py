"""The network: its parts against their papers' formulas, and what it promises about its maps."""

import copy
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

from hipedge.errors import ConfigError, ModelError
from hipedge.model.untrained import synthetic_crops, untrained_card
from hipedge.types import CropGeometry

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from timm.layers.cbam import CbamModule  # noqa: E402

from hipedge.train.attention import Cbam  # noqa: E402
from hipedge.train.backbones import (  # noqa: E402
    LITE0_INPUT_SCALE,
    LITE0_PACKAGE,
    LITE0_WEIGHTS,
)
from hipedge.train.network import (  # noqa: E402
    BYTE_CENTRE,
    BYTE_SCALE,
    Checkpoint,
    GeneralizedMean,
    HipNet,
    score,
    untrained_network,
)

GEOMETRY = CropGeometry(64, 160.0, 10.0, 20.0)


@pytest.fixture(scope="module")
def samples():
    return synthetic_crops(64)


@pytest.fixture(scope="module")
def network(samples):
    return untrained_network(0, samples)


@pytest.fixture(scope="module")
def lite0(samples):
    return untrained_network(0, samples, "efficientnet_lite0")


@pytest.fixture(scope="module")
def imagenet_lite0():
    """EfficientNet-lite0 from ImageNet; its head is random."""
    torch.manual_seed(0)
    network = HipNet("efficientnet_lite0", size_px=128)
    network.backbone.load_imagenet()
    return network


def features(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((2, 5, 3, 4), generator=generator) * 10 + 0.01


@pytest.mark.parametrize("p", [1.0, 3.0, 4.5])
def test_gem_is_the_generalised_mean_of_each_channel(p):
    x = features()
    pooled = GeneralizedMean(p, learned=True)(x).sum((2, 3))
    expected = (x.double() ** p).mean((2, 3)) ** (1 / p)
    torch.testing.assert_close(pooled.double(), expected, rtol=1e-5, atol=0)


def test_gem_gives_each_position_the_share_of_its_power():
    x = features()
    spread = GeneralizedMean(3.0, learned=True)(x)
    shares = spread / spread.sum((2, 3), keepdim=True)
    torch.testing.assert_close(shares, x**3 / (x**3).sum((2, 3), keepdim=True))


@pytest.mark.parametrize("p", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("value", [0.0, 65504.0])
def test_gem_stays_finite_over_the_whole_range_of_half_precision(value, p):
    pooled = GeneralizedMean(p, learned=True)(torch.full((1, 1, 8, 8), value)).sum()
    assert float(pooled.detach()) == pytest.approx(max(value, 1e-3), rel=1e-4)


def test_the_power_of_gem_is_learned(network, samples):
    network.zero_grad()
    network.eval()(torch.from_numpy(samples[:2]))[0].square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert network.pool.p.grad != 0


def test_attention_in_a_block_is_that_of_the_paper(network):
    """Woo et al., 2018, equations 2 and 3, with the batch normalisation of the authors' code."""
    block = network.backbone.layer2[1].eval()
    x = torch.randn((2, 512, 6, 6), generator=torch.Generator().manual_seed(1))
    channel, spatial = block.se.channel, block.se.spatial

    def mlp(v):
        return torch.relu(v @ channel.fc1.weight[:, :, 0, 0].T) @ channel.fc2.weight[:, :, 0, 0].T

    gate = torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))
    refined = x * gate[:, :, None, None]
    both = torch.stack([refined.mean(1), refined.amax(1)], 1)
    convolved = torch.nn.functional.conv2d(both, spatial.conv.conv.weight, padding=3)
    expected = refined * torch.sigmoid(spatial.conv.bn(convolved))

    assert channel.fc1.weight.shape == (512 // 16, 512, 1, 1)
    assert spatial.conv.conv.weight.shape == (1, 2, 7, 7)
    torch.testing.assert_close(block.se(x), expected)


def test_every_block_has_attention(network):
    blocks = [
        block for layer in range(1, 5) for block in getattr(network.backbone, f"layer{layer}")
    ]
    assert len(blocks) == 16
    assert all(block.se is not None for block in blocks)


@pytest.mark.parametrize(("size_px", "stride"), [(256, 32), (64, 16)])
def test_without_attention_and_gem_it_is_a_plain_resnet50(samples, size_px, stride):
    torch.manual_seed(0)
    ours = HipNet("resnet50", size_px=size_px).train()
    for name, parameter in ours.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)
    for layer in range(1, 5):
        for block in getattr(ours.backbone, f"layer{layer}"):
            block.se = None
    ours.pool = GeneralizedMean(1.0, learned=False)
    plain = timm.create_model("resnet50", in_chans=1, num_classes=8, output_stride=stride).train()
    plain.load_state_dict(
        {
            **ours.backbone.state_dict(),
            "fc.weight": ours.head.weight[:, :, 0, 0],
            "fc.bias": ours.bias,
        }
    )
    pixels = torch.from_numpy(samples[::8])
    with torch.no_grad():
        expected = plain((pixels.float() - BYTE_CENTRE) / BYTE_SCALE)
        assert expected.std(0).min() > 0.1
        torch.testing.assert_close(ours(pixels)[0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet_lite0"])
@pytest.mark.parametrize(("size_px", "least"), [(128, 8), (256, 8)])
def test_maps_have_at_least_eight_positions_a_side(backbone, size_px, least):
    network = HipNet(backbone, size_px=size_px).eval()
    with torch.no_grad():
        _, maps = network(torch.zeros((1, 1, size_px, size_px), dtype=torch.uint8))
    assert maps.shape[:2] == (1, 8)
    assert min(maps.shape[2:]) >= least


def test_a_map_of_lite0_sums_to_its_logit_less_the_bias(imagenet_lite0):
    samples = synthetic_crops(128)[::8]
    logits, maps = score(imagenet_lite0, samples)
    assert maps.shape == (8, 8, 8, 8)
    bias = imagenet_lite0.bias.detach().numpy()
    assert np.abs(maps.sum((2, 3)) + bias - logits).max() < 1e-5


def test_lite0_from_imagenet_has_the_features_of_timms_with_the_same_weights(imagenet_lite0):
    """By the layers' order the weights reach the layers that they were trained for."""
    path = distribution(LITE0_PACKAGE).locate_file(LITE0_WEIGHTS)
    weights = torch.load(str(path), map_location="cpu", weights_only=True)
    theirs = timm.create_model("efficientnet_lite0", bn_eps=1e-3)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights.values(), strict=True)))
    for stage, pad in ((2, (1, 2, 1, 2)), (3, (0, 1, 0, 1))):  # more behind than before
        strided = theirs.blocks[stage][0].conv_dw
        strided.padding = (0, 0)
        padded = torch.nn.Sequential(torch.nn.ZeroPad2d(pad), strided)
        theirs.blocks[stage][0].conv_dw = padded
    gray = torch.rand((2, 1, 128, 128), generator=torch.Generator().manual_seed(1)) * 2 - 1
    backbone = imagenet_lite0.backbone.eval()
    with torch.no_grad():
        expected = theirs.eval().forward_features(gray.expand(-1, 3, -1, -1))
        found = backbone.bn1(backbone.conv_stem(gray / LITE0_INPUT_SCALE))
        for stage in backbone.blocks:
            found = stage(found)
        found = theirs.bn2(theirs.conv_head(found))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_fine_tuning_lite0_changes_neither_its_first_stages_nor_its_statistics(imagenet_lite0):
    network = copy.deepcopy(imagenet_lite0)
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    network.train()
    for _ in range(2):
        network(torch.from_numpy(synthetic_crops(128)[:4]))[0].square().sum().backward()
        optimizer.step()
    after = network.backbone.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.")
    statistics = {n for n in before if n.startswith("blocks") and "running" in n}
    kept = statistics | {n for n in before if n.startswith(frozen)}
    assert kept <= same
    assert not (same - kept) & {name for name in before if name.endswith("weight")}


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="resnet50 or efficientnet_lite0"):
        HipNet("vgg16")


def test_a_map_sums_to_its_logit_less_the_bias(network, samples):
    logits, maps = score(network, samples)
    bias = network.bias.detach().numpy()
    assert maps.shape == (64, 8, 4, 4)
    assert np.abs(maps.sum((2, 3)) + bias - logits).max() < 1e-5


def test_an_untrained_network_tells_samples_apart(network, samples):
    logits, _ = score(network, samples)
    np.testing.assert_allclose(logits.std(0), 1, atol=0.05)
    np.testing.assert_allclose(logits.mean(0), 0, atol=1e-3)
    assert len(set(logits.argmax(1))) == 8


def test_scores_depend_neither_on_the_batch_nor_on_the_place_in_it(network, samples):
    together, _ = score(network, samples[:5])
    for i in range(5):
        alone, _ = score(network, samples[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-4)


def test_a_seed_gives_the_same_network_and_leaves_torchs_own_seed_alone(network, samples):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again, other = untrained_network(0, samples), untrained_network(1, samples)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(again.head.weight, network.head.weight)
    assert not torch.equal(other.head.weight, network.head.weight)


def test_a_backbone_in_half_precision_changes_no_logit_by_more_than_two_hundredths(
    network, samples
):
    half = copy.deepcopy(network)
    half.backbone.half()
    logits, maps = score(half, samples[::8])
    assert logits.dtype == maps.dtype == np.float32
    assert np.abs(logits - score(network, samples[::8])[0]).max() <= 0.02


def test_in_mixed_precision_the_head_stays_in_single(network, samples):
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits, maps = network.eval()(torch.from_numpy(samples[:2]))
    assert logits.dtype == maps.dtype == torch.float32
    np.testing.assert_allclose((maps.sum((2, 3)) + network.bias - logits).detach(), 0, atol=1e-5)


def test_features_whose_cubes_overflow_half_precision_give_finite_scores(network, samples):
    loud = copy.deepcopy(network)
    loud.backbone.layer4[-1].bn3.weight.data *= 1000
    loud.backbone.half()
    inputs = []
    loud.pool.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    logits, maps = score(loud, samples[:2])
    assert torch.isinf(inputs[0].half() ** 3).any()
    assert np.isfinite(logits).all()
    assert np.isfinite(maps).all()


def test_a_checkpoint_keeps_network_card_and_golden_samples(network, samples, tmp_path):
    card = untrained_card(0, GEOMETRY)
    Checkpoint(network, card, samples).save(tmp_path / "checkpoint.pt")
    kept = Checkpoint.load(tmp_path / "checkpoint.pt")
    assert kept.card == card
    assert np.array_equal(kept.golden_samples, samples)
    assert np.array_equal(score(kept.network, samples[:4])[0], score(network, samples[:4])[0])


def test_a_checkpoint_keeps_its_backbone(lite0, samples, tmp_path):
    Checkpoint(lite0, untrained_card(0, GEOMETRY), samples).save(tmp_path / "checkpoint.pt")
    kept = Checkpoint.load(tmp_path / "checkpoint.pt").network
    assert kept.backbone_name == "efficientnet_lite0"
    assert np.array_equal(score(kept, samples[:4])[0], score(lite0, samples[:4])[0])


def test_a_checkpoint_of_the_first_release_is_refused_with_what_to_do(network, samples, tmp_path):
    Checkpoint(network, untrained_card(0, GEOMETRY), samples).save(tmp_path / "checkpoint.pt")
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del content["backbone"]
    content["settings"] = {"cbam": True, "gem": True}
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match=r"hipedge 0\.1.*train again"):
        Checkpoint.load(tmp_path / "checkpoint.pt")


def test_a_checkpoint_of_an_unknown_backbone_names_it(network, samples, tmp_path):
    Checkpoint(network, untrained_card(0, GEOMETRY), samples).save(tmp_path / "checkpoint.pt")
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({**content, "backbone": "vgg16"}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="no backbone 'vgg16'"):
        Checkpoint.load(tmp_path / "checkpoint.pt")


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        Checkpoint.load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("content", [{}, [], {"settings": {"depth": 3}}, {"settings": {}}])
def test_another_file_of_torch_is_no_checkpoint(content, tmp_path):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="not a checkpoint"):
        Checkpoint.load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04 not a zip"])
def test_a_file_that_is_not_of_torch_is_no_checkpoint(data, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(data)
    with pytest.raises(ModelError, match="not a checkpoint"):
        Checkpoint.load(tmp_path / "checkpoint.pt")


class Payload:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"settings": Payload()}, "checkpoint.pt")
    with pytest.raises(ModelError, match="not a checkpoint"):
        Checkpoint.load(Path("checkpoint.pt"))
    assert not Path("ran").exists()


@pytest.mark.parametrize("training", [True, False])
def test_attention_is_that_of_timm_by_weights_and_result(training):
    torch.manual_seed(0)
    theirs = CbamModule(32).train(training)
    ours = Cbam(32).train(training)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 32, 6, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def test_attention_has_the_gradient_of_timm_where_no_two_values_are_highest():
    torch.manual_seed(0)
    theirs, ours = CbamModule(32), Cbam(32)
    ours.load_state_dict(theirs.state_dict())
    gradients = []
    for module in (theirs, ours):
        x = torch.randn(2, 32, 6, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
        module(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_a_cell_of_lite0s_map_is_centred_on_the_pixels_that_it_covers(imagenet_lite0):
    """The centroid of what the stage at 1/16 responds to, for a position in the middle."""
    backbone = copy.deepcopy(imagenet_lite0.backbone).eval()
    seen = []
    backbone.blocks[4].register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    noise = torch.randn((16, 1, 256, 256), generator=torch.Generator().manual_seed(0)) / 2
    noise.requires_grad_()
    backbone(noise)
    seen[0][:, :, 8, 8].square().sum().backward()
    weight = noise.grad.square().sum((0, 1))
    pixels = torch.arange(256) + 0.5
    centre = torch.stack([weight.sum(1) @ pixels, weight.sum(0) @ pixels]) / weight.sum()
    torch.testing.assert_close(centre, torch.full((2,), 8.5 * 16), rtol=0, atol=2.0)
