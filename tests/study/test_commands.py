"""The study's commands, as a clinic runs them: CSV files and a real database."""

import csv
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.simulated_study import simulate_study, write_study
from hipedge.cli import main
from hipedge.config import SITE_CALIBRATION_FILE
from hipedge.dicom.read import load
from hipedge.errors import Code, InputError
from hipedge.model.card import Card, Status, card_id, card_json
from hipedge.rules.decide import decide
from hipedge.rules.flags import softmax
from hipedge.store.store import Store
from hipedge.study.cases import match_predictions
from hipedge.study.inputs import FilmName, Label
from hipedge.study.recorded import RecordedNames, RecordedPictures, read_recorded_predictions
from hipedge.types import ABNORMAL, CATEGORIES, Category, CropGeometry, Refusal, Side
from tests.builders import RULE, content, film, scored_hip, screened

from .conftest import label, prediction, read_of

RULES = {"model": RULE}


@pytest.fixture
def here(simulated, tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


def test_evaluate_writes_a_report_its_json_and_its_csv(here, simulated, capsys):
    code = run("evaluate", simulated / "labels.csv", "--predictions",
               simulated / "predictions.csv", "--replicates", 100, "--split", "external",
               "--prevalence", "any_acute_fracture=0.05")  # fmt: skip
    assert code == 0
    assert "external: " in capsys.readouterr().out
    assert {path.name for path in (here / "evaluation").iterdir()} == {
        "report.html", "results.json", "tables",
    }  # fmt: skip


def test_readers_says_whether_the_model_is_non_inferior(here, simulated, capsys):
    given = "--labels", simulated / "labels.csv"
    model = "--model-predictions", simulated / "predictions.csv"
    code = run("readers", simulated / "reads.csv", *given, *model, "--replicates", 100)
    assert code == 0
    assert "model less readers, accuracy: " in capsys.readouterr().out
    assert (here / "reader-study" / "report.html").exists()


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_calibrate_writes_a_site_file_that_evaluate_reads(here, simulated, table, capsys):
    """On the hips that it was fitted to the operating points keep what they promise."""
    unsplit = [{k: v for k, v in row.items() if k != "split"}
               for row in rows_of(simulated / "labels.csv")]  # fmt: skip
    given = table("unsplit.csv", unsplit), "--predictions", simulated / "predictions.csv"
    assert run("calibrate", *given) == 0
    assert "temperature: " in capsys.readouterr().out
    assert run("evaluate", *given, "--thresholds", "hipedge.calibration.json",
               "--replicates", 100) == 0  # fmt: skip
    points = {"sensitive", "specific"}
    tables = here / "evaluation/tables"
    assert {row["operating point"] for row in rows_of(tables / "all-operating-points.csv")} == (
        points
    )
    thresholds = rows_of(tables / "all-thresholds.csv")
    assert {row["operating point"] for row in thresholds} == points
    rates = {row["operating point"]: row for row in rows_of(tables / "all-flag-rates.csv")}
    assert float(rates["specific"]["hips without a finding"]) <= 0.10
    for fracture in ("femoral neck fracture", "intertrochanteric fracture"):
        assert float(rates["sensitive"][f"{fracture}, urgent flag"]) >= 0.95
    report = (here / "evaluation/report.html").read_text(encoding="utf-8")
    assert "times the temperature that they were predicted with" in report
    assert "hipedge.calibration.json: SHA-256" in report


@pytest.mark.parametrize(
    "arguments",
    [
        ("sensitivity", "--expected", "0.95", "--half-width", "0.03", "--prevalence", "0.05"),
        ("non-inferiority", "--discordant", "0.15"),
        ("readers", "--accuracy", "0.8", "--gain", "0.06", "--simulations", "20"),
    ],
)
def test_power_prints_hips_and_power_by_formula_and_by_simulation(capsys, arguments):
    assert run("power", *arguments) == 0
    printed = capsys.readouterr().out
    assert "hips" in printed
    assert "by formula" in printed
    assert "by simulation" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "absent.csv", "--predictions", "absent.csv"), "cannot read absent.csv"),
        (("evaluate", "absent.csv", "--prevalence", "fracture"), "is not a name, an equals sign"),
        (("evaluate", "absent.csv", "--thresholds", "absent.json"), "cannot read absent.json"),
        (("power", "sensitivity", "--expected", "2", "--half-width", "0.1"), "must lie between"),
        (
            ("power", "readers", "--accuracy", "0.8", "--gain", "0.06", "--same-reader", "0.97"),
            "too near 1 to be simulated",
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_exits_with_2(here, capsys, arguments, message):
    assert run(*arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_predictions_that_are_not_there_are_an_input_error(here, simulated, capsys, command):
    assert run(command, simulated / "labels.csv", "--predictions", "absent.csv") == 2
    assert "cannot read absent.csv" in capsys.readouterr().err


def test_thresholds_need_probabilities(here, table, capsys):
    """Predictions that name only a category cannot be held against a threshold."""
    names = [str(i) for i in range(4)]
    labels = table("labels.csv", [label(name) for name in names])
    bare = [{"case": name, "side": "right", "category": "normal"} for name in names]
    write_site_thresholds(here / "site.json", {"osteoarthritis": 0.4})
    given = labels, "--predictions", table("bare.csv", bare), "--replicates", 100
    assert run("evaluate", *given) == 0
    assert run("evaluate", *given, "--thresholds", "site.json") == 2
    assert "no hip has the probabilities" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_an_error(here, table, capsys):
    (here / "taken").write_text("a file, not a folder")
    labels = table("labels.csv", [label("1"), label("2")])
    predictions = table("predictions.csv", [prediction("1"), prediction("2")])
    reads = table("reads.csv", [read_of(c, reader) for c in "12" for reader in ("R1", "R2")])
    quick = "--output", "taken", "--replicates", 100
    assert run("evaluate", labels, "--predictions", predictions, *quick) == 2
    assert "taken cannot be written" in capsys.readouterr().err
    given = "--labels", labels, "--model-predictions", predictions
    assert run("readers", reads, *given, *quick) == 2
    assert "taken cannot be written" in capsys.readouterr().err


def test_the_documented_commands_run(here, capsys):
    documented = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    block = documented.split("```console\n")[1].split("```")[0]
    commands = [shlex.split(line.removeprefix("$ ")) for line in block.splitlines()]
    assert commands[0][:3] == ["python", "-m", "benchmarks.simulated_study"]
    write_study(simulate_study(600), here / "simulated", n_read=100)
    for name, *arguments in commands[1:]:
        assert name == "hipedge"
        quick = ("--replicates", 100) if arguments[0] in ("evaluate", "readers") else ()
        assert run(*arguments, *quick) == 0, capsys.readouterr().err


def test_the_benchmark_compares_itself_with_scikit_learn():
    root = Path(__file__).parents[2]
    arguments = ["--cases", "400", "--replicates", "50", "--loop", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.resampling", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert "all metrics: " in done.stdout
    assert "times faster" in done.stdout


def test_simulate_writes_the_three_tables(tmp_path):
    arguments = ["-m", "benchmarks.simulated_study", tmp_path, "--hips", "20", "--read", "10"]
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, *map(str, arguments)], check=True, cwd=root)
    assert {path.name for path in tmp_path.iterdir()} == {
        "labels.csv", "predictions.csv", "reads.csv",
    }  # fmt: skip


def test_without_the_extra_the_commands_say_what_to_install():
    script = (
        "import sys; sys.modules['scipy'] = None\n"
        "from hipedge.cli import main\n"
        "main(['power', 'non-inferiority', '--discordant', '0.1'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'hipedge[study]'" in done.stderr


CARD = Card(
    name="test",
    version="1",
    status=Status.TRAINED,
    status_text="trained for a test",
    input=CropGeometry(64, 160.0, 10.0, 20.0),
    temperature=1.0,
    operating_points={"sensitive": RULE.thresholds, "specific": dict.fromkeys(ABNORMAL, 0.6)},
    min_confidence=RULE.min_confidence,
    age_range_years=None,
    training_data="none",
)


def start(store, model_id="model", name="test"):
    return store.start_run(
        model_id=model_id,
        model_name=name,
        model_status="trained",
        card=card_json(CARD).decode(),
        backend="fake",
        backend_reason="asked for",
        versions={},
    )


@pytest.fixture
def recorded(tmp_path):
    """A database with two hips read on one film, and one film that was not read."""
    path = tmp_path / "cases.db"
    with Store(path) as store:
        run_of_model = start(store)
        hips = scored_hip(Category.OSTEOARTHRITIS), scored_hip(side=Side.LEFT)
        read = screened(film("a", uid="1.2", sex="F", age_years=70.0), *hips)
        refused = film("b", pixels="other", uid="1.3")
        store.record(
            run_of_model,
            [
                read,
                Refusal(
                    refused.source, Code.TRUNCATED, content_hash=refused.content_hash, film=refused
                ),
            ],
            RULE,
        )
    return path


def test_a_database_gives_its_hips_and_its_refusals(recorded):
    with Store(recorded) as store:
        found = list(read_recorded_predictions(store, RULES, RecordedNames()))
    assert [prediction.side for prediction in found] == [Side.RIGHT, Side.LEFT, None]
    expected = decide([scored_hip(Category.OSTEOARTHRITIS).scores[0].logits], RULE)
    assert found[0].category == CATEGORIES.index(Category.OSTEOARTHRITIS)
    assert found[0].probabilities == pytest.approx(expected.probabilities)
    assert found[0].flagged
    assert (found[0].sex, found[0].age_years) == ("F", 70.0)
    assert found[2].code == "truncated"


def test_labels_find_a_database_by_hash_and_count_what_was_not_read(recorded):
    labels = [
        Label(2, FilmName(content_hash=content("a")), Side.RIGHT, 1, "p1"),
        Label(3, FilmName(content_hash=content("a")), Side.LEFT, 1, "p1"),
        Label(4, FilmName(content_hash=content("b")), Side.RIGHT, 3, "p2"),
    ]
    with Store(recorded) as store:
        cases = match_predictions(labels, read_recorded_predictions(store, RULES, RecordedNames()))
    assert cases.answer.tolist() == [1, 0, -1]
    assert cases.reasons == {2: "truncated"}
    assert cases.groups["sex"][0] == ("F",)


def test_films_of_two_models_are_not_mixed(recorded):
    with Store(recorded) as store:
        other = start(store, "other", "second")
        store.record(other, [screened(film("c", pixels="third"))], RULE)
        with pytest.raises(InputError, match=r"several models \(second, test\)"):
            list(read_recorded_predictions(store, {"model": RULE, "other": RULE}, RecordedNames()))


def test_a_film_that_is_gone_has_no_picture(recorded):
    with Store(recorded) as store:
        pictures = RecordedPictures(store, RULES, RecordedNames())
        assert pictures.picture(content("a"), Side.RIGHT) is None
        assert pictures.picture("absent", Side.RIGHT) is None


def test_evaluate_reads_a_database_and_shows_its_films(here):
    """Three films, of which two are missed; one of those is still there to be shown."""
    Image.fromarray(np.full((800, 700), 90, np.uint8)).save("there.png")
    named = load(Path("there.png")).content_hash
    there = replace(film("there"), source=here / "there.png", content_hash=named, shape=(800, 700))
    films = [there, film("gone", pixels="2"), film("right", pixels="3")]
    truths = ["femoral_neck_fracture", "femoral_neck_fracture", "normal"]
    with Store(here / "cases.db") as store:
        store.record(start(store), [screened(each) for each in films], RULE)
    rows = [
        f"{each.content_hash},right,{truth},p{i}"
        for i, (each, truth) in enumerate(zip(films, truths, strict=True))
    ]
    Path("labels.csv").write_text("\n".join(["content_hash,side,category,patient", *rows]))
    assert run("evaluate", "labels.csv", "--db", "cases.db", "--replicates", 100) == 0
    report = (here / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert report.count('src="data:image/png;base64,') == 1
    assert "Model test: trained for a test" in report
    with (here / "evaluation/tables/all-operating-points.csv").open() as file:
        points = {row["operating point"] for row in csv.DictReader(file)}
    assert points == {"as recorded", "sensitive", "specific"}


def test_labels_name_films_by_sha256_where_these_are_still_there(here):
    Image.fromarray(np.full((800, 700), 90, np.uint8)).save("there.png")
    payload = load(Path("there.png"))
    there = replace(
        film("there"),
        source=here / "there.png",
        content_hash=payload.content_hash,
        shape=(800, 700),
    )
    label = Label(2, FilmName(sha256=payload.sha256), Side.RIGHT, 1, "p1")
    names = RecordedNames("sha256")
    with Store(here / "cases.db") as store:
        store.record(start(store), [screened(there), screened(film("gone", pixels="2"))], RULE)
        found = list(read_recorded_predictions(store, RULES, names))
        assert [each.film.sha256 for each in found] == [payload.sha256, None]
        assert match_predictions([label], found).answer.tolist() == [0]
        pictures = RecordedPictures(store, RULES, names)
        assert pictures.picture(payload.sha256, Side.RIGHT) is not None


def write_site_thresholds(path, thresholds, model=None):
    """A site file at twice the card's temperature."""
    content = {
        "format": 1,
        "model": model,
        "temperature_factor": 2.0,
        "operating_points": {"sensitive": thresholds, "specific": thresholds},
    }
    path.write_text(json.dumps(content))


@pytest.fixture
def osteoarthritis(here):
    """Six hips, which the card gives a probability of 0.28 to 0.89, the site file 0.19 to 0.51."""
    films = [film(f"f{i}", pixels=str(i)) for i in range(6)]
    hips = [scored_hip(Category.OSTEOARTHRITIS, sure=1.0 + 0.6 * i) for i in range(6)]
    with Store(here / "hipedge.db") as store:
        start_of = start(store, card_id(CARD))
        store.record(start_of, [screened(f, h) for f, h in zip(films, hips, strict=True)], RULE)
    rows = [f"{each.content_hash},right,osteoarthritis,p{i}" for i, each in enumerate(films)]
    Path("labels.csv").write_text("\n".join(["content_hash,side,category,patient", *rows]))
    return hips


def flagged_shares(here):
    """How many of the hips each operating point flags, and each threshold calls."""
    tables = here / "evaluation/tables"
    flags = {
        row["operating point"]: float(row["sensitivity"])
        for row in rows_of(tables / "all-operating-points.csv")
        if row["flag as a test for"] == "any abnormality"
    }
    called = {
        row["operating point"]: float(row["sensitivity"])
        for row in rows_of(tables / "all-thresholds.csv")
        if row["category"] == "osteoarthritis"
    }
    return flags, called


def share_over(hips, temperature, threshold):
    logits = np.array([hip.scores[0].logits for hip in hips])
    index = CATEGORIES.index(Category.OSTEOARTHRITIS)
    return np.mean([softmax(row, temperature)[index] >= threshold for row in logits])


def test_a_database_is_evaluated_as_the_site_screens(here, osteoarthritis):
    """Before a calibration by the card, afterwards by the calibration: never half and half."""
    assert run("evaluate", "labels.csv", "--replicates", 100) == 0
    flags, called = flagged_shares(here)
    assert called["specific"] == share_over(osteoarthritis, 1.0, 0.6)

    write_site_thresholds(here / SITE_CALIBRATION_FILE, {"osteoarthritis": 0.4}, card_id(CARD))
    assert run("evaluate", "labels.csv", "--replicates", 100) == 0
    flags, called = flagged_shares(here)
    share = share_over(osteoarthritis, 2.0, 0.4)
    assert 0 < share < 1
    assert called == {"sensitive": share, "specific": share}
    assert flags["sensitive"] == share


def test_a_database_is_evaluated_under_the_site_file_that_is_named(here, osteoarthritis):
    write_site_thresholds(here / "other.json", {"osteoarthritis": 0.25})
    assert run("evaluate", "labels.csv", "--thresholds", "other.json", "--replicates", 100) == 0
    share = share_over(osteoarthritis, 2.0, 0.25)
    assert flagged_shares(here)[1] == {"sensitive": share, "specific": share}


def test_a_site_file_of_another_model_is_refused(here, osteoarthritis, capsys):
    write_site_thresholds(here / "other.json", {"osteoarthritis": 0.25}, "another")
    assert run("evaluate", "labels.csv", "--thresholds", "other.json") == 2
    assert "other.json was fitted for another model" in capsys.readouterr().err
