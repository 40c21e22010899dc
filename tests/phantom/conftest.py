"""What the tests of the simulator share: films, and their paths without noise or display."""

from dataclasses import replace

import pytest

from hipedge.phantom.film import draw_film
from hipedge.types import Category, Side

NORMAL = {side: Category.NORMAL for side in Side if side is not Side.UNKNOWN}
PLAIN = dict.fromkeys(NORMAL, "kl0")


def film_of(seed, right=(Category.NORMAL, "kl0"), left=(Category.NORMAL, "kl0"), **given):
    """A film of a seed whose hips have these categories and grades."""
    return draw_film(
        seed,
        categories={Side.RIGHT: right[0], Side.LEFT: left[0]},
        grades={Side.RIGHT: right[1], Side.LEFT: left[1]},
        **given,
    )


def bilateral_seed(start=0):
    """The first seed from `start` whose film shows both hips, straight."""
    return next(seed for seed in range(start, start + 50) if len(film_of(seed).sides) == 2)


@pytest.fixture(scope="session")
def coarse():
    """Make a film's view coarse, so that a test takes little time."""

    def of(film, pixel_mm=1.0):
        pixels = pixel_mm / film.view.pixel_mm
        shape = tuple(int(n / pixels) for n in film.view.shape)
        return replace(film, view=film.view.window(0, 0, shape, pixels))

    return of
