"""`hipedge show`: a case as text and as a picture."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from hipedge.dicom.read import Payload, load
from hipedge.types import Category, Mark, Side
from tests.builders import film, scored_hip, screened


@pytest.fixture
def on_disk(db):
    """Return a film that lies on disk: a gray picture of 300 × 200 pixels, bright at its left."""
    path = db.parent / "film.png"
    pixels = np.full((200, 300), 40, np.uint8)
    pixels[:, :100] = 200
    Image.fromarray(pixels).save(path)
    made = film(folder=db.parent, shape=(200, 300))
    return type(made)(**{**vars(made), "source": path, "content_hash": load(path).content_hash})


def test_the_picture_is_the_film_as_it_was_turned(record, run, on_disk):
    record(screened(on_disk, scored_hip(Category.OSTEOARTHRITIS), marks=[Mark.TURNED_90]))
    code, _, err = run("show", "1", "-o", "case.png")
    assert code == 0
    assert "case.png" in err
    with Image.open("case.png") as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    # Turned counterclockwise what was at the left is at the bottom: of 900 px, the lower third.
    assert pixels[880, 500:590].mean() > pixels[20, 500:590].mean() + 80


def test_the_picture_of_a_film_that_changed_is_refused(record, run, on_disk):
    record(screened(on_disk))
    Image.new("L", (300, 200)).save(on_disk.source)
    code, _, err = run("show", "1")
    assert code == 2
    assert "no longer holds the film" in err


def test_the_picture_of_a_film_that_has_gone_is_refused(record, run, on_disk):
    record(screened(on_disk))
    on_disk.source.unlink()
    code, _, err = run("show", "1")
    assert code == 2
    assert "can no longer be read" in err


def test_both_hashes_are_shown_while_the_file_is_there(record, run, on_disk):
    record(screened(on_disk))
    data = on_disk.source.read_bytes()
    sha256, blake3 = hashlib.sha256(data).hexdigest(), Payload(data).content_hash[7:]
    _, out, _ = run("show", blake3[:12])
    assert f"BLAKE3 {blake3}" in out
    assert f"SHA-256 {sha256}" in out
    shown = json.loads(run("show", "1", "--json")[1])
    assert (shown["content_hash"], shown["sha256"]) == (f"blake3:{blake3}", sha256)
    on_disk.source.unlink()
    shown = json.loads(run("show", "1", "--json")[1])
    assert (shown["content_hash"], shown["sha256"]) == (f"blake3:{blake3}", None)


def test_json_has_every_hip_and_needs_no_film(record, run):
    record(screened(film(), scored_hip(side=Side.LEFT), scored_hip(Category.OSTEOARTHRITIS)))
    code, out, _ = run("show", "1", "--json")
    assert code == 0
    assert [hip["side"] for hip in json.loads(out)["hips"]] == ["left", "right"]
