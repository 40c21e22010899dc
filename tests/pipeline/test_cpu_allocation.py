"""The allocation of the cores that `hipedge tune` has saved, and when it counts."""

import os
from dataclasses import replace

import pytest

from hipedge.pipeline.cpu_allocation import CpuAllocation, save_allocation, tuned_allocation

EVERY_CORE = CpuAllocation(len(os.sched_getaffinity(0)))
TUNED = CpuAllocation(workers=17, threads=3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "hipedge" / "tuning"


def test_what_was_saved_is_used_for_the_same_model_and_backend_alone(untrained_model):
    save_allocation(untrained_model, "openvino", TUNED)
    assert tuned_allocation(untrained_model, "openvino", None) == TUNED
    assert tuned_allocation(untrained_model, "onnxruntime", None) == EVERY_CORE
    other = replace(untrained_model, model_id="another")
    assert tuned_allocation(other, "openvino", None) == EVERY_CORE


def test_a_number_of_workers_that_the_site_has_set_takes_precedence(untrained_model):
    save_allocation(untrained_model, "openvino", TUNED)
    assert tuned_allocation(untrained_model, "openvino", 2) == CpuAllocation(2, 3)


def test_another_number_of_cores_needs_a_new_measurement(untrained_model, monkeypatch):
    save_allocation(untrained_model, "openvino", TUNED)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)))
    assert tuned_allocation(untrained_model, "openvino", None) == CpuAllocation(96)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"of": "another", "workers": 1}', "null"])
def test_a_damaged_file_counts_for_nothing(untrained_model, cache, content):
    save_allocation(untrained_model, "openvino", TUNED)
    (path,) = cache.iterdir()
    path.write_text(content)
    assert tuned_allocation(untrained_model, "openvino", None) == EVERY_CORE
