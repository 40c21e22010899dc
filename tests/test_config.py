import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hipedge.config import SITE_CALIBRATION_FILE, Settings, load_settings, patient_key_of
from hipedge.errors import ConfigError, InputError
from hipedge.model import packaged, require_model
from hipedge.model.card import card_id
from hipedge.model.untrained import DEFAULT_GEOMETRY, untrained_card
from hipedge.rules.decide import decide
from hipedge.rules.flags import flag_scores, softmax
from hipedge.rules.operating_points import OperatingPoint
from hipedge.rules.site import SiteFile
from hipedge.rules.site_rule import site_rule
from hipedge.types import ABNORMAL, CATEGORIES, Category, FlagCriterion


@pytest.fixture
def site(tmp_path):
    """Writes a settings file and reads it back, with flags and an environment."""

    def load(text, flags=(), environment=()):
        file = tmp_path / "hipedge.toml"
        file.write_text(text, encoding="utf-8")
        return load_settings(dict(flags), file, dict(environment))

    return load


def test_without_anything_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings({}, environment={}) == Settings()
    assert Settings().db == Path("hipedge.db")


def test_flags_win_over_the_environment_and_that_over_the_file(site):
    text = 'db = "file.db"\nbackend = "fake"\nworkers = 3'
    environment = {"HIPEDGE_DB": "environment.db", "HIPEDGE_BACKEND": "auto"}
    settings = site(text, {"db": Path("flag.db"), "backend": None}, environment)
    assert settings.db == Path("flag.db")
    assert settings.backend == "auto"
    assert settings.workers == 3


def test_the_file_in_the_working_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "hipedge.toml").write_text("flag_hardware = true")
    monkeypatch.chdir(tmp_path)
    assert load_settings({}, environment={}).flag_hardware


def test_the_environment_can_name_the_file(tmp_path):
    file = tmp_path / "site.toml"
    file.write_text('operating_point = "specific"')
    settings = load_settings({}, environment={"HIPEDGE_CONFIG": str(file)})
    assert settings.operating_point == "specific"


def test_thresholds_are_by_category(site):
    settings = site("[thresholds]\nosteoarthritis = 0.25")
    assert settings.thresholds == {Category.OSTEOARTHRITIS: 0.25}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bakcend = 'auto'", "did you mean 'backend'"),
        ("workers = 0", "workers cannot be 0"),
        ("workers = 'many'", "workers"),
        ("flag_hardware = 'perhaps'", "flag_hardware"),
        ("settle_s = 0", "settle_s cannot be 0"),
        ("rescan_s = inf", "rescan_s"),
        ("metrics_port = -1", "metrics_port"),
        ("worker_memory_mb = 1.5", "worker_memory_mb"),
        ("db = 3", "db cannot be 3"),
        ("thresholds = 0.3", "thresholds"),
        ("[thresholds]\nosteoartritis = 0.3", "did you mean 'osteoarthritis'"),
        ("[thresholds]\nosteoarthritis = 1.3", "between 0 and 1"),
        ("[thresholds]\nosteoarthritis = true", "between 0 and 1"),
        ("[thresholds]\nosteoarthritis = nan", "between 0 and 1"),
        ("[thresholds]\nnormal = 0.3", "has no threshold"),
        ("db = ", "not valid TOML"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_that_says_which(site, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        site(text)


def test_a_named_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no such settings file"):
        load_settings({}, tmp_path / "none.toml", {})


def test_an_environment_variable_is_named_in_its_error(site):
    with pytest.raises(ConfigError, match="HIPEDGE_WORKERS"):
        site("", environment={"HIPEDGE_WORKERS": "-1"})


def test_every_setting_can_be_read_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"HIPEDGE_SETTLE_S": "1.5", "HIPEDGE_METRICS_PORT": "0", "HIPEDGE_POLL": "yes"}
    settings = load_settings({}, environment={**values, "HIPEDGE_DONE_DIR": "/srv/done"})
    assert (settings.settle_s, settings.metrics_port, settings.poll) == (1.5, 0, True)
    assert settings.done_dir == Path("/srv/done")


def written(value):
    """How a setting's value is spelled in an environment variable."""
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


NOT_FROM_THE_ENVIRONMENT = ("thresholds", "calibration")
FROM_THE_ENVIRONMENT = [f for f in fields(Settings) if f.name not in NOT_FROM_THE_ENVIRONMENT]


@pytest.mark.parametrize("setting", FROM_THE_ENVIRONMENT, ids=lambda setting: setting.name)
def test_each_setting_has_an_environment_variable_that_sets_it(setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    others = {bool: not setting.default, int: 7, float: 0.25, str: "other", Path: Path("other")}
    others[tuple] = ("one", "two")
    wanted = others.get(type(setting.default), "7" if setting.name == "workers" else "other")
    if setting.name == "results":
        wanted = ("gsps", "kos")
    variable = f"HIPEDGE_{setting.name.upper()}"
    loaded = load_settings({}, environment={variable: written(wanted)})
    assert str(getattr(loaded, setting.name)) == str(wanted)
    assert getattr(loaded, setting.name) != setting.default


@pytest.mark.parametrize(("spelling", "value"), [("yes", True), ("No", False), ("1", True)])
def test_a_boolean_may_be_spelled_as_a_word_or_a_digit(site, spelling, value):
    assert site("", environment={"HIPEDGE_POLL": spelling}).poll is value


def test_a_byte_order_mark_before_the_settings_is_ignored(tmp_path):
    file = tmp_path / "hipedge.toml"
    file.write_bytes(b"\xef\xbb\xbfbackend = 'fake'")
    assert load_settings({}, file, {}).backend == "fake"


def test_without_a_model_the_error_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", "none")
    with pytest.raises(ConfigError, match="hipedge model new"):
        require_model(None)


CARD = untrained_card(0, DEFAULT_GEOMETRY)


def write_calibration(folder, model, factor=1.5, **more):
    content = {
        "format": 1,
        "model": model,
        **more,
        "temperature_factor": factor,
        "operating_points": {"sensitive": {"osteoarthritis": 0.2}},
    }
    (folder / SITE_CALIBRATION_FILE).write_text(json.dumps(content))


def test_a_calibration_beside_the_settings_takes_the_place_of_the_cards_numbers(site, tmp_path):
    write_calibration(tmp_path, card_id(CARD))
    rule = site_rule(CARD, site(""))
    assert rule.temperature == 1.5 * CARD.temperature
    assert rule.thresholds[Category.OSTEOARTHRITIS] == 0.2


def test_a_fracture_that_a_calibration_left_out_is_flagged_as_before(
    site, tmp_path, reference_model
):
    card, fracture = reference_model.card, Category.INTERTROCHANTERIC_FRACTURE
    against_normal = {"format": 2, "flag_criterion": card.flag_criterion.value}
    # Just over the card's threshold, with no other category but normal in question.
    threshold = card.operating_points["sensitive"][fracture] * 1.001
    logits = np.full(len(CATEGORIES), -30, np.float32)
    logits[CATEGORIES.index(Category.NORMAL)] = 3
    logits[CATEGORIES.index(fracture)] = 3 + card.temperature * np.log(threshold / (1 - threshold))
    for factor in (1.0, 0.5, 0.05, 20.0):
        write_calibration(tmp_path, card_id(card), factor, **against_normal)
        assert fracture in decide([logits], site_rule(card, site(""))).flagged_for


def kept_at(factor, thresholds, criterion=FlagCriterion.PROBABILITY):
    """What a calibration that fitted no threshold leaves of the card's."""
    of_card = OperatingPoint("sensitive", thresholds, criterion)
    return SiteFile(None, factor, ()).operating_point(of_card).thresholds


LOGITS = st.lists(st.floats(-12, 12), min_size=len(CATEGORIES), max_size=len(CATEGORIES))


@given(LOGITS, st.integers(1, len(CATEGORIES) - 1), st.floats(0.05, 20), st.floats(0.001, 0.999))
def test_what_reached_a_kept_threshold_reaches_it_at_every_temperature(logits, k, factor, share):
    before, after = (softmax(np.array(logits), temperature)[k] for temperature in (1.0, factor))
    threshold = float(before * share)
    kept = kept_at(factor, {CATEGORIES[k]: threshold})
    assert kept[CATEGORIES[k]] <= threshold
    assert after >= kept[CATEGORIES[k]]


@given(LOGITS, st.integers(1, len(CATEGORIES) - 1), st.floats(0.05, 20), st.floats(0.001, 1.0))
def test_what_reached_a_kept_threshold_against_normal_reaches_it(logits, k, factor, share):
    against_normal = FlagCriterion.AGAINST_NORMAL
    before, after = (
        flag_scores(softmax(np.array(logits), temperature), against_normal)[k]
        for temperature in (1.0, factor)
    )
    kept = kept_at(factor, {CATEGORIES[k]: float(before * share)}, against_normal)
    assert after >= kept[CATEGORIES[k]] - 1e-12


@given(LOGITS, st.integers(1, len(CATEGORIES) - 1))
def test_a_threshold_of_a_probability_is_reached_against_normal_too(logits, k):
    """A card of the first format beside thresholds that a site fitted against normal."""
    of_card = OperatingPoint("sensitive", {CATEGORIES[k]: 0.4, Category.OSTEOARTHRITIS: 0.4})
    fitted = OperatingPoint("sensitive", {}, FlagCriterion.AGAINST_NORMAL)
    probabilities = softmax(np.array(logits), 1.0)
    merged = SiteFile(None, 1.0, (fitted,)).operating_point(of_card)
    assert merged.criterion is FlagCriterion.AGAINST_NORMAL
    before = of_card.margins(probabilities, hardware=True) >= 0
    assert (merged.margins(probabilities, hardware=True) >= 0)[before].all()


def test_a_calibration_of_probabilities_says_nothing_of_thresholds_against_normal():
    of_card = OperatingPoint(
        "sensitive", dict.fromkeys(ABNORMAL, 0.5), FlagCriterion.AGAINST_NORMAL
    )
    fitted = OperatingPoint("sensitive", {Category.OSTEOARTHRITIS: 0.2})
    with pytest.raises(InputError, match="run `hipedge calibrate` again"):
        SiteFile(None, 1.0, (fitted,)).operating_point(of_card)


def test_a_kept_threshold_is_lowered_no_further_than_some_film_needs():
    """Odds lie with one other category where it grows sharper, with all alike where flatter."""
    for factor, others in ((0.5, [0.0] + [-60.0] * 6), (2.0, [0.0] * 7)):
        logits = np.array([*others, 1.0])
        before, after = (softmax(logits, temperature)[-1] for temperature in (1.0, factor))
        kept = kept_at(factor, {CATEGORIES[-1]: before})
        assert kept[CATEGORIES[-1]] == pytest.approx(min(before, after), rel=1e-9)


def test_a_temperature_that_is_the_cards_leaves_its_thresholds_alone(site, tmp_path):
    write_calibration(tmp_path, card_id(CARD), 1.0)
    assert site_rule(CARD, site("")).thresholds[Category.FEMORAL_NECK_FRACTURE] == 0.3


def test_a_threshold_in_the_settings_wins_over_the_calibration(site, tmp_path):
    write_calibration(tmp_path, card_id(CARD))
    settings = site("[thresholds]\nosteoarthritis = 0.9")
    assert site_rule(CARD, settings).thresholds[Category.OSTEOARTHRITIS] == 0.9


def test_a_calibration_of_another_model_is_not_used(site, tmp_path):
    write_calibration(tmp_path, "another")
    assert site_rule(CARD, site("")).temperature == CARD.temperature


def test_a_calibration_of_an_unknown_model_is_that_of_the_model_in_use(site, tmp_path):
    write_calibration(tmp_path, None)
    assert site_rule(CARD, site("")).temperature == 1.5 * CARD.temperature


def test_the_site_says_whether_hardware_is_flagged_and_the_card_what_is_uncertain(site):
    assert not site_rule(CARD, site("")).flag_hardware
    rule = site_rule(CARD, site("flag_hardware = true"))
    assert rule.flag_hardware
    assert rule.min_confidence == CARD.min_confidence
    assert rule.criterion is CARD.flag_criterion


def test_an_operating_point_that_the_model_does_not_have_is_an_error_that_lists_those_it_has(site):
    with pytest.raises(ConfigError, match="no operating point 'careful', only"):
        site_rule(CARD, replace(site(""), operating_point="careful"))


@pytest.mark.parametrize("threshold", [0, 1])
def test_a_threshold_of_a_calibration_may_be_0_or_1(site, tmp_path, threshold):
    write_calibration(tmp_path, card_id(CARD))
    file = tmp_path / SITE_CALIBRATION_FILE
    file.write_text(file.read_text().replace("0.2", str(threshold)))
    assert site_rule(CARD, site("")).thresholds[Category.OSTEOARTHRITIS] == threshold


def test_a_calibration_that_cannot_be_read_is_an_error(site, tmp_path):
    (tmp_path / SITE_CALIBRATION_FILE).write_text("{}")
    with pytest.raises(InputError, match="not a site file"):
        site_rule(CARD, site(""))


@pytest.mark.parametrize("threshold", ["NaN", "Infinity", "50", "-0.1", "1e400", "true", '"0.5"'])
def test_a_threshold_of_a_calibration_that_is_no_probability_is_an_error(site, tmp_path, threshold):
    write_calibration(tmp_path, card_id(CARD))
    file = tmp_path / SITE_CALIBRATION_FILE
    file.write_text(file.read_text().replace("0.2", threshold))
    with pytest.raises(
        InputError, match=rf"{SITE_CALIBRATION_FILE}.*osteoarthritis.*between 0 and 1"
    ):
        site_rule(CARD, site(""))


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        ("a" * 64, 0o640, "can be read by others: chmod 600"),
        ("short", 0o600, "is too short: openssl rand -hex 32"),
        (None, None, "cannot be read"),
    ],
)
def test_a_patient_key_that_is_no_secret_is_an_error_that_says_what_to_do(
    tmp_path, content, mode, complaint
):
    path = tmp_path / "patient.key"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=complaint):
        patient_key_of(Settings(patient_key_file=path))


def test_a_patient_key_is_the_files_content_without_the_end_of_its_line(tmp_path):
    path = tmp_path / "patient.key"
    path.write_text("a" * 64 + "\n")
    path.chmod(0o600)
    assert patient_key_of(Settings(patient_key_file=path)) == b"a" * 64
    assert patient_key_of(Settings()) is None
