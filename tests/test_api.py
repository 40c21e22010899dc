"""The Python API, used as a notebook or another service would: by the documents' own examples."""

import ast
import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hipedge
from hipedge import (
    Case,
    Category,
    Code,
    HipedgeError,
    InputError,
    ModelFolder,
    Refusal,
    Screened,
    Settings,
    State,
    StoreError,
    draw,
    evaluate,
    open_model,
    read_cases,
    screen,
    worklist,
)

ROOT = Path(__file__).parents[1]
FILMS = ("wg04/RG2_RLE.dcm", "wg04/RG1_J2KI_chest.dcm", "radoss_ddh/331_DDH_1.dcm")


def code_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


@pytest.fixture
def clinic(tmp_path, monkeypatch, shared_data):
    """A working folder with three real films, one of them of a chest, and labels of their hips."""
    monkeypatch.chdir(tmp_path)
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for name in FILMS:
        (incoming / Path(name).name).symlink_to((shared_data / name).resolve())
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "side", "category", "patient"))
        for name, side in (("331_DDH_1.dcm", "left"), ("331_DDH_1.dcm", "right")):
            writer.writerow((f"incoming/{name}", side, "developmental_dysplasia", "331"))
        writer.writerow(("incoming/RG2_RLE.dcm", "unknown", "normal", "RG2"))
    return tmp_path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["docs/api.md", "README.md"])
def test_the_examples_run_one_after_the_other_as_in_a_notebook(clinic, page, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra study")
    blocks = code_blocks(page)
    assert blocks
    notebook = {"__name__": "notebook"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec"), notebook)
    printed = capsys.readouterr().out
    assert "RG1_J2KI_chest.dcm" in printed
    if page == "docs/api.md":
        assert {path.name for path in clinic.iterdir()} >= {"outcome.png", "case.png", "cases.db"}
        assert (clinic / "evaluation/report.html").stat().st_size > 10_000
        assert "no such file or folder" in printed


def test_the_first_example_runs_as_a_script_too(clinic):
    """One that has no `if __name__ == "__main__"`: worker processes do not run it again."""
    script = clinic / "example.py"
    script.write_text("print('once')\n" + code_blocks("README.md")[0])
    done = subprocess.run(
        [sys.executable, script.name], cwd=clinic, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert "RG1_J2KI_chest.dcm was not read: wrong_body_part" in done.stdout
    assert (clinic / "331_DDH_1.png").exists()


def test_in_memory_every_file_has_its_outcome_and_nothing_is_left_on_disk(clinic):
    (clinic / "incoming/broken.dcm").write_text("no film")
    before = sorted(clinic.rglob("*"))
    progress = []
    outcomes = screen("incoming", progress=lambda *counts: progress.append(counts))
    assert sorted(clinic.rglob("*")) == before
    assert [type(outcome) for outcome in outcomes] == [Screened, Refusal, Screened, Refusal]
    assert [outcome.code for outcome in outcomes[1::2]] == [Code.WRONG_BODY_PART, Code.NOT_AN_IMAGE]
    assert all(len(outcome.hips) == len(outcome.findings) >= 1 for outcome in outcomes[::2])
    assert progress[-1] == (4, 4)


def test_what_a_database_keeps_is_what_was_returned(clinic):
    outcomes = screen("incoming", database="cases.db")
    assert screen(["incoming", Path("incoming/RG2_RLE.dcm")], database="cases.db") == []
    cases = {case.path: case for case in read_cases("cases.db")}
    assert len(cases) == len(outcomes) == len(FILMS)
    for outcome in outcomes:
        if isinstance(outcome, Screened):
            assert cases[outcome.film.source].findings == outcome.findings
        else:
            assert cases[outcome.source].code is outcome.code


def flagged_for_osteoarthritis(findings):
    return sum(Category.OSTEOARTHRITIS in finding.flagged_for for finding in findings)


def test_thresholds_apply_to_what_is_recorded_and_to_what_is_screened_alike(clinic):
    film = "incoming/331_DDH_1.dcm"
    for threshold in (1.0, 0.0):
        settings = Settings(thresholds={Category.OSTEOARTHRITIS: threshold})
        (outcome,) = screen(film, settings=settings)
        screen(film, database="cases.db")
        recorded = [item.finding for item in worklist("cases.db", settings=settings).flagged]
        expected = 0 if threshold else len(outcome.hips)
        assert flagged_for_osteoarthritis(outcome.findings) == expected
        assert flagged_for_osteoarthritis(recorded) == expected


def test_the_model_may_be_a_folder_or_one_that_was_opened(clinic, untrained_model):
    film, settings = "incoming/RG2_RLE.dcm", Settings(backend="onnxruntime", workers=1)
    opened = open_model(untrained_model.path)
    assert isinstance(opened, ModelFolder)
    results = [
        screen(film, model=model, settings=settings)
        for model in (opened, str(untrained_model.path), untrained_model.path)
    ]
    findings = [outcome.findings for (outcome,) in results]
    assert findings[0] == findings[1] == findings[2]
    assert findings[0] != screen(film)[0].findings


def test_marked_hips_override_the_locator(clinic):
    (clinic / "hips.csv").write_text("path,side,x,y\nincoming/RG2_RLE.dcm,left,900,900\n")
    (outcome,) = screen("incoming/RG2_RLE.dcm", hips="hips.csv")
    assert [scored.hip.centre_px for scored in outcome.hips] == [(900, 900)]


def test_a_case_is_drawn_alike_from_the_database_and_from_memory(clinic):
    (outcome,) = screen("incoming/331_DDH_1.dcm", database="cases.db")
    (case,) = read_cases("cases.db")
    assert isinstance(case, Case)
    height = min(draw(case).height, draw(outcome).height) - 100  # the captions may differ
    from_case, from_memory = (np.asarray(draw(shown))[:height] for shown in (case, outcome))
    # Heat maps are stored in half precision, which moves some pixels by one grey level.
    np.testing.assert_allclose(from_case.astype(int), from_memory.astype(int), atol=1)
    colour = np.ptp(from_case.astype(int), axis=2)  # the film is grey, boxes and heat are not
    assert (colour > 30).mean() > 0.01


def test_a_film_that_has_changed_since_is_not_drawn(clinic):
    film = clinic / "film.dcm"
    shutil.copy(clinic / "incoming/RG2_RLE.dcm", film)
    (outcome,) = screen(film)
    film.unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        draw(outcome)
    shutil.copy(clinic / "incoming/331_DDH_1.dcm", film)
    with pytest.raises(InputError, match="no longer holds"):
        draw(outcome)


def test_only_recorded_results_of_the_chosen_time_are_on_the_worklist(clinic):
    from datetime import datetime, timedelta

    screen("incoming", database="cases.db")
    soon = datetime.now().astimezone() + timedelta(hours=1)
    assert worklist("cases.db", since=soon).flagged == ()
    assert worklist("cases.db", since=soon - timedelta(hours=2)) != ()
    assert {case.state for case in read_cases("cases.db")} == {
        State.SCREENED,
        State.NOT_APPLICABLE,
    }


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: screen("nowhere"), InputError),
        (lambda: read_cases("none.db"), StoreError),
        (lambda: worklist("none.db"), StoreError),
        (lambda: open_model("nowhere"), HipedgeError),
        (lambda: evaluate("labels.csv"), InputError),
        (lambda: evaluate("labels.csv", database="a.db", predictions="b.csv"), InputError),
    ],
)
def test_a_mistake_raises_an_error_of_hipedge(tmp_path, monkeypatch, call, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, HipedgeError)
    assert list(tmp_path.iterdir()) == []


def test_the_package_offers_the_whole_api_and_imports_it_only_when_used():
    from hipedge import api

    assert hipedge.__all__ == api.__all__
    assert set(hipedge.__all__) <= set(dir(hipedge))
    assert all(getattr(hipedge, name) is getattr(api, name) for name in hipedge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hipedge.nothing  # noqa: B018
    script = (
        "import sys, hipedge\n"
        "assert 'hipedge.api' not in sys.modules and 'numpy' not in sys.modules\n"
        "from hipedge import Finding\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_type_checker_sees_the_same_names_as_the_interpreter():
    tree = ast.parse((ROOT / "hipedge/__init__.py").read_text("utf-8"))
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "hipedge.api"
        for alias in node.names
    }
    assert names == set(hipedge.__all__)


@pytest.mark.slow
def test_a_users_script_passes_a_strict_type_check(tmp_path):
    script = "\n".join(code_blocks("docs/api.md")) + "\nreveal_type(draw(cases[0]))\n"
    (tmp_path / "notebook.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "notebook.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert 'Revealed type is "PIL.Image.Image"' in done.stdout
