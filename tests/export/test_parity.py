"""What counts as agreeing with the FP32 scores, and what does not."""

from dataclasses import replace

import numpy as np
import pytest

from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.backends.parity import check_parity, compare
from hipedge.model import Golden
from hipedge.types import ABNORMAL, CATEGORIES, Category
from tests.backends.golden_backend import GoldenBackend

NORMAL, ARTHRITIS = (CATEGORIES.index(c) for c in (Category.NORMAL, Category.OSTEOARTHRITIS))


@pytest.fixture
def golden(untrained_model):
    return untrained_model.golden()


def checked(model, err):
    return check_parity(GoldenBackend(model.golden(), err), model)


def test_onnx_runtime_agrees(untrained_model):
    with OnnxRuntimeBackend.open(untrained_model) as backend:
        parity = check_parity(backend, untrained_model)
    assert parity.agrees, parity.faults
    assert 0 < parity.probability_difference < 0.01
    assert parity.samples == 64


def test_the_same_scores_agree_exactly(untrained_model):
    parity = checked(untrained_model, lambda logits, maps: None)
    assert parity.agrees
    assert parity.probability_difference == parity.map_difference == parity.batch_difference == 0
    # 64 categories; 7 thresholds at two operating points and one least confidence each.
    assert parity.decisions == 64 * (1 + 2 * 7 + 1)


def test_samples_are_scored_alone_and_in_batches_of_two_sizes(untrained_model):
    backend = GoldenBackend(untrained_model.golden())
    check_parity(backend, untrained_model)
    assert backend.batches == [1] * 64 + [8] * 8 + [32] * 2


def test_batches_of_one_size_are_in_order_and_those_of_the_other_in_reverse(untrained_model):
    samples, batches = untrained_model.golden().samples, []

    class Watching(GoldenBackend):
        def _infer(self, batch):
            batches.append(batch.copy())
            return super()._infer(batch)

    check_parity(Watching(untrained_model.golden()), untrained_model)
    by_8, by_32 = (np.concatenate([b for b in batches if len(b) == size]) for size in (8, 32))
    np.testing.assert_array_equal(by_8, samples)
    np.testing.assert_array_equal(by_32, samples[::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_a_fault(untrained_model, value):
    def err(logits, maps):
        logits[0, 3] = value

    parity = checked(untrained_model, err)
    assert parity.not_finite > 0
    assert not parity.agrees


def test_a_map_that_is_not_finite_is_a_fault(untrained_model):
    def err(logits, maps):
        maps[-1, 0, 0, 0] = np.nan

    assert "samples with NaN or infinity" in checked(untrained_model, err).faults[0]


def test_a_probability_that_differs_is_a_fault(untrained_model):
    def err(logits, maps):
        logits[:, 0] += 0.1

    (fault,) = [f for f in checked(untrained_model, err).faults if f.startswith("a probability d")]
    assert fault.endswith("more than 0.01")


def test_a_heat_map_that_differs_is_a_fault(untrained_model):
    def err(logits, maps):
        maps += 0.1 * maps.max()

    (fault,) = checked(untrained_model, err).faults
    assert fault.startswith("a heat map")


def test_a_score_that_depends_on_its_place_in_the_batch_is_a_fault(untrained_model):
    def err(logits, maps):
        logits[1:, 0] += 0.03  # too little to be told from rounding by itself

    parity = checked(untrained_model, err)
    assert parity.probability_difference < 0.01
    (fault,) = parity.faults
    assert fault.startswith("a probability in another batch")


def one_sample(card, logits, *others):
    """A golden sample with these logits, scored by backends that say the others."""
    maps = np.ones((1, len(CATEGORIES), 2, 2), np.float32)
    golden = Golden(np.zeros((1, 1, 2, 2), np.uint8), np.float32([logits]), maps)
    return compare(golden, [(np.float32([other]), maps) for other in others], card)


def logits_of(**probabilities):
    """Logits whose softmax is these probabilities, what is left shared by the other categories."""
    named = {Category(name): p for name, p in probabilities.items()}
    rest = (1 - sum(named.values())) / (len(CATEGORIES) - len(named))
    return np.log([named.get(category, rest) for category in CATEGORIES])


@pytest.fixture
def card(untrained_model):
    points = {name: dict.fromkeys(ABNORMAL, 0.9) for name in ("sensitive", "specific")}
    return replace(untrained_model.card, operating_points=points, min_confidence=0.0)


def test_a_category_that_changes_is_a_fault_where_fp32_is_clear(card):
    parity = one_sample(
        card,
        logits_of(normal=0.406, osteoarthritis=0.394),
        logits_of(normal=0.399, osteoarthritis=0.401),
    )
    assert parity.category_changes == 1
    assert parity.faults == ("1 categories differ", *parity.faults[1:])


def test_a_category_that_changes_in_a_close_call_is_counted_and_no_fault(card):
    parity = one_sample(
        card,
        logits_of(normal=0.402, osteoarthritis=0.398),
        logits_of(normal=0.399, osteoarthritis=0.401),
    )
    assert parity.agrees
    assert (parity.category_changes, parity.close_calls) == (0, 1)


@pytest.mark.parametrize(("fp32", "faults", "close_calls"), [(0.512, 1, 0), (0.505, 0, 1)])
def test_a_flag_that_changes_is_a_fault_where_fp32_is_clear(card, fp32, faults, close_calls):
    card.operating_points["sensitive"][Category.OSTEOARTHRITIS] = 0.5
    parity = one_sample(card, logits_of(osteoarthritis=fp32), logits_of(osteoarthritis=0.499))
    assert (parity.flag_changes, parity.close_calls) == (faults, close_calls)


@pytest.mark.parametrize(("fp32", "faults", "close_calls"), [(0.512, 1, 0), (0.505, 0, 1)])
def test_a_confidence_that_falls_below_the_least_is_a_changed_flag(card, fp32, faults, close_calls):
    """The category stays the same, but the hip would now be listed as uncertain."""
    card = replace(card, min_confidence=0.5)
    parity = one_sample(card, logits_of(normal=fp32), logits_of(normal=0.499))
    assert parity.category_changes == 0
    assert (parity.flag_changes, parity.close_calls) == (faults, close_calls)


def test_a_change_in_one_pass_counts_once(card):
    clear = logits_of(normal=0.6)
    changed = logits_of(osteoarthritis=0.6)
    assert one_sample(card, clear, clear, changed, changed).category_changes == 1


def test_probabilities_are_compared_as_calibrated_by_the_temperature(card):
    """A higher temperature makes the same difference of logits a smaller one of probabilities."""
    fp32, found = logits_of(normal=0.5), logits_of(normal=0.53)
    assert one_sample(replace(card, temperature=1.0), fp32, found).probability_difference > 0.025
    assert one_sample(replace(card, temperature=5.0), fp32, found).probability_difference < 0.01


def test_a_map_is_compared_by_the_largest_value_of_any_golden_map(card):
    maps = np.zeros((2, len(CATEGORIES), 2, 2), np.float32)
    maps[0, 0, 0, 0], maps[1] = -8.0, 2.0  # the largest by its size is negative
    logits = np.tile(np.float32(logits_of(normal=0.6)), (2, 1))
    golden = Golden(np.zeros((2, 1, 2, 2), np.uint8), logits, maps)
    found = maps.copy()
    found[1, 3, 1, 1] += 0.4
    parity = compare(golden, [(logits, maps), (logits, found)], card)
    assert parity.map_difference == pytest.approx(0.4 / 8.0)
    assert len(parity.faults) == 1


def test_the_faults_give_every_count_and_difference(untrained_model):
    def err(logits, maps):
        logits[:, :] = logits[:, ::-1]
        maps[0] = np.nan

    parity = checked(untrained_model, err)
    assert parity.faults[0] == f"{parity.not_finite} samples with NaN or infinity"
    assert any(fault.endswith("categories differ") for fault in parity.faults)
    assert any(
        fault.startswith("a heat map, by its range, differs by nan") for fault in parity.faults
    )
