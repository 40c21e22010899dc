"""The picture of a case: heat maps are drawn cell by cell, where they lie on the film."""

import numpy as np
import pytest

from hipedge.review.picture import blend_heat
from hipedge.types import Box


@pytest.mark.parametrize("offset", [(0, 0), (-40, 60), (70, -30)])
def test_a_heat_map_is_drawn_as_the_cells_that_it_has(offset):
    x, y = offset
    heat = np.zeros((8, 8), np.float32)
    heat[2, 5], heat[7, 3] = 1.0, 0.5
    film = np.full((160, 160, 3), 100.0, np.float32)
    blend_heat(film, Box(x, y, x + 160, y + 160), heat)
    tinted = (film != 100.0).any(axis=2)
    expected = np.zeros((480, 480), bool)  # the film and as much around it
    for row, column in ((2, 5), (7, 3)):
        top, left = 160 + y + 20 * row, 160 + x + 20 * column
        expected[top : top + 20, left : left + 20] = True
    np.testing.assert_array_equal(tinted, expected[160:320, 160:320])


def test_the_stronger_cell_is_the_redder_and_each_is_even():
    heat = np.array([[0.5, 1.0]], np.float32)
    film = np.full((50, 100, 3), 100.0, np.float32)
    blend_heat(film, Box(0, 0, 100, 50), heat)
    assert np.ptp(film[:, :50, 0]) == np.ptp(film[:, 50:, 0]) == 0
    assert film[0, 99, 0] > film[0, 0, 0] > 100
