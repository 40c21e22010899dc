from dataclasses import replace

import numpy as np
import pytest

from hipedge.rules.decide import Rule, decide, population_marks
from hipedge.rules.flags import RULE_VERSION, softmax
from hipedge.types import ABNORMAL, CATEGORIES, Category, Mark, Priority

RULE = Rule(
    operating_point="sensitive",
    temperature=1.0,
    thresholds=dict.fromkeys(ABNORMAL, 0.2),
    min_confidence=0.4,
)


def logits(**probabilities):
    """Logits whose softmax has these probabilities; what is left is shared by the others."""
    given = {Category(name.lower()): value for name, value in probabilities.items()}
    rest = (1 - sum(given.values())) / (len(CATEGORIES) - len(given))
    return np.log([given.get(category, rest) for category in CATEGORIES]).astype(np.float32)


def test_the_most_probable_category_is_found():
    finding = decide([logits(OSTEOARTHRITIS=0.8)], RULE)
    assert finding.category is Category.OSTEOARTHRITIS
    assert finding.probabilities[1] == pytest.approx(0.8, abs=1e-6)
    assert sum(finding.probabilities) == pytest.approx(1)


def test_a_fracture_over_its_threshold_is_urgent_even_where_normal_is_more_probable():
    finding = decide([logits(NORMAL=0.7, FEMORAL_NECK_FRACTURE=0.25)], RULE)
    assert finding.category is Category.NORMAL
    assert finding.flagged_for == (Category.FEMORAL_NECK_FRACTURE,)
    assert finding.priority is Priority.URGENT


def test_a_fracture_is_urgent_even_beneath_hardware():
    finding = decide([logits(INTERNAL_FIXATION=0.6, INTERTROCHANTERIC_FRACTURE=0.3)], RULE)
    assert finding.category is Category.INTERNAL_FIXATION
    assert finding.priority is Priority.URGENT


@pytest.mark.parametrize(
    "category", ["osteoarthritis", "femoral_head_osteonecrosis", "developmental_dysplasia"]
)
def test_what_can_wait_is_routine(category):
    finding = decide([logits(**{category.upper(): 0.9})], RULE)
    assert finding.flagged
    assert finding.priority is Priority.ROUTINE


@pytest.mark.parametrize("category", ["total_hip_arthroplasty", "internal_fixation"])
def test_hardware_is_recorded_and_flagged_only_where_the_site_says_so(category):
    scores = [logits(**{category.upper(): 0.9})]
    plain = decide(scores, RULE)
    assert not plain.flagged
    assert plain.priority is Priority.RECORDED
    asked = replace(RULE, flag_hardware=True)
    assert decide(scores, asked).flagged_for == (Category(category),)
    assert decide(scores, asked).priority is Priority.ROUTINE


def test_a_hip_of_which_nothing_is_probable_enough_is_uncertain_and_routine():
    rule = replace(RULE, thresholds=dict.fromkeys(ABNORMAL, 0.9))
    finding = decide([logits(NORMAL=0.3)], rule)
    assert finding.uncertain
    assert finding.flagged
    assert finding.priority is Priority.ROUTINE


def test_a_hip_just_as_probable_as_the_least_confidence_is_certain():
    scores = logits(NORMAL=0.5)
    rule = replace(RULE, min_confidence=float(softmax(scores, 1.0).max()))
    assert not decide([scores], rule).uncertain


def test_a_normal_hip_is_not_flagged():
    finding = decide([logits(NORMAL=0.9)], RULE)
    assert not finding.flagged
    assert finding.priority is Priority.NONE


def test_a_probability_at_its_threshold_flags():
    scores = logits(NORMAL=0.5, OSTEOARTHRITIS=0.3)
    at = float(softmax(scores, 1.0)[1])
    rule = replace(RULE, thresholds={**RULE.thresholds, Category.OSTEOARTHRITIS: at})
    assert Category.OSTEOARTHRITIS in decide([scores], rule).flagged_for


def test_of_a_hip_seen_both_ways_the_higher_abnormal_probabilities_decide():
    plain = logits(NORMAL=0.9)
    mirrored = logits(NORMAL=0.55, FEMORAL_NECK_FRACTURE=0.4)
    finding = decide([plain, mirrored], RULE)
    assert finding.flagged_for == (Category.FEMORAL_NECK_FRACTURE,)
    assert finding.probabilities[0] == pytest.approx(0.55, abs=1e-6)
    assert finding.probabilities[3] == pytest.approx(0.4, abs=1e-6)
    assert decide([mirrored, plain], RULE) == finding


def test_temperature_softens_probabilities_and_keeps_their_order():
    scores = logits(NORMAL=0.9)
    hot = softmax(scores, 3.0)
    assert hot.max() < softmax(scores, 1.0).max()
    assert hot.argmax() == 0


def test_equal_rules_have_equal_identifiers_and_any_other_number_another():
    again = replace(RULE, thresholds=dict(reversed(RULE.thresholds.items())))
    assert again.rule_id == RULE.rule_id
    assert replace(RULE, temperature=1.01).rule_id != RULE.rule_id


def test_a_change_of_the_rules_code_is_another_rule(monkeypatch):
    before = RULE.rule_id
    monkeypatch.setattr("hipedge.rules.decide.RULE_VERSION", RULE_VERSION + 1)
    assert replace(RULE).rule_id != before


@pytest.mark.parametrize(
    ("age", "marked"), [(17.9, True), (18.0, False), (95.0, False), (95.1, True), (None, False)]
)
def test_a_patient_of_another_age_than_the_models_is_marked(age, marked):
    assert population_marks(age, (18, 95)) == ({Mark.OUTSIDE_POPULATION} if marked else set())
    assert population_marks(age, None) == frozenset()
