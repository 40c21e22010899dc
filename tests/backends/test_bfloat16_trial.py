"""bfloat16 is tried once for a model and a backend, and taken where it agrees and is faster."""

from dataclasses import replace

import pytest

from hipedge.backends.base import Fingerprint
from hipedge.backends.bfloat16_trial import Bfloat16Trial, cached_trial, try_bfloat16
from hipedge.backends.parity import Parity
from tests.backends.golden_backend import GoldenBackend, WrongBackend

FINGERPRINT = Fingerprint("openvino", "2026.4.1", "CPU", "a processor", "bf16", 1)
AGREES = Parity(64, 0, 0.001, 0.001, 0.0, 0, 0, 0, 1024)
TRIAL = Bfloat16Trial(AGREES, fp32_ms=4.0, bf16_ms=2.0)


@pytest.fixture(autouse=True)
def an_empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def run_once():
    return TRIAL


def never_run():
    pytest.fail("tried again")


def test_both_are_measured_and_bfloat16_is_compared_with_the_golden_scores(untrained_model):
    fp32, bf16 = GoldenBackend.open(untrained_model), WrongBackend.open(untrained_model)
    trial = try_bfloat16(fp32, bf16, untrained_model)
    assert not trial.parity.agrees
    assert trial.fp32_ms > 0
    assert trial.bf16_ms > 0


def test_what_disagrees_is_not_used_however_fast():
    trial = replace(TRIAL, parity=replace(AGREES, probability_difference=0.5))
    assert trial.obstacle == "a probability differs by 0.5000, more than 0.01"


def test_what_is_no_faster_is_not_used():
    assert TRIAL.obstacle is None
    assert replace(TRIAL, bf16_ms=4.0).obstacle == "it takes 4.00 ms a hip, FP32 4.00"


def test_a_trial_is_remembered_for_the_same_model_and_backend(untrained_model):
    assert cached_trial(FINGERPRINT, untrained_model, run_once) == TRIAL
    assert cached_trial(FINGERPRINT, untrained_model, never_run) == TRIAL
    slow = replace(TRIAL, bf16_ms=9.0)
    other = replace(untrained_model, model_id="another")
    assert cached_trial(FINGERPRINT, other, lambda: slow) == slow
    newer = replace(FINGERPRINT, version="2027.1.0")
    assert cached_trial(newer, untrained_model, lambda: slow) == slow


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"of": "another"}'])
def test_a_spoilt_record_is_measured_again(content, untrained_model, tmp_path):
    cached_trial(FINGERPRINT, untrained_model, run_once)
    (path,) = (tmp_path / "hipedge" / "bfloat16").iterdir()
    path.write_text(content)
    slow = replace(TRIAL, bf16_ms=9.0)
    assert cached_trial(FINGERPRINT, untrained_model, lambda: slow) == slow
    assert cached_trial(FINGERPRINT, untrained_model, never_run) == slow


def test_a_cache_that_cannot_be_written_costs_time_alone(untrained_model, tmp_path, caplog):
    (tmp_path / "hipedge").touch()
    assert cached_trial(FINGERPRINT, untrained_model, run_once) == TRIAL
    assert "repeated at each start" in caplog.text
