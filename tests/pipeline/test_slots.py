"""What travels in shared memory arrives as it was, and what finds no room arrives too."""

import os
from pathlib import Path

import numpy as np
import pytest

from hipedge.pipeline.slots import Slots
from hipedge.pipeline.workers import IN_FLIGHT_PER_WORKER, SLOT_BYTES, Workers


@pytest.fixture
def slots():
    opened = Slots(3, 100_000)
    yield opened
    opened.close()


def crops(count, size_px, seed=0):
    return [
        np.random.default_rng(seed + n).integers(0, 255, (1, size_px, size_px), np.uint8)
        for n in range(count)
    ]


def test_pixels_go_through_the_slot_and_not_the_message(slots):
    sent = crops(2, 128)
    message = slots.pack(1, ("film", sent))
    assert len(message) < 1000
    name, received = slots.unpack(1, message)
    assert name == "film"
    np.testing.assert_array_equal(received, sent)


def test_what_was_received_is_the_receivers_own(slots):
    (received,) = slots.unpack(0, slots.pack(0, crops(1, 128)))
    slots.pack(0, crops(1, 128, seed=9))
    np.testing.assert_array_equal(received, crops(1, 128)[0])
    received += 1  # writable


def test_slots_do_not_touch_one_another(slots):
    messages = [slots.pack(n, crops(2, 128, seed=10 * n)) for n in range(3)]
    for n, message in enumerate(messages):
        np.testing.assert_array_equal(slots.unpack(n, message), crops(2, 128, seed=10 * n))


def test_what_finds_no_room_stays_in_the_message(slots):
    sent = crops(4, 200)  # two of them fill the slot
    message = slots.pack(0, sent)
    assert 80_000 < len(message) < 90_000
    np.testing.assert_array_equal(slots.unpack(0, message), sent)


def test_views_with_gaps_arrive_too(slots):
    sent = crops(1, 128)[0][:, ::2, ::-1]
    np.testing.assert_array_equal(slots.unpack(2, slots.pack(2, sent)), sent)


def numbered(number):
    return np.full((1, 300, 300), number % 251, np.uint8)


def test_results_keep_to_their_items_when_slots_are_used_again_and_again():
    with Workers(numbered, 2) as workers:
        results = dict(pair for batch in workers.run(range(200), lambda _: None) for pair in batch)
    assert sorted(results) == list(range(200))
    assert all((result == number % 251).all() for number, result in results.items())


def die_of_each_tenth(number):
    if number % 10 == 0:
        os.abort()
    return numbered(number)


def test_a_worker_that_dies_leaves_neither_memory_nor_a_file_behind():
    before = shared_files()
    with Workers(die_of_each_tenth, 2) as workers:
        results = dict(pair for batch in workers.run(range(30), lambda _: None) for pair in batch)
        assert shared_files() - before == 2
    assert shared_files() == before
    alive = {number: result for number, result in results.items() if number % 10}
    assert all((result == number).all() for number, result in alive.items())


def shared_files():
    return Path("/proc/self/maps").read_text().count("memfd:hipedge")


def test_a_worker_has_as_many_slots_as_films_and_room_for_two_hips_seen_both_ways():
    assert IN_FLIGHT_PER_WORKER >= 2
    assert SLOT_BYTES >= 4 * 384 * 384
