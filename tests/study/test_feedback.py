"""Readers' answers as the labels of an evaluation."""

import json

import pytest

from hipedge.cli import main
from hipedge.config import Settings
from hipedge.model.card import card_id, card_json
from hipedge.rules.site_rule import site_rule
from hipedge.store.feedback import Feedback, Shown, Verdict
from hipedge.store.store import Store
from hipedge.types import Category, Side
from tests.builders import film, scored_hip, screened

NECK, NORMAL = Category.FEMORAL_NECK_FRACTURE, Category.NORMAL
ARTHRITIS = Category.OSTEOARTHRITIS


@pytest.fixture
def site(tmp_path, monkeypatch, reference_model):
    """A database with 20 films, each with a right hip that is found to be fractured."""
    monkeypatch.chdir(tmp_path)
    card = reference_model.card
    rule = site_rule(card, Settings())
    with Store(tmp_path / "hipedge.db") as store:
        run = store.start_run(
            model_id=card_id(card), model_name=card.name, model_status=card.status.value,
            card=card_json(card).decode(), backend="b", backend_reason="r", versions={},
        )  # fmt: skip
        films = [film(f"f{n}", pixels=f"p{n}") for n in range(20)]
        hips = scored_hip(NECK), scored_hip(NORMAL, Side.LEFT)
        store.record(run, [screened(one, *hips, rule=rule) for one in films], rule)
    return films, card_id(card), rule


def say(site, number, verdict, category=None, *, reader="rita", side=Side.RIGHT, corrects=None):
    films, model_id, rule = site
    hip = 0 if side is Side.RIGHT else 1
    shown_category = NECK if hip == 0 else NORMAL
    missed = verdict is Verdict.HIP_MISSED
    shown = Shown(
        films[number].content_hash, model_id, rule.rule_id, None if missed else hip, side,
        None if missed else shown_category, None if missed else hip == 0,
    )  # fmt: skip
    with Store(site_path()) as store:
        feedback = Feedback(store)
        return feedback.append(shown, verdict, category, reader=reader, corrects=corrects)


def site_path():
    return Settings().db


def evaluate(capsys, *options):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *options, "--replicates", "100"])
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out + printed.err


def test_answers_are_the_labels_and_the_report_says_so(site, capsys, tmp_path):
    for number in range(6):
        say(site, number, Verdict.RIGHT, NECK)
    say(site, 6, Verdict.WRONG, ARTHRITIS)
    say(site, 7, Verdict.NOT_JUDGED)
    say(site, 8, Verdict.HIP_MISSED, side=Side.LEFT)
    code, printed = evaluate(capsys, "--feedback")
    assert code == 0, printed
    assert "all: 7 hips, accuracy 85.7%" in printed
    report = (tmp_path / "evaluation/report.html").read_text("utf-8")
    for text in ("the answers of 1 readers", "verification bias", "not judged: 1", "hip missed: 1"):
        assert text in report
    assert json.loads((tmp_path / "evaluation/results.json").read_text("utf-8"))


def test_a_corrected_answer_counts_as_corrected_and_disagreement_is_left_out(
    site, capsys, tmp_path
):
    first = say(site, 0, Verdict.RIGHT, NECK)
    say(site, 0, Verdict.WRONG, NORMAL, corrects=first)
    say(site, 1, Verdict.RIGHT, NECK)
    say(site, 2, Verdict.RIGHT, NECK)
    say(site, 2, Verdict.WRONG, NORMAL, reader="robert")
    code, printed = evaluate(capsys, "--feedback")
    assert code == 0, printed
    assert "all: 2 hips, accuracy 50.0%" in printed
    assert "readers disagree: 1" in (tmp_path / "evaluation/report.html").read_text("utf-8")


def test_without_judged_hips_there_is_nothing_to_evaluate(site, capsys):
    say(site, 0, Verdict.IMAGE_UNFIT)
    code, printed = evaluate(capsys, "--feedback")
    assert code == 2
    assert "hipedge serve" in printed


@pytest.mark.parametrize("options", [(), ("labels.csv", "--feedback")])
def test_labels_come_from_one_place(site, capsys, options):
    code, printed = evaluate(capsys, *options)
    assert code == 2
    assert "either a CSV of labels or --feedback" in printed


def test_status_shows_the_agreement(site, capsys):
    for number in range(4):
        say(site, number, Verdict.RIGHT, NECK)
    say(site, 4, Verdict.WRONG, NORMAL)
    with pytest.raises(SystemExit):
        main(["status"])
    assert "4 of the newest 5 judged hips, 80%" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["status", "--json"])
    found = json.loads(capsys.readouterr().out)["agreement"]
    assert (found["judged"], found["agreed"]) == (5, 4)
