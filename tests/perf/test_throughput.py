"""How the whole line is measured, and what the figures are said to mean."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hipedge.cli import main
from hipedge.perf import throughput, tuning
from hipedge.perf.throughput import PartRates, PipelineRun, QueueSampler, Throughput, memory_mb
from hipedge.perf.tuning import candidates
from hipedge.pipeline.cpu_allocation import CpuAllocation, tuned_allocation

RUN = PipelineRun(
    seconds=10.0,
    films_per_s=9.0,
    hips_per_s=18.0,
    core_s=0.11,
    stages_ms={"read": 60.0, "locate": 30.0},
    busy={},
    films_in_work=(4.0, 8),
    hips_waiting=(1.0, 4),
    hips_per_batch=2.0,
    memory_mb=500.0,
)
# Two workers read 20 films a second on two cores, so a film takes 0.1 s of a core.
RATES = PartRates(
    reading=20.0,
    inference=1000.0,
    recording=200.0,
    reading_core_s=0.1,
    inference_core_s=0.0,
    recording_core_s=0.0,
)
MEASURED = Throughput(
    films=90,
    hips=180,
    refused=0,
    workers=2,
    cores=2,
    backend="",
    alone=(RATES,),
    together=(RUN,),
)


def test_with_a_device_the_slowest_part_is_the_limit():
    assert MEASURED.limit == 20.0
    assert MEASURED.bottleneck == "reading"
    assert MEASURED.efficiency == pytest.approx(9 / 20)
    slow = replace(MEASURED, alone=(replace(RATES, inference=10.0),))
    assert (slow.limit, slow.bottleneck) == (10.0, "inference")
    assert slow.efficiency == pytest.approx(0.9)
    assert MEASURED.limited_by == "2 worker processes, above all in the stage read"
    assert slow.limited_by == "the device that runs the network"


def test_on_the_processor_the_parts_share_the_cores():
    both_cores = replace(RATES, inference=20.0, inference_core_s=0.1)
    shared = replace(MEASURED, alone=(both_cores,))
    assert shared.limit == pytest.approx(10.0)
    assert shared.bottleneck.startswith("processor")
    one_core = replace(MEASURED, alone=(replace(both_cores, inference_core_s=0.05),))
    assert one_core.limit == pytest.approx(2 / (0.1 + 0.05))
    assert one_core.bottleneck == "processor, mostly by reading"
    assert one_core.limited_by == (
        "2 cores, of which a film needs 150.0 ms: 67% in reading (above all the stage read)"
    )


def test_waiting_for_a_network_takes_nothing_from_the_cores():
    waits = replace(RATES, reading_core_s=0.01, inference=20.0, inference_core_s=0.1)
    shared = replace(MEASURED, alone=(waits,))
    assert shared.limit == pytest.approx(2 / 0.11)
    assert shared.bottleneck == "processor, mostly by inference"


def test_what_the_main_process_computes_is_taken_from_the_same_cores():
    busy = replace(MEASURED, alone=(replace(RATES, recording_core_s=0.1),))
    assert busy.limit == pytest.approx(2 / (0.1 + 0.1))
    assert busy.bottleneck == "processor, mostly by reading"


def test_the_figures_are_medians_over_the_passes():
    rates = (9.0, 18.0, 10.0)
    passes = tuple(replace(RUN, films_per_s=rate) for rate in rates)
    many = replace(MEASURED, together=passes, alone=(RATES,) * 3)
    assert many.films_per_s == 10.0
    assert many.efficiency == pytest.approx(0.5)


def test_memory_is_that_of_all_processes():
    assert 20 < memory_mb() < 5000


def test_memory_is_looked_at_where_a_short_run_ends_too(monkeypatch):
    held = iter([100.0, 400.0])
    monkeypatch.setattr(throughput, "memory_mb", lambda: next(held))
    sampler = QueueSampler(SimpleNamespace(waiting=0), SimpleNamespace(in_flight=1))
    assert len(list(sampler.watch([[], [], []]))) == 3
    assert sampler.memory_mb == 400.0


@pytest.fixture
def films(tmp_path, shared_data):
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("RG2_UNC", "RG2_RLE", "RG2_JPLL"):
        shutil.copy(shared_data / f"wg04/{name}.dcm", folder)
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    return ended.value.code


def test_the_command_measures_the_line_end_to_end(untrained_model, films, capsys):
    options = ("--backend", "fake", "--workers", 1, "--repeats", 1)
    assert run("benchmark", untrained_model.path, "--end-to-end", films, *options, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["films"] == 3
    assert content["hips"] >= 2
    assert content["model"]["id"] == untrained_model.model_id
    (one,) = content["together"]
    assert {"load", "hash", "read", "locate", "prepare", "queue", "infer", "record"} <= set(
        one["stages_ms"]
    )
    assert all(0 <= share <= 1.05 for share in one["busy"].values())
    assert content["efficiency"] == pytest.approx(
        content["films_per_s"] / content["limit_films_per_s"]
    )
    core_s = content["core_s_per_film"]
    assert core_s["reading"] > 0
    assert core_s["pipeline"] >= 0.5 * (core_s["reading"] + core_s["recording"])
    assert content["limited_by"]
    assert content["bottleneck"].split(",")[0] in (*content["limits_films_per_s"][0],)


def test_the_command_prints_the_stages_and_names_the_bottleneck(untrained_model, films, capsys):
    options = ("--backend", "fake", "--workers", 1, "--repeats", 1)
    assert run("benchmark", untrained_model.path, "--end-to-end", films, *options) == 0
    said = capsys.readouterr().out
    for word in (
        "ms per film",
        "core-ms per film",
        "workers busy",
        "bottleneck",
        "limited by",
        "efficiency",
        "hips waiting",
    ):
        assert word in said


def test_the_latency_of_watch_is_that_of_the_service_itself(untrained_model, films, capsys):
    options = ("--backend", "fake", "--workers", 1, "--repeats", 1, "--watch", "--json")
    assert run("benchmark", untrained_model.path, "--end-to-end", films, *options) == 0
    latency_ms = json.loads(capsys.readouterr().out)["watch_latency_ms"]
    assert 0 < latency_ms["min"] <= latency_ms["median"] <= latency_ms["max"] < 60_000


def test_a_folder_without_films_is_an_error(untrained_model, tmp_path, capsys):
    assert run("benchmark", untrained_model.path, "--end-to-end", tmp_path) == 2
    assert "no films" in capsys.readouterr().err


def test_shares_are_tried_for_both_parts_where_they_share_the_processor():
    assert candidates(4, on_cpu=False) == [CpuAllocation(4), CpuAllocation(3)]
    assert candidates(4, on_cpu=True)[0] == CpuAllocation(4, 4)
    assert CpuAllocation(3, 1) in candidates(4, on_cpu=True)
    assert candidates(1, on_cpu=True) == [CpuAllocation(1, 1)]


def test_what_was_tuned_is_used_until_the_site_says_otherwise(
    untrained_model, films, capsys, monkeypatch
):
    rates = {CpuAllocation(2): 10.0, CpuAllocation(1): 20.0}
    monkeypatch.setattr(tuning, "candidates", lambda cores, on_cpu: list(rates))
    monkeypatch.setattr(tuning, "measure_allocation", lambda *arguments: rates[arguments[-1]])
    assert run("tune", films, "--model", untrained_model.path, "--backend", "fake") == 0
    assert "fastest: 1 workers" in capsys.readouterr().out
    assert tuned_allocation(untrained_model, "fake", None) == CpuAllocation(1)
    assert tuned_allocation(untrained_model, "fake", 5) == CpuAllocation(5)
    assert tuned_allocation(untrained_model, "onnxruntime", None).workers >= 1


def test_where_it_cannot_be_remembered_the_fastest_is_said_all_the_same(
    untrained_model, films, monkeypatch, capsys, tmp_path
):
    rates = {CpuAllocation(2): 10.0, CpuAllocation(1): 20.0}
    monkeypatch.setattr(tuning, "candidates", lambda cores, on_cpu: list(rates))
    monkeypatch.setattr(tuning, "measure_allocation", lambda *arguments: rates[arguments[-1]])
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run("tune", films, "--model", untrained_model.path, "--backend", "fake") == 2
    said = capsys.readouterr()
    assert "fastest: 1 workers" in said.out
    assert "XDG_CACHE_HOME" in said.err


def test_a_difference_within_the_noise_changes_nothing(untrained_model, films, monkeypatch, capsys):
    rates = {CpuAllocation(2): 10.0, CpuAllocation(1): 10.2}
    monkeypatch.setattr(tuning, "candidates", lambda cores, on_cpu: list(rates))
    monkeypatch.setattr(tuning, "measure_allocation", lambda *arguments: rates[arguments[-1]])
    run("tune", films, "--model", untrained_model.path, "--backend", "fake")
    assert "fastest: 2 workers" in capsys.readouterr().out
