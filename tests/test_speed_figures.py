"""What the README says of speed is what was measured, and says where others are faster."""

import json

import pytest

from benchmarks import tables
from benchmarks.plots import draw_peers, draw_scaling

ENVIRONMENT = {
    "commit": "abc1234",
    "date": "2026-11-24 12:00 UTC",
    "processor": "Processor, family 1, model 1",
    "cores": 2,
}


@pytest.fixture
def peers():
    def syntax(hipedge, careful, fastest):
        return {
            "decoders": {"usual": "decoder 1.0", "fastest": "other 2.0"},
            "crops_per_s": {
                "hipedge, the same work": [80.0],
                "hipedge": hipedge,
                "hipedge, one process": [5.0],
                "careful loop": careful,
                **fastest,
                "naive loop": [2.0],
                "MONAI": [1.5],
                "torchxrayvision": [0.25],
            },
            "screened_per_s": {
                "hipedge": [8.0],
                "careful loop + ONNX Runtime": [4.0],
                "careful loop + PyTorch": [2.0],
                "naive loop + PyTorch": [1.0],
            },
        }

    return {
        "environment": ENVIRONMENT,
        "load_average": 0.2,
        "command": "--model ./model --json peers.json",
        "peers": {"monai": "1.6.1"},
        "model": {"size_px": 256},
        "repeats": 3,
        "backend": "onnxruntime=1",
        "films": ["phantom-1.dcm", "RG2_UNC.dcm"],
        "syntaxes": {
            "uncompressed": syntax([9.0, 100.0, 10.0], [40.0], {}),
            "HTJ2K": syntax([60.0], [6.0], {"careful loop, fastest decoder": [12.0]}),
        },
    }


@pytest.fixture
def scaling():
    def run(films, workers, rate):
        return {
            "films": films,
            "workers": workers,
            "seconds": films / rate,
            "films_per_s": rate,
            "films_per_s_by_part": [rate] * 9 + [rate / 2],
            "processes": workers + 3,
            "resident_mb": [10.0] + [300.0] * 18 + [20.0],
        }

    return {
        "environment": ENVIRONMENT,
        "load_average": 7.5,
        "command": "--model ./model",
        "runs": [run(100, 2, 90.0), run(1000, 2, 100.0), run(100, 1, 50.0), run(100, 2, 90.0)],
    }


@pytest.fixture
def pipeline():
    def line(**figures):
        common = {"films": 200, "films_per_s": 70.0, "of_reading_alone": 0.93, "efficiency": 0.9}
        busy = {"busy": {"device": 0.5}, "backend": "fake=1 none", "memory_mb": 600}
        return common | busy | {"bottleneck": "processor, mostly by reading"} | figures

    return {
        "environment": ENVIRONMENT,
        "load_average": 0.1,
        "command": "--model ./model --films films",
        "repeats": 3,
        "fast device": line(),
        "slow device": line(busy={"device": 0.987}),
        "cpu": line(films_per_s=46.7, efficiency=0.955, backend="openvino=1 provider=CPU"),
    }


@pytest.fixture
def start():
    def times(wall_s, core_s):
        return {"wall_s": wall_s, "core_s": core_s}

    return {
        "environment": ENVIRONMENT,
        "load_average": 0.2,
        "command": "--python PYTHON --repeats 7",
        "repeats": 7,
        "figures": {
            "help": times(0.14, 0.139),
            "flagged": times(0.34, 0.339),
            "screen, onnxruntime": times(0.612, 1.04),
            "screen, openvino": times(0.75, 1.236),
        },
    }


def rows(text, name):
    return [line for line in text.splitlines() if line.startswith(f"| {name} ")]


def test_the_readme_says_what_the_figures_say():
    before, rest = tables.README.read_text(encoding="utf-8").split(tables.BEGIN)
    written, _ = rest.split(tables.END)
    said = tables.render(*map(tables.load, ("peers", "scaling", "pipeline", "start")))
    assert written == said + "\n", "out of date: run python -m benchmarks.tables"
    assert before.rpartition("\n## ")[2].startswith("Speed\n")


def test_the_time_of_the_cores_is_told_by_part(peers, scaling, pipeline, start):
    core_s = {"reading": 0.0201, "inference": 0.005, "recording": 0.0009, "pipeline": 0.0271}
    pipeline["cpu"] |= {"core_s_per_film": core_s, "limited_by": "2 cores"}
    said = tables.render(peers, scaling, pipeline, start)
    assert "limited by 2 cores." in said
    assert "| 20 | 5.0 | 0.90 | 26 | 27 |" in said


def test_a_rate_is_the_median_of_its_measurements_and_the_fastest_is_bold(
    peers, scaling, pipeline, start
):
    first, second = rows(tables.render(peers, scaling, pipeline, start), "uncompressed")
    assert first == (
        "| uncompressed | 80 | 10 | 5.0 | **40** | – | 2.0 | 1.5 | 0.25 | ×0.25 | ×2.0 |"
    )
    assert second == "| uncompressed | **8.0** | 4.0 | 2.0 | 1.0 | ×4.0 |"


def test_who_is_faster_anywhere_is_named(peers, scaling, pipeline, start):
    text = tables.render(peers, scaling, pipeline, start)
    assert "Faster than that: uncompressed (careful loop)." in text.replace("\n", " ")
    assert "None is faster anywhere." in text.replace("\n", " ")


def test_a_loop_without_a_rate_of_its_own_has_the_careful_loops(peers, scaling, pipeline, start):
    text = tables.render(peers, scaling, pipeline, start).replace("\n", " ")
    assert "×2.6 the one with the fastest decoders (×0.25 to ×5.0)" in text


def test_a_busy_machine_is_said_to_be_busy(peers, scaling, pipeline, start):
    assert not tables.is_busy(peers)
    text = tables.render(peers, scaling, pipeline, start).replace("\n", " ")
    assert text.count("busy with other work") == 1
    assert "a load of 7.5" in text


def test_a_run_says_how_flat_its_rate_and_memory_stayed(peers, scaling, pipeline, start):
    text = tables.render(peers, scaling, pipeline, start).replace("\n", " ")
    assert "90 over 100, 100 over 1,000" in text
    assert "50 to 100, and its 5 processes hold 300 MB" in text
    assert "50 with 1, 90 with 2" in text


def test_the_start_is_told_for_each_backend(peers, scaling, pipeline, start):
    text = tables.render(peers, scaling, pipeline, start).replace("\n", " ")
    assert "0.61 s with ONNX Runtime and 0.75 s with OpenVINO (1.04 and 1.24 s of processor" in text
    assert "`hipedge flagged` takes 0.34 s, and the list of commands 0.14 s." in text
    assert (
        "The start: `python -m benchmarks.start --python PYTHON --repeats 7` at commit abc1234"
        in text
    )


def test_the_whole_line_is_held_against_its_parts(peers, scaling, pipeline, start):
    text = tables.render(peers, scaling, pipeline, start).replace("\n", " ")
    assert "delivers 0.93 of what reading alone does" in text
    assert "busy for 0.99 of the time" in text
    assert "screens 47 films a second, 0.95 of the limit" in text


def test_memory_is_taken_where_no_process_starts_or_ends():
    assert tables.early_and_late_mb([1.0] + [5.0] * 8 + [9.0]) == (5.0, 5.0)
    assert tables.early_and_late_mb([3.0]) == (3.0, 3.0)


def test_the_same_figures_give_the_same_plot(peers, scaling, tmp_path):
    crops, screened = (tables.medians(peers, kind) for kind in ("crops_per_s", "screened_per_s"))
    for name in ("one", "two"):
        draw_peers(crops, screened, tmp_path / f"{name}-speed.svg")
        draw_scaling(scaling["runs"], tmp_path / f"{name}-scaling.svg")
    for kind in ("speed", "scaling"):
        first, second = (tmp_path / f"{name}-{kind}.svg" for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["peers", "scaling", "pipeline", "start"])
def test_kept_figures_say_where_they_come_from(name):
    content = tables.load(name)
    assert {"date", "commit", "processor", "cores"} <= content["environment"].keys()
    assert "load_average" in content
    assert "/tmp" not in json.dumps(content)
