"""A new category needs one line in `types`, its phantom, and nothing else in the code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hipedge

PACKAGE = Path(hipedge.__file__).parent
NEW = "femoroacetabular_impingement"

# Each insertion is a file, the line that it goes behind, and the new line.
TYPE = (
    "types.py",
    '    INTERNAL_FIXATION = "internal_fixation", Priority.RECORDED\n',
    f'    IMPINGEMENT = "{NEW}", Priority.ROUTINE\n',
)
PHANTOM = (
    "phantom/patient.py",
    "GRADE_SHARES: dict[Category, dict[str, float]] = {\n",
    '    Category.IMPINGEMENT: {"cam": 0.6, "pincer": 0.4},\n',
)

USE = """
import csv, json, os, subprocess, sys
from pathlib import Path

import numpy as np

from hipedge.backends import open_backend
from hipedge.backends.parity import check_parity
from hipedge.cli import main
from hipedge.phantom.crop import crop
from hipedge.store.store import Store
from hipedge.train.new_model import new_model
from hipedge.types import ABNORMAL, CATEGORIES, CropGeometry

NEW, = set(CATEGORIES) - set(CATEGORIES[:8])
assert NEW in ABNORMAL


def run(*arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert not end.code, (arguments, end.code)


model = new_model(
    Path("model"), seed=0, geometry=CropGeometry(64, 160.0, 10.0, 20.0)
)
assert NEW in model.card.operating_points["sensitive"]
with open_backend("onnxruntime", model) as backend:
    assert check_parity(backend, model).agrees

pixels, truth = crop(0, model.card.input, NEW)
assert truth.category is NEW
assert pixels.shape == (1, 64, 64)
run("phantom", "films", "--count", 2, "--workers", 1)
run("screen", "films", "--model", "model", "--db", "hips.db", "--workers", 1)
with Store(Path("hips.db"), read_only=True) as store:
    hips = store.query("select json_array_length(logits, '$[0]') as outputs from hips")
assert [hip["outputs"] for hip in hips] == [len(CATEGORIES)] * len(hips)
assert len(hips) >= 2
run("flagged", "--db", "hips.db", "--json")

rng = np.random.default_rng(0)
with open("labels.csv", "w") as labels, open("predictions.csv", "w") as predictions:
    labels, predictions = csv.writer(labels), csv.writer(predictions)
    labels.writerow(("case", "side", "category", "patient"))
    predictions.writerow(("case", "side", *(category.value for category in CATEGORIES)))
    for i in range(40 * len(CATEGORIES)):
        truth = CATEGORIES[i % len(CATEGORIES)]
        labels.writerow((i, "right", truth.value, i))
        p = rng.dirichlet(np.ones(len(CATEGORIES)))
        predictions.writerow((i, "right", *(f"{v:.6f}" for v in p)))
given = ("labels.csv", "--predictions", "predictions.csv", "--replicates", 100)
run("evaluate", *given, "-o", "report")
(page,) = Path("report").glob("*.html")
report = page.read_text()
assert NEW.value.replace("_", " ") in report
"""


def copied_with(tmp_path, *insertions):
    shutil.copytree(
        PACKAGE, tmp_path / "hipedge", ignore=shutil.ignore_patterns("reference", "__pycache__")
    )
    for name, line, new in insertions:
        file = tmp_path / "hipedge" / name
        text = file.read_text(encoding="utf-8")
        assert text.count(line) == 1
        file.write_text(text.replace(line, line + new), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_ninth_category_is_modelled_screened_and_evaluated(tmp_path):
    copied_with(tmp_path, TYPE, PHANTOM)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
