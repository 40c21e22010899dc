"""A simulated study on disk, and CSV files made of a few rows."""

import csv

import pytest

from hipedge.types import CATEGORIES

pytest.importorskip("scipy", reason="the extra study is not installed")
pytest.importorskip("matplotlib", reason="the extra study is not installed")

NAMES = [category.value for category in CATEGORIES]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """The folder of a small simulated study: labels.csv, predictions.csv, reads.csv."""
    from benchmarks.simulated_study import simulate_study, write_study

    folder = tmp_path_factory.mktemp("simulated")
    write_study(simulate_study(900), folder, n_read=150)
    return folder


@pytest.fixture
def table(tmp_path):
    """Writes rows of dictionaries as CSV and returns the path."""

    def write(name, rows, *, encoding="utf-8", delimiter=","):
        path = tmp_path / name
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def label(case, side="right", category="normal", **more):
    """One row of labels."""
    return {"case": case, "side": side, "category": category, "patient": f"p{case}", **more}


def prediction(case, side="right", category="normal", **more):
    """One row of predictions, 93 % sure."""
    share = {name: 0.93 if name == category else 0.01 for name in NAMES}
    return {"case": case, "side": side, **share, **more}


def read_of(case, reader="R1", phase="alone", answer="normal", side="right", **more):
    """One row of reads."""
    return {"reader": reader, "grade": "senior", "phase": phase, "case": case, "side": side,
            "answer": answer, **more}  # fmt: skip
