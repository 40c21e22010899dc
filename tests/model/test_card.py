"""The card: every fault in it is named, and what is written is read again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hipedge.errors import ModelError
from hipedge.model.card import OPERATING_POINTS, Card, Status, card_json, parse_card
from hipedge.model.readme import render_readme
from hipedge.types import ABNORMAL, CropGeometry, FlagCriterion

SHA256 = "0123456789abcdef" * 4


def card(**changes):
    values = {
        "name": "reference",
        "version": "1.2",
        "status": Status.TRAINED,
        "status_text": "Trained on simulated radiographs: ±0 real ones.",
        "input": CropGeometry(256, 160.0, 10.0, 20.0),
        "temperature": 1.4,
        "operating_points": {name: dict.fromkeys(ABNORMAL, 0.25) for name in OPERATING_POINTS},
        "min_confidence": 0.5,
        "age_range_years": (18.0, 90.0),
        "training_data": "Simulated.",
        "metrics": {"inside.macro_f1": 0.6123},
        "files": {"classifier.onnx": SHA256, "golden.npz": SHA256, "README.md": SHA256},
    }
    return Card(**{**values, **changes})


def changed(*path, to):
    """Return the card's JSON with one value replaced, or with the key gone for `...`."""
    content = json.loads(card_json(card()))
    *parents, key = path
    part = content
    for parent in parents:
        part = part[parent]
    if to is ...:
        del part[key]
    else:
        part[key] = to
    return json.dumps(content).encode()


def test_what_is_written_is_read_again():
    assert parse_card(card_json(card()), "card.json") == card()


def test_a_card_says_what_its_thresholds_are_compared_with():
    against_normal = card(flag_criterion=FlagCriterion.AGAINST_NORMAL)
    written = card_json(against_normal)
    assert json.loads(written)["flag_criterion"] == "against_normal"
    assert parse_card(written, "card.json") == against_normal


def test_a_card_of_the_first_format_compares_them_with_probabilities():
    written = card_json(card())
    assert json.loads(written)["format"] == 1
    assert "flag_criterion" not in json.loads(written)
    assert parse_card(written, "card.json").flag_criterion is FlagCriterion.PROBABILITY


probabilities = st.floats(0, 1)


@given(
    temperature=st.floats(0.01, 100),
    min_confidence=probabilities,
    thresholds=st.lists(probabilities, min_size=14, max_size=14),
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
)
def test_every_number_and_text_survives_exactly(temperature, min_confidence, thresholds, text):
    points = {
        "sensitive": dict(zip(ABNORMAL, thresholds[:7], strict=True)),
        "specific": dict(zip(ABNORMAL, thresholds[7:], strict=True)),
    }
    written = card(
        temperature=temperature,
        min_confidence=min_confidence,
        operating_points=points,
        training_data=text,
    )
    assert parse_card(card_json(written), "card.json") == written


def test_equal_cards_give_equal_bytes_whether_their_numbers_are_whole_or_not():
    whole = card(input=CropGeometry(256, 160, 10, 20), age_range_years=(18, 90))
    assert card_json(whole) == card_json(card())


def test_a_card_may_make_no_claim_about_age():
    assert parse_card(card_json(card(age_range_years=None)), "").age_range_years is None


@pytest.mark.parametrize("key", json.loads(card_json(card())))
def test_a_missing_key_is_named(key):
    with pytest.raises(ModelError, match=rf"card\.json: key '{key}' is missing"):
        parse_card(changed(key, to=...), "card.json")


@pytest.mark.parametrize(
    "path",
    [
        ("input", "crop_mm"),
        ("operating_points", "specific"),
        ("operating_points", "specific", "osteoarthritis"),
    ],
)
def test_a_missing_key_within_a_part_is_named(path):
    with pytest.raises(ModelError, match=rf"key '{'.'.join(path)}' is missing"):
        parse_card(changed(*path, to=...), "card.json")


@pytest.mark.parametrize(
    "path",
    [
        ("threshold",),
        ("input", "size_mm"),
        ("operating_points", "balanced"),
        ("operating_points", "sensitive", "normal"),
        ("files", "labels.txt"),
    ],
)
def test_an_unknown_key_is_named(path):
    with pytest.raises(ModelError, match=rf"key '{'.'.join(path)}' is unknown"):
        parse_card(changed(*path, to=0.5 if path[0] != "files" else SHA256), "card.json")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("format",), 3, "1 or 2, which this hipedge reads"),
        (("name",), "  ", "a text"),
        (("version",), 1.2, "a text"),
        (("status",), "learning", "untrained or trained"),
        (("status",), ["trained"], "untrained or trained"),
        (("labels",), ["osteoarthritis", "normal"], "in this order"),
        (("input",), [256, 160], "an object"),
        (("input", "size_px"), 250, "a multiple of 32"),
        (("input", "size_px"), 256.0, "a multiple of 32"),
        (("input", "size_px"), True, "a multiple of 32"),
        (("input", "crop_mm"), 0, "a number from 10 to 1000"),
        (("temperature",), "1", "a number from 0.01 to 100"),
        (("temperature",), float("nan"), "a number from 0.01 to 100"),
        (("min_confidence",), True, "a number from 0 to 1"),
        (("operating_points", "sensitive", "osteoarthritis"), 1.5, "a number from 0 to 1"),
        (("age_range_years",), [90, 18], "the youngest and the oldest"),
        (("age_range_years",), [18], "the youngest and the oldest"),
        (("metrics", "inside.macro_f1"), float("inf"), "a number"),
        (("files", "golden.npz"), "abc", "a SHA-256"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(path, value, expected):
    with pytest.raises(ModelError) as caught:
        parse_card(changed(*path, to=value), "card.json")
    message = str(caught.value)
    assert ".".join(path) in message
    assert expected in message


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_said_to_be_so(data):
    with pytest.raises(ModelError, match="is not JSON"):
        parse_card(data, "card.json")


def test_a_text_that_no_file_can_hold_is_no_reason_to_crash():
    data = changed("name", to="\ud800")
    with pytest.raises(ModelError, match="was changed after hipedge wrote it"):
        parse_card(data, "card.json")


@pytest.mark.parametrize("data", [b"[]", b"null", b'"card"'])
def test_json_of_another_kind_is_no_card(data):
    with pytest.raises(ModelError, match="the card must be an object"):
        parse_card(data, "card.json")


def test_a_threshold_changed_by_hand_is_found():
    data = card_json(card()).replace(b'"temperature": 1.4', b'"temperature": 1.5')
    with pytest.raises(ModelError, match="was changed after hipedge wrote it"):
        parse_card(data, "card.json")


def test_the_card_for_people_says_what_a_doctor_must_know():
    text = render_readme(card())
    for part in (
        "# reference 1.2",
        "**Trained.** Trained on simulated radiographs",
        "not a medical device",
        "18 to 90 years",
        "| femoral_neck_fracture | 0.25 | 0.25 |",
        "| inside.macro_f1 | 0.6123 |",
    ):
        assert part in text


def test_the_card_for_people_of_a_model_without_results_has_no_table_of_them():
    assert "Measured results" not in render_readme(card(metrics={}))


def test_the_readme_says_what_thresholds_are_compared_with():
    assert "from this probability on:" in render_readme(card())
    against_normal = render_readme(card(flag_criterion=FlagCriterion.AGAINST_NORMAL))
    assert "from this score, p / (p + p of normal + 0.1 p of all others), on:" in against_normal


def test_the_readme_shows_a_metric_with_its_interval():
    metrics = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94, "hips": 402}
    text = render_readme(card(metrics=metrics))
    assert "| accuracy | 0.9 | 0.85 to 0.94 |" in text
    assert "| hips | 402 |  |" in text
    assert "accuracy_low" not in text
