"""The centres marked by eye, and how the benchmark holds a locator to them."""

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("benchmarks.locator_real", reason="part of the checkout, with its extras")

from benchmarks.locator_real import CENTRES, Film, films, look, measure, turned
from hipedge.locate.heads import Heads

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("turns", range(4))
def test_a_marked_point_turns_with_its_film(turns):
    film = np.zeros((30, 50), np.uint16)
    film[7, 40] = 1
    x, y = turned((40.5, 7.5), film.shape, turns)
    assert np.rot90(film, turns)[int(y), int(x)] == 1


def seen(film, turns, *heads):
    return look(film, lambda _: (turns, Heads(*heads, 100.0, 1.0)))


def test_a_lying_film_that_is_set_upright_is_compared_upright():
    # Its trunk at the left: the head at the top is on the image's right once it stands.
    film = Film("f", "turned", np.zeros((200, 200), np.uint16), ((80.0, 50.0), (80.0, 150.0)), 3)
    figures = measure([seen(film, 3, (50.0, 80.0), (150.0, 80.0))])
    assert figures["within_5_percent_of_width"]["successes"] == 2
    assert figures["wrongly_turned"]["successes"] == 0
    assert measure([seen(film, 0, None, (1.0, 1.0))])["wrongly_turned"]["successes"] == 1


def test_heads_are_near_or_missed_or_invented():
    film = Film("f", "single", np.zeros((100, 100), np.uint16), ((30.0, 50.0), None), 0)
    near = measure([seen(film, 0, (34.0, 50.0), None)])
    assert near["within_5_percent_of_width"]["share"] == 1.0
    assert near["within_10_mm"] is None
    elsewhere = measure([seen(film, 0, None, (34.0, 50.0))])
    assert elsewhere["missed"]["share"] == elsewhere["invented"]["share"] == 1.0
    assert elsewhere["within_5_percent_of_width"]["share"] == 0.0


def test_every_marked_centre_lies_on_its_film(shared_data):
    marked = list(films(shared_data))
    tables = [(DATA / name).read_text().splitlines() for name in CENTRES.values()]
    rows = sum(len(list(csv.DictReader(table))) for table in tables)
    assert len(marked) == rows >= 73
    for film in marked:
        height, width = film.pixels.shape
        for head in film.heads:
            assert head is None or (0 < head[0] < width and 0 < head[1] < height), film.name
