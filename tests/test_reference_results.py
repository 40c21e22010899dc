"""The reference model's numbers: what is counted, on made-up answers whose result is known."""

import csv
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from benchmarks import ablation
from benchmarks.reference import gallery, markdown, pointing, real
from benchmarks.reference.joint import joint_macro_f1
from hipedge.errors import Code
from hipedge.model import ModelFolder
from hipedge.model.untrained import untrained_card
from hipedge.rules.decide import Rule, decide
from hipedge.study.cases import Cases
from hipedge.study.estimates import PLAIN, Estimate, Interval, Table
from hipedge.train.data import LabelledCrops
from hipedge.train.manifest import Row
from hipedge.train.settings import TrainingSettings
from hipedge.types import ABNORMAL, CATEGORIES, Category, CropGeometry, Sample, Scores, Side

K = len(CATEGORIES)


def cases_of(truth, answer, patients):
    n = len(truth)
    return Cases(
        films=[str(i) for i in range(n)],
        sides=[Side.RIGHT] * n,
        truth=np.array(truth, np.int8),
        answer=np.array(answer, np.int8),
        probabilities=np.full((n, K), np.nan),
        merged=np.zeros(n, bool),
        flagged=np.full(n, -1, np.int8),
        patients=np.array(patients),
        reasons={},
        groups={},
        unlabelled=0,
    )


@pytest.fixture
def raters():
    """Two classifiers on 400 hips of 200 patients, the second right less often."""
    rng = np.random.default_rng(0)
    truth, patients = rng.integers(0, K, 400), np.arange(400) // 2
    answers = [np.where(rng.random(400) < p, truth, rng.integers(0, K, 400)) for p in (0.8, 0.4)]
    return [cases_of(truth, answer, patients) for answer in answers]


def test_macro_f1_is_scikit_learns_and_is_drawn_together(raters):
    drawn = joint_macro_f1([*raters, raters[0]], replicates=200)
    for (value, _), cases in zip(drawn, raters, strict=False):
        assert value == pytest.approx(f1_score(cases.truth, cases.answer, average="macro"))
    np.testing.assert_array_equal(drawn[0][1], drawn[2][1])
    assert np.quantile(drawn[0][1] - drawn[1][1], 0.025) > 0


def test_the_ablation_sets_each_variant_against_the_plain_one(raters):
    better, worse = (ablation.Trained({"inside": r, "outside": r}, 1.0) for r in raters)
    table = ablation.ablation_table(
        {("ResNet-50", 0): worse, ("+ CBAM", 0): better}, [0], TrainingSettings(epochs=3)
    )
    plain, cbam = table.rows
    assert plain[2] is None
    assert cbam[2].value == pytest.approx(cbam[1].value - plain[1].value)
    assert cbam[2].shown.low > 0
    assert "3 epochs" in table.note


def real_film(folder, probabilities, name="a.jpg"):
    logits = np.log(np.array(probabilities, np.float32))
    rules = {
        point: Rule(point, 1.0, dict.fromkeys(ABNORMAL, threshold), 0.1)
        for point, threshold in (("sensitive", 0.3), ("specific", 0.6))
    }
    findings = {point: decide([logits], rule) for point, rule in rules.items()}
    maps = np.zeros((K, 2, 2), np.float32)
    sample = Sample(np.zeros((1, 32, 32), np.uint8), np.eye(3))
    hip = real.RealHip(None, (sample,), (Scores(logits, maps),), findings)
    return real.RealFilm(name, folder, (hip,))


def with_most(category, p):
    rest = (1 - p) / (K - 1)
    return [p if one is category else rest for one in CATEGORIES]


def test_real_films_are_counted_by_their_folders():
    fracture, fixed, normal = (
        Category.INTERTROCHANTERIC_FRACTURE,
        Category.INTERNAL_FIXATION,
        Category.NORMAL,
    )
    films = [
        real_film("fractured", with_most(fracture, 0.7)),
        real_film("fractured", with_most(fracture, 0.4)),
        real_film("fractured_hardware", with_most(fixed, 0.9)),
        real_film("not_fractured", with_most(normal, 0.9)),
        real_film("not_fractured", with_most(fracture, 0.5)),
        real.RealFilm("b.jpg", "not_fractured", refused=Code.NO_HIP_FOUND),
    ]
    found = real.measure_real(films)
    # Of the four pairs of a fractured and another film, the second of each is once above.
    assert found["AUC, fracture or none"].value == pytest.approx(3 / 4)
    assert found["AUC, fracture or none"].n == 4
    assert found["AUC, hardware or none"].value == 1
    assert found["without either: flagged, sensitive"].value == pytest.approx(1 / 2)
    assert found["without either: flagged, specific"].value == 0
    assert found["fractured: flagged, sensitive"].value == 1
    assert found["with hardware: called so"].value == 1
    # A fixed fracture is no fracture to find: hardware raises no flag.
    assert found["with hardware: flagged, sensitive"].value == 0
    said = real.in_words({"marked by eye": films}).replace("\N{NO-BREAK SPACE}", " ")
    assert "hips marked by eye" in said
    assert "fracture or none 0.750 (" in said
    assert "Of the 2 films with neither" in said
    assert "sensitive and 0.0 % (" in said


def test_the_readme_says_of_real_films_what_was_measured(pytestconfig):
    results = pytestconfig.rootpath / "benchmarks/results/reference.json"
    real_films = json.loads(results.read_text(encoding="utf-8"))["results"]["reference"]["real"]
    measured = {row[""]: row["marked by eye"] for row in real_films["rows"]}
    readme = (pytestconfig.rootpath / "README.md").read_text(encoding="utf-8")
    readme = readme.replace("\N{NO-BREAK SPACE}", " ")
    hardware, fracture = (
        f"{measured[f'AUC, {what} or none']['value']:.3f}" for what in ("hardware", "fracture")
    )
    # An AUC of 1 has no interval.
    assert re.search(rf"hardware or none is {hardware}(,| \()", readme)
    assert re.search(rf"fracture or none {fracture}(\.| \()", readme)
    for point in ("sensitive", "specific"):
        one = measured[f"without either: flagged, {point}"]
        assert f"Of the {one['n']} films with neither" in readme
        assert f"{100 * one['value']:.1f} % (" in readme


def test_a_film_that_was_not_read_is_named():
    films = [real.RealFilm("b.jpg", "not_fractured", refused=Code.NO_HIP_FOUND)]
    rows = real.unread_table({"found": films}).rows
    assert ("found", "films", 1, "") in rows
    assert rows[1][2:] == (1, "b.jpg")
    assert real.measure_real(films)["AUC, hardware or none"].n == 0


def test_centres_marked_by_eye_are_those_of_upright_films(tmp_path, pytestconfig):
    centres = pytestconfig.rootpath / "tests/data/fracatlas_centres.csv"
    with centres.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    given = real.read_centres(centres, [tmp_path / row["file"] for row in rows]).by_film
    assert len(given) == sum(row["kind"] != "turned" for row in rows)
    two = given[str((tmp_path / "IMG0000041.jpg").resolve())]
    assert [(hip.side, hip.marked) for hip in two] == [
        (Side.RIGHT, (138, 340)),
        (Side.LEFT, (356, 336)),
    ]
    (single,) = given[str((tmp_path / "IMG0000099.jpg").resolve())]
    assert single.side is Side.UNKNOWN


def test_a_table_in_markdown_has_its_intervals(tmp_path):
    auc = Estimate(0.75, {"delong": Interval(0.5, 0.9)}, 12, PLAIN)
    table = Table("t", "Title", ("", "AUC", "films"), (("all", auc, 1200),), "A note.")
    text = markdown.markdown(table)
    assert "| all | 0.750 (0.500 to 0.900) | 1,200 |" in text
    assert text.endswith("A note.")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- part -->\nold\n<!-- /part -->\nafter\n")
    markdown.replace_part(page, "part", "new")
    assert page.read_text() == "before\n<!-- part -->\nnew\n<!-- /part -->\nafter\n"
    with pytest.raises(ValueError, match="no part"):
        markdown.replace_part(page, "other", "new")


def tile(caption, confidence, correct):
    return gallery.Tile(
        np.zeros((64, 64), np.uint8), np.eye(2, dtype=np.float32), caption, confidence, correct
    )


def test_the_gallery_shows_the_surest_first_and_right_before_wrong():
    tiles = [tile("a", 0.5, True), tile("b", 0.9, True), tile("c", 0.6, False)]
    chosen = gallery.choose(tiles)
    assert [tile.caption if tile else None for tile in chosen] == ["b", "a", None, "c"]


def test_the_gallery_shows_each_crop_under_its_own_truth():
    """Every crop is filled with its category's number, and every prediction is that number."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(K), 5))
    pixels = np.stack([np.full((1, 64, 64), k, np.uint8) for k in order])
    row = Row(1, Path("film.dcm"), Side.RIGHT, Category.NORMAL, "p")
    rows = tuple(replace(row, category=CATEGORIES[k]) for k in order)

    class Reader:
        def infer(self, batch):
            for crop in batch:
                logits = np.zeros(K, np.float32)
                logits[crop[0, 0, 0]] = 5.0
                yield Scores(logits, np.zeros((K, 2, 2), np.float32))

    model = ModelFolder(Path(), untrained_card(0, CropGeometry(64, 160.0, 10.0, 20.0)), "")
    sheet = gallery.phantom_rows(LabelledCrops(pixels, rows), model, Reader())
    assert [heading for heading, _ in sheet] == [gallery.SHORT[c] for c in CATEGORIES]
    for k, (heading, tiles) in enumerate(sheet):
        assert len(tiles) == gallery.EACH
        for shown in tiles:
            assert (shown.pixels == k).all()
            assert shown.correct
            assert shown.caption.startswith(heading)


def test_a_sheet_has_a_place_for_every_tile(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    shown = gallery.Tile(pixels, np.eye(2, dtype=np.float32), "normal 90%", 0.9, True)
    sheet = gallery.draw_sheet([("one", [shown, None, shown]), ("two", [shown])])
    gallery.save(sheet, tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as written:
        assert written.size == sheet.size
    assert (tmp_path / "sheet.jpg").stat().st_size <= gallery.MOST_BYTES
    shown = gallery.both_ways(shown)
    assert shown.shape == (gallery.TILE_PX, 2 * gallery.TILE_PX, 3)
    # The heat lies where the map has evidence, and nowhere on the plain half.
    redness = shown[..., 0].astype(int) - shown[..., 2]
    assert redness[:, : gallery.TILE_PX].max() == 0
    assert redness[:20, gallery.TILE_PX : gallery.TILE_PX + 20].mean() > 20


def test_real_radiographs_are_kept_out_of_a_repository(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path / "checkout"], check=True)
    assert gallery.is_in_a_repository(tmp_path / "checkout/docs/img")
    assert not gallery.is_in_a_repository(tmp_path / "elsewhere")


def test_a_map_points_at_a_lesion_where_its_highest_cell_holds_a_pixel_of_the_mask():
    activation = np.zeros((4, 4), np.float32)
    activation[1, 2] = 1.0
    mask = np.zeros((64, 64), bool)
    mask[31, 47] = True  # the last pixel of that cell
    assert pointing.touches_mask(activation, mask)
    mask[31, 47], mask[32, 47], mask[31, 48] = False, True, True
    assert not pointing.touches_mask(activation, mask)


@pytest.mark.parametrize("honest", [True, False])
def test_occlusion_tells_maps_that_point_at_the_evidence_from_others(honest):
    """A network that looks at one bright region, and a map that is there or elsewhere."""

    class Looker:
        def infer(self, batch):
            for crop in batch:
                logits = np.zeros(K, np.float32)
                logits[3] = crop[0, 16:32, 32:48].mean() / 25
                maps = np.zeros((K, 8, 8), np.float32)
                maps[(3, 2, 5) if honest else (3, 7, 0)] = 1.0
                yield Scores(logits, maps)

    pixels = np.zeros((1, 64, 64), np.uint8)
    pixels[0, 16:32, 32:48] = 250
    assert pointing.highest_region_counts_most(pixels, Looker()) == honest
