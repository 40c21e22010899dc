"""The forecast agrees with what can be computed by hand, and with a run."""

import pytest

pytest.importorskip("ray", reason="needs the extra ray")

from dataclasses import replace

from hipedge.archive.job import portions
from hipedge.archive.shape import Cluster, Readers
from hipedge.archive.simulate import Plan, simulate
from hipedge.errors import ConfigError

PLAN = Plan(
    films=128_000,
    nodes=4,
    cores=8,
    read_core_s=0.2,
    infer_s=0.1,
    start_s=0.0,
    shard_overhead_s=0.0,
)
GB = 1 << 30


def hours(plan):
    return simulate(plan).hours[1]


def test_without_failures_it_is_the_work_over_the_cores():
    assert hours(PLAN) * 3600 == pytest.approx(128_000 * 0.3 / 32, rel=0.02)


def test_gpus_take_the_inference_from_the_cores():
    plan = replace(PLAN, gpus=1, infer_s=0.001)
    assert hours(plan) * 3600 == pytest.approx(128_000 * 0.2 / 32, rel=0.03)
    slow = replace(plan, infer_s=0.05)  # 20 films a second on each of four
    assert hours(slow) * 3600 == pytest.approx(128_000 / 80, rel=0.03)
    assert simulate(slow).forecasts[0].bottleneck == "inference"


def test_a_storage_that_delivers_less_than_is_read_is_the_limit():
    plan = replace(PLAN, film_mb=10.0, storage_mb_per_s=500.0)
    assert hours(plan) * 3600 == pytest.approx(128_000 / 50, rel=0.03)
    assert simulate(plan).forecasts[0].bottleneck == "storage"


def test_one_driver_is_the_limit_of_many_nodes_however_fast_they_are():
    plan = replace(PLAN, films=1_280_000, nodes=100, read_core_s=0.02, infer_s=0.0)
    forecast = simulate(plan).forecasts[0]
    assert forecast.hours * 3600 == pytest.approx(10_000 * plan.driver_s, rel=0.02)
    assert forecast.bottleneck == "driver"
    assert forecast.tail_s < 10
    larger = replace(plan, shard_films=512)  # a quarter of the shards, and of the driver's work
    assert hours(larger) < hours(plan) / 2


def test_failures_and_slow_nodes_cost_what_they_take_away():
    failing = replace(PLAN, node_mtbf_h=1.0, repair_s=360.0)  # up for 10 of 11 parts of the time
    outlook = simulate(failing, repeats=9)
    assert outlook.hours[1] == pytest.approx(hours(PLAN) * 1.1, rel=0.05)
    assert all(one.repeated < 0.05 for one in outlook.forecasts)
    slow = replace(PLAN, slow_nodes=1)  # 3.1 nodes are left of four
    assert hours(slow) == pytest.approx(hours(PLAN) * 4 / 3.1, rel=0.1)
    assert simulate(slow).forecasts[0].tail_s < 128 * 0.3 / 4 * 10 * 1.5


def test_a_seed_gives_the_same_forecast_again():
    plan = replace(PLAN, node_mtbf_h=1.0)
    assert simulate(plan, seed=3) == simulate(plan, seed=3)
    assert simulate(plan, seed=3) != simulate(plan, seed=4)


def test_portions_hold_every_shard_once_and_are_small_at_the_end():
    shards = [3, *range(10, 78_000)]
    tables = list(portions(shards, readers=100))
    assert [shard for table in tables for shard in table] == shards
    assert max(map(len, tables)) == 32
    assert all(len(table) == 1 for table in tables[-800:])
    assert len(tables) < 6_000


def test_readers_fit_into_the_cores_and_the_memory_of_their_nodes():
    assert Cluster((16, 16), (64 * GB, 64 * GB)).readers(2 * GB) == Readers(8, 4)
    assert Cluster((16, 2), (64 * GB, 64 * GB)).readers(2 * GB) == Readers(9, 2)
    assert Cluster((16,), (7 * GB,)).readers(2 * GB) == Readers(1, 3)
    assert Cluster((16, 4), (64 * GB, GB)).readers(2 * GB) == Readers(4, 4)
    with pytest.raises(ConfigError, match="worker_memory_mb"):
        Cluster((4,), (GB,)).readers(2 * GB)
