"""Backgrounds for the tests: FracAtlas where it is there, and simulated films that always are."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hipedge.insertion
from hipedge.insertion import prepare_backgrounds, read_manifest
from hipedge.phantom import develop, draw_film
from hipedge.types import Category, Side

MANIFEST = Path(hipedge.insertion.__file__).parent / "data" / "fracatlas.csv"
COLUMNS = ("path", "split", "patient", "age_class", "side", "x", "y", "mm_per_px")


@pytest.fixture(scope="session")
def fracatlas_rows(shared_data):
    films = shared_data / "fracatlas"
    if not films.is_dir():
        pytest.skip(f"FracAtlas is not at {films}")
    return read_manifest(MANIFEST, films)


@pytest.fixture(scope="session")
def fracatlas(fracatlas_rows, tmp_path_factory):
    """All backgrounds of FracAtlas, taken apart: about a minute."""
    return prepare_backgrounds(fracatlas_rows, tmp_path_factory.mktemp("backgrounds"))


def write_film(folder, seed, category=Category.NORMAL, hospital="north"):
    """Write a simulated right hip as a PNG; return the file's name, its centre and its mm."""
    film = draw_film(seed, categories={Side.RIGHT: category}, hospital=hospital, only=Side.RIGHT)
    name = f"{category.value}-{hospital}-{seed}.png"
    pixels = np.clip(develop(film) * 65535, 0, 65535).astype(np.uint16)
    Image.fromarray(pixels).save(folder / name)
    return name, film.centre_px(Side.RIGHT), film.hip_spacing_mm[0]


def write_manifest(folder, rows):
    path = folder / "backgrounds.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Three adults and, by its manifest, a child; a hip with an implant that nobody mentioned."""
    folder = tmp_path_factory.mktemp("simulated")
    rows = []
    for seed, (split, age) in enumerate(
        (("train", "adult"), ("train", "child"), ("train", "adult"), ("test", "adult"))
    ):
        name, (x, y), mm = write_film(folder, seed, hospital=("north", "south", "east")[seed % 3])
        rows.append((name, split, f"patient-{seed}", age, "right", x, y, mm))
    name, (x, y), mm = write_film(folder, 5, Category.INTERNAL_FIXATION)
    rows.append((name, "train", "patient-9", "adult", "right", x, y, mm))
    manifest = write_manifest(folder, rows)
    return prepare_backgrounds(read_manifest(manifest), folder / "cache")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
