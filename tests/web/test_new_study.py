"""`hipedge study` at the command line: which hips and readers it takes, and what it tells."""

import csv
from dataclasses import replace
from datetime import timedelta

import pytest

from hipedge.dicom.read import load, read
from hipedge.rules.site_rule import site_rule
from hipedge.store.accounts import Accounts
from hipedge.store.studies import Phase, Studies
from hipedge.study.inputs import PHASES, read_labels, read_predictions, read_reads
from hipedge.types import CATEGORIES, Category, Mark, Side
from tests.builders import scored_hip, screened

from .conftest import placed
from .studies import answer_hip, hipedge, new_study, record_films, study_of, write_table


def new(place, table, *options, readers="rita"):
    return hipedge("study", "new", table, "--readers", readers, "--db", place.settings.db, *options)


def table_of(place, *rows, name="trial"):
    path = place.folder / f"{name}.csv"
    path.write_text("path,side,category,patient\n" + "".join(f"{','.join(r)}\n" for r in rows))
    return path


def errors_of(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_each_row_that_cannot_be_read_is_named_with_its_line_and_the_reason(place, capsys):
    record_films(place, 4)
    rule = site_rule(place.card, place.settings)
    both = placed(scored_hip(Category.NORMAL, Side.RIGHT), 5, 5, 90, 90)
    place.record(screened(place.film("two"), both, both, rule=rule))
    names = [f"{CATEGORIES[n].value}-{n}.png" for n in range(4)]
    paths = [str(place.folder / name) for name in names]
    (place.folder / names[1]).unlink()
    (place.folder / names[2]).write_bytes(b"no picture")
    table = table_of(
        place,
        (paths[0], "right", "normal", "a"),
        (paths[0], "right", "normal", "a"),
        (paths[0], "left", "normal", "a"),
        (paths[1], "right", "normal", "b"),
        (paths[2], "right", "normal", "c"),
        (str(place.folder / "never.png"), "right", "normal", "d"),
        (str(place.folder / "two.png"), "right", "normal", "e"),
    )
    assert new(place, table) == 2
    said = capsys.readouterr().err.splitlines()
    reasons = {
        3: "a second row for the hip of line 2",
        4: "no left hip was found",
        5: "no longer where it was",
        6: "holds another film now",
        7: "not in the database",
        8: "several right hips",
    }
    assert len(said) == len(reasons)
    for line, reason in reasons.items():
        (told,) = (one for one in said if f"trial.csv, line {line}: " in one)
        assert reason in told
    assert not place.settings.study_database.exists()


def test_a_film_that_was_not_screened_or_cannot_be_decoded_is_named(place, capsys):
    film = place.film("damaged")
    path = film.source
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    damaged = replace(film, content_hash=load(path).content_hash)
    rule = site_rule(place.card, place.settings)
    hip = placed(scored_hip(Category.NORMAL, Side.RIGHT), 5, 5, 90, 90)
    place.record(screened(damaged, hip, rule=rule))
    assert new(place, table_of(place, (str(path), "right", "normal", "a"))) == 2
    assert "cannot be decoded" in errors_of(capsys)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("sop_instance_uid,side,category,patient\n1.2.0,right,,a\n", "unknown category"),
        ("sop_instance_uid,side,category,patient\n1.2.0,right,normal,\n", "no patient"),
        ("sop_instance_uid,side,category,patient\n1.2.0,up,normal,a\n", "a side that is not"),
        ("sop_instance_uid,side,patient\n1.2.0,right,a\n", "no column category"),
        ("case,side,category,patient\n1,right,normal,a\n", "no column in common"),
        ("sop_instance_uid,side,category,patient\n", "no rows"),
        ("", "no column"),
    ],
)
def test_a_table_without_truth_or_films_is_refused(place, capsys, rows, reason):
    record_films(place, 1)
    table = place.folder / "trial.csv"
    table.write_text(rows)
    assert new(place, table) == 2
    assert reason in errors_of(capsys)


@pytest.mark.parametrize(
    ("options", "readers", "reason"),
    [
        ((), "zoe", "hipedge user add zoe"),
        ((), "vera", "cannot answer"),
        ((), "anna", "cannot read blind"),
        ((), "rita,rita", "twice"),
        ((), "rita,,robert", "missing"),
        (("--phases", "assisted,alone"), "rita", "alone,assisted"),
        (("--phases", "aided"), "rita", "alone,assisted"),
        (("--washout", "28"), "rita", "28d or 12h"),
        (("--washout", "four weeks"), "rita", "28d or 12h"),
        (("--name", "../up"), "rita", "no name of a study"),
    ],
)
def test_readers_and_options_that_cannot_be_are_refused(place, capsys, options, readers, reason):
    table = write_table(place, record_films(place, 1))
    assert new(place, table, *options, readers=readers) == 2
    assert reason in errors_of(capsys)


def test_a_hip_of_the_training_is_not_in_the_table(place, capsys):
    table = write_table(place, record_films(place, 2))
    assert new(place, table, "--training", table) == 2
    assert "readers would know the truth" in errors_of(capsys)


def test_a_name_is_taken_once(place, capsys):
    table = write_table(place, record_films(place, 1))
    assert new(place, table) == 0
    assert new(place, table) == 2
    assert "--name" in errors_of(capsys)
    assert new(place, table, "--name", "again") == 0


def test_films_of_several_models_are_no_study(place, capsys):
    record_films(place, 1)
    other = replace(place.card, name="another")
    rule = site_rule(other, place.settings)
    film = place.film("other", sop_instance_uid="1.2.1")
    hip = placed(scored_hip(Category.NORMAL, Side.RIGHT), 5, 5, 90, 90)
    place.record(screened(film, hip, rule=rule), card=other)
    assert new(place, write_table(place, CATEGORIES[:2])) == 2
    assert "several models" in errors_of(capsys)


def test_what_was_noted_stays_when_thresholds_change(place):
    new_study(place, count=2, readers="rita")
    study = study_of(place)
    with Studies(place.settings.study_database) as studies:
        before = [(hip.finding, hip.scored.hip.box) for hip in studies.hips(study.study_id)]
    assert hipedge("flagged", "--db", place.settings.db, "--operating-point", "specific") == 0
    with Studies(place.settings.study_database) as studies:
        after = [(hip.finding, hip.scored.hip.box) for hip in studies.hips(study.study_id)]
    assert before == after


def test_it_says_which_films_a_reader_has_seen_before(place, capsys):
    table = write_table(place, record_films(place, 3))
    client = place.client("rita")
    client.get("/case/1")
    client.get("/case/2")
    assert new(place, table, readers="rita,robert") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rita has seen 2 of the films" in said
    assert "robert has seen" not in said


def test_status_and_list_tell_how_far_readers_are_and_no_answer(place, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    new_study(place, count=3)
    client = place.client("rita")
    for _ in range(3):
        answer_hip(client, "developmental_dysplasia")
    capsys.readouterr()
    assert hipedge("study", "status", "trial", "--db", place.settings.db) == 0
    said = capsys.readouterr().out
    assert "0 of 3" in said
    assert "alone 20" in said
    assert "dysplasia" not in said
    assert hipedge("study", "list", "--db", place.settings.db) == 0
    assert "28 days" in capsys.readouterr().out
    assert hipedge("study", "status", "other", "--db", place.settings.db) == 2


def test_without_a_study_commands_say_how_to_make_one(place, capsys):
    assert hipedge("study", "list", "--db", place.settings.db) == 2
    assert "hipedge study new" in errors_of(capsys)
    assert not place.settings.study_database.exists()


def test_the_export_is_what_readers_reads_and_its_predictions_are_those_shown(place, tmp_path):
    truths = new_study(place, count=4)
    for user in ("rita", "robert"):
        client = place.client(user)
        for number in range(3 if user == "rita" else 4):
            answer_hip(client, CATEGORIES[number].value, number + 1)
    reads, predictions = tmp_path / "reads.csv", tmp_path / "predictions.csv"
    assert hipedge("study", "export", "trial", reads, "--predictions", predictions,
                   "--db", place.settings.db) == 0  # fmt: skip
    assert reads.stat().st_mode & 0o077 == 0
    found = read_reads(reads)
    labels = read_labels(place.folder / "trial.csv")
    assert len(found) == 7
    assert {one.film.sop_instance_uid for one in found} <= {
        one.film.sop_instance_uid for one in labels
    }
    assert {(one.reader, one.grade, one.phase) for one in found} == {
        ("rita", "senior", "alone"),
        ("robert", "junior", "alone"),
    }
    assert sorted(one.confidence for one in found if one.reader == "robert") == [1, 2, 3, 4]
    assert all(one.seconds is not None for one in found)
    shown = {
        one.film.sop_instance_uid: CATEGORIES[one.category] for one in read_predictions(predictions)
    }
    assert shown == {
        f"1.2.{n}": truth if n != 4 else Category.NORMAL for n, truth in enumerate(truths)
    }


def test_an_export_to_nowhere_and_of_nothing_is_refused(place, tmp_path, capsys):
    new_study(place, count=1)
    db = ("--db", place.settings.db)
    assert hipedge("study", "export", "trial", tmp_path / "reads.csv", *db) == 2
    assert "nobody has read" in errors_of(capsys)
    answer_hip(place.client("rita"))
    assert hipedge("study", "export", "trial", tmp_path / "none" / "reads.csv", *db) == 2
    assert "cannot be written" in errors_of(capsys)


def test_a_hip_of_unknown_side_is_asked_by_its_box_and_keeps_the_tables_side(place, tmp_path):
    rule = site_rule(place.card, place.settings)
    hip = placed(scored_hip(Category.NORMAL, Side.UNKNOWN), 20, 60, 120, 200)
    film = place.film("unclear", sop_instance_uid="1.2.0")
    place.record(screened(film, hip, rule=rule, marks=(Mark.SIDE_UNCLEAR,)))
    assert new(place, write_table(place, [Category.NORMAL]), "--phases", "assisted") == 0
    client = place.client("rita")
    page = client.get("/study/1/hip").text
    assert "does not say which side" in page
    assert "hipedge found" in page
    answer_hip(client)
    target = tmp_path / "reads.csv"
    assert hipedge("study", "export", "trial", target, "--db", place.settings.db) == 0
    (row,) = csv.DictReader(target.read_text().splitlines())
    assert (row["side"], row["phase"]) == ("right", "assisted")


def test_a_closed_study_says_so(place, capsys):
    new_study(place, count=1)
    assert hipedge("study", "close", "trial", "--db", place.settings.db) == 0
    assert hipedge("study", "list", "--db", place.settings.db) == 0
    assert "closed" in capsys.readouterr().out
    assert [entry.event for entry in place.audit()][:2] == ["study_closed", "study_added"]


def test_phases_are_those_of_the_analysis():
    assert tuple(phase.value for phase in Phase if phase is not Phase.TRAINING) == PHASES


def test_a_wash_out_is_told_in_days_or_hours(place):
    new_study(place, "--washout", "36h", count=1)
    plan = study_of(place).plan
    assert plan.washout == timedelta(hours=36)
    assert plan.washout_text == "36 hours"


def test_a_user_that_is_disabled_cannot_be_a_reader(place, capsys):
    table = write_table(place, record_films(place, 1))
    with Accounts(place.settings.web_database) as accounts:
        accounts.set_disabled("rita", disabled=True)
    assert new(place, table) == 2
    assert "no user" in errors_of(capsys)


def test_a_copy_of_a_film_is_named_by_the_original(place, capsys):
    record_films(place, 1)
    original = place.folder / "normal-0.png"
    copy = place.folder / "copy.png"
    copy.write_bytes(original.read_bytes() + b"\0")
    rule = site_rule(place.card, place.settings)
    hip = placed(scored_hip(Category.NORMAL, Side.RIGHT), 20, 60, 120, 200)
    film = replace(read(copy, load(copy)).film, sop_instance_uid="1.2.0")
    place.record(screened(film, hip, rule=rule))
    assert new(place, table_of(place, (str(copy), "right", "normal", "a"))) == 2
    assert "duplicate" in errors_of(capsys)
    assert new(place, table_of(place, (str(original), "right", "normal", "a"))) == 0
