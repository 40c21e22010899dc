"""The manifest of backgrounds, and the one of FracAtlas that ships."""

import csv
import itertools
import re
from collections import defaultdict

import pytest

from hipedge.errors import InputError
from hipedge.insertion import AgeClass, read_manifest
from hipedge.types import Side
from tests.insertion.conftest import MANIFEST

HEADER = "path,split,patient,age_class,side,x,y\n"


@pytest.fixture
def manifest(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()

    def write(*lines, header=HEADER):
        path = tmp_path / "m.csv"
        path.write_text(header + "\n".join(lines) + "\n")
        return path

    return write


def test_a_row_names_a_hip_or_a_whole_film(manifest):
    marked, whole = read_manifest(
        manifest("a.png,train,p1,adult,left,10.5,20", "b.png,test,p2,child,,,")
    )
    assert (marked.side, marked.centre_px, marked.age_class) == (
        Side.LEFT, (10.5, 20.0), AgeClass.ADULT,
    )  # fmt: skip
    assert (whole.side, whole.centre_px, whole.split) == (None, None, "test")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a.png,train,p,adult,,,", "b.png,test,p,adult,,,"], "line 3: leakage: this patient"),
        (["a.png,train,p,adult,left,,", "a.png,val,q,adult,right,,"], "leakage: this film"),
        (["a.png,train,p,adult,left,,", "a.png,train,p,adult,left,,"], "the same hip as in line 2"),
        (["c.png,train,p,adult,,,"], "line 2: no file"),
        (["a.png,dev,p,adult,,,"], "split must be train, val, test"),
        (["a.png,train,,adult,,,"], "no patient"),
        (["a.png,train,p,old,,,"], "age_class must be adult or child"),
        (["a.png,train,p,adult,left,10,"], "a centre needs x and y"),
        (["a.png,train,p,adult,,10,10"], "a centre needs a side"),
        (["a.png,train,p,adult,both,,"], "side must be right or left"),
        ([], "no rows"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_its_line(manifest, lines, says):
    with pytest.raises(InputError, match=re.escape(says)):
        read_manifest(manifest(*lines))


def test_every_fault_is_named_at_once(manifest):
    with pytest.raises(InputError) as error:
        read_manifest(manifest("c.png,train,p,adult,,,", "a.png,dev,p,adult,,,"))
    assert "line 2" in str(error.value)
    assert "line 3" in str(error.value)


def test_a_missing_column_is_named(manifest):
    with pytest.raises(InputError, match="no column age_class"):
        read_manifest(manifest("a.png,train,p", header="path,split,patient\n"))


def test_neighbouring_films_of_fracatlas_are_in_one_split():
    with MANIFEST.open() as file:
        rows = list(csv.DictReader(file))
    splits = {int(re.search(r"\d+", row["path"])[0]): row["split"] for row in rows}
    numbers = sorted(splits)
    apart = [
        (a, b) for a, b in itertools.pairwise(numbers) if b - a <= 5 and splits[a] != splits[b]
    ]
    assert apart == []
    patients = defaultdict(set)
    for row in rows:
        patients[row["patient"]].add(row["split"])
    assert all(len(found) == 1 for found in patients.values())
    counts = defaultdict(int)
    for row in rows:
        counts[row["split"], row["age_class"]] += 1
    assert all(counts[split, "adult"] >= 30 for split in ("train", "val", "test"))
    assert all(counts[split, "child"] >= 10 for split in ("train", "val", "test"))
