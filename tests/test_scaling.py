"""A long run is made, screened and counted to its last film."""

import os

import pytest

from benchmarks.scaling import measured, rates, small_film
from hipedge.perf.throughput import process_tree


def test_rates_are_of_equal_parts_of_the_films():
    steady_then_slow = [0.1 * k for k in range(51)] + [5 + 0.2 * k for k in range(1, 51)]
    assert rates(steady_then_slow, parts=2) == [10.0, 5.0]


def test_a_process_belongs_to_its_parents_family_but_its_parent_not_to_its_own():
    assert os.getpid() in process_tree(os.getppid())
    assert os.getppid() not in process_tree(os.getpid())


@pytest.mark.filterwarnings("ignore")
def test_every_film_of_a_run_is_counted_and_all_processes_are_weighed(tmp_path, untrained_model):
    film = small_film(tmp_path)
    assert film.stat().st_size < 200_000
    run = measured(film, 12, 1, untrained_model.path)
    assert run["films"] == 12
    assert len(run["films_per_s_by_part"]) == 10
    assert run["processes"] >= 3
    assert max(run["resident_mb"]) > 100
