"""Backgrounds for the tests: FracAtlas where it is there, and a drawn hip that always is."""

import os
from pathlib import Path

import numpy as np
import pytest

import hipedge.insertion
from hipedge.insertion import prepare_backgrounds, read_manifest

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("HIPEDGE_SHARED_DATA", ROOT.parent / "shared" / "data"))
MANIFEST = Path(hipedge.insertion.__file__).parent / "data" / "fracatlas.csv"


@pytest.fixture(scope="session")
def fracatlas_rows():
    films = SHARED / "fracatlas"
    if not films.is_dir():
        pytest.skip(f"FracAtlas is not at {films}")
    return read_manifest(MANIFEST, films)


@pytest.fixture(scope="session")
def fracatlas(fracatlas_rows, tmp_path_factory):
    """All backgrounds, taken apart: about a minute."""
    return prepare_backgrounds(fracatlas_rows, tmp_path_factory.mktemp("backgrounds"))


@pytest.fixture(scope="session")
def few(fracatlas_rows, tmp_path_factory):
    """Some hips of some patients of each split, a child's among them."""
    rows = [
        row
        for split in ("train", "val", "test")
        for age, count in (("adult", 5), ("child", 1))
        for row in [r for r in fracatlas_rows if r.split == split and r.age_class == age][:count]
    ]
    return prepare_backgrounds(rows, tmp_path_factory.mktemp("few"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
