"""`hipedge flagged`: every file that was not read is on a list, whatever kept it from being read.

The files are real ones of the shared data, or variants of them, that go through `hipedge screen`'s
own preprocessing; the outcomes of other tests are recorded directly.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hipedge.errors import CODES, Code, State
from hipedge.locate.given import GivenHips
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.review.worklist import max_flag_probability
from hipedge.types import CATEGORIES, Category, Finding, Mark, Priority, Refusal, Side
from tests.builders import content, film, scored_hip, screened
from tests.dicom.dicom_films import film as dicom_film

LISTED = [
    code
    for code, info in CODES.items()
    if info.state in (State.QUARANTINED, State.NOT_APPLICABLE) and not info.other_modality
]
COUNTED = [code for code, info in CODES.items() if info.other_modality]


def refusal(code, name="x", **values):
    return Refusal(Path(f"/in/{name}"), code, content_hash=content(name), **values)


def names(records):
    return [Path(record["path"]).name for record in records]


@pytest.mark.parametrize("code", LISTED)
def test_a_film_that_was_not_read_is_listed_by_name_in_every_format(
    record, run, flagged, flagged_csv, code
):
    record(refusal(code, "film.dcm"))
    (entry,) = flagged()["not_read"]
    assert (entry["path"], entry["code"]) == ("/in/film.dcm", code.value)
    assert entry["meaning"] == CODES[code].meaning
    assert [(row["list"], row["path"]) for row in flagged_csv()] == [("not_read", "/in/film.dcm")]
    _, out, _ = run("flagged")
    assert "Not read: a human must look" in out
    assert "film.dcm" in out
    assert code.value in out


@pytest.mark.parametrize("code", COUNTED)
def test_files_of_other_modalities_are_counted_and_listed_on_demand(
    record, run, flagged, flagged_csv, code
):
    record(refusal(code, "a.dcm"), refusal(code, "b.dcm"))
    _, out, _ = run("flagged")
    assert f"2 × {CODES[code].meaning} ({code.value})" in out
    assert "hipedge flagged --other-modalities" in out
    assert "a.dcm" not in out
    _, out, _ = run("flagged", "--other-modalities")
    assert "a.dcm" in out
    assert "b.dcm" in out
    assert names(flagged()["other_modalities"]) == ["a.dcm", "b.dcm"]
    assert [row["list"] for row in flagged_csv()] == ["other_modalities"] * 2


def test_each_kind_of_other_modality_has_its_number(record, run):
    record(
        *(refusal(Code.WRONG_MODALITY, f"ct{n}") for n in range(3)),
        refusal(Code.WRONG_OBJECT, "report"),
    )
    _, out, _ = run("flagged")
    assert "3 × another modality (wrong_modality)" in out
    assert "1 × a DICOM object that is not a radiograph (wrong_object)" in out


def test_a_database_without_other_modalities_does_not_mention_them(record, run):
    record(refusal(Code.NO_HIP_FOUND))
    _, out, _ = run("flagged")
    assert "modalit" not in out


def test_only_other_modalities_own_results_and_duplicates_are_not_listed_one_by_one():
    assert {code for code in Code if code not in LISTED} == {
        Code.WRONG_MODALITY,
        Code.WRONG_OBJECT,
        Code.OWN_RESULT,
        Code.SAME_PIXELS,
    }


def test_what_was_not_read_comes_last_and_quarantined_files_first_in_it(record, run, flagged):
    flagged_hip = scored_hip(Category.FEMORAL_NECK_FRACTURE)
    record(
        refusal(Code.WRONG_BODY_PART, "chest.dcm"),
        refusal(Code.DECODE_FAILED, "broken.dcm"),
        refusal(Code.LATERAL_VIEW, "lateral.dcm"),
        screened(film("fracture"), flagged_hip),
        screened(film("marked"), marks=[Mark.SIDE_UNCLEAR]),
        refusal(Code.WRONG_MODALITY, "ct.dcm"),
    )
    assert names(flagged()["not_read"]) == ["broken.dcm", "chest.dcm", "lateral.dcm"]
    _, out, _ = run("flagged")
    shown = ("fracture.dcm", "marked.dcm", "broken.dcm", "chest.dcm", "lateral.dcm", "1 × another")
    order = [out.index(text) for text in shown]
    assert order == sorted(order)


def test_a_duplicate_is_not_among_what_was_not_read(record, flagged):
    first = film("first", uid="1.2.3")
    record(screened(first), screened(film("again", uid="1.2.3")))
    assert flagged() == {"flagged": [], "not_read": [], "marked": [], "other_modalities": []}


def test_a_marked_duplicate_is_a_film_that_was_read(record, flagged):
    record(screened(film("first", uid="1.2.3")))
    again = film("again", uid="1.2.3", marks=frozenset({Mark.POLYGLOT}))
    record(screened(again, marks=again.marks))
    lists = flagged()
    assert names(lists["marked"]) == ["again.dcm"]
    assert not lists["not_read"]


def test_a_film_that_is_normal_and_unmarked_is_on_no_list(record, flagged, flagged_csv, run):
    record(screened(film()))
    assert not any(flagged().values())
    assert flagged_csv() == []
    assert "No hip is flagged." in run("flagged")[1]


@pytest.mark.parametrize("mark", Mark)
def test_every_mark_is_listed_in_every_format(record, run, flagged, flagged_csv, mark):
    record(screened(film(), marks=[mark]))
    assert [entry["marks"] for entry in flagged()["marked"]] == [[mark.value]]
    assert [(row["list"], row["marks"]) for row in flagged_csv()] == [("marked", mark.value)]
    _, out, _ = run("flagged")
    assert "Read, but look again" in " ".join(out.split())
    assert mark.value in out


URGENT = scored_hip(Category.FEMORAL_NECK_FRACTURE, Side.LEFT)
ROUTINE = scored_hip(Category.OSTEOARTHRITIS, Side.RIGHT)


def test_two_flagged_hips_of_one_film_are_each_listed_at_their_own_urgency(record, flagged):
    record(
        screened(film("both"), ROUTINE, URGENT),
        screened(film("urgent"), scored_hip(Category.INTERTROCHANTERIC_FRACTURE)),
    )
    hips = flagged()["flagged"]
    assert [(Path(hip["path"]).stem, hip["priority"]) for hip in hips] == [
        ("both", "urgent"),
        ("urgent", "urgent"),
        ("both", "routine"),
    ]
    assert [hip["side"] for hip in hips] == ["left", "right", "right"]


def test_of_equal_urgency_the_likelier_comes_first(record, flagged):
    faint = scored_hip(Category.FEMORAL_NECK_FRACTURE, sure=3.0)
    sure = scored_hip(Category.FEMORAL_NECK_FRACTURE, sure=9.0)
    record(screened(film("faint"), faint), screened(film("sure"), sure))
    assert names(flagged()["flagged"]) == ["sure.dcm", "faint.dcm"]


def test_a_film_whose_other_hip_is_normal_lists_one_hip(record, flagged):
    record(screened(film(), scored_hip(), URGENT))
    assert [hip["side"] for hip in flagged()["flagged"]] == ["left"]


def test_the_table_names_each_finding_with_its_probability(record, run):
    record(screened(film("f"), URGENT))
    _, out, _ = run("flagged")
    (line,) = [line for line in out.splitlines() if "f.dcm" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[:2] == [Priority.URGENT.value, "left"]
    assert re.fullmatch(r"femoral neck fracture \d+%.*", cells[2])
    assert cells[3:] == ["1", "f.dcm"]


def test_hardware_comes_with_the_note_that_the_implant_is_not_assessed(record, run, flagged):
    Path("hipedge.toml").write_text("flag_hardware = true")
    record(screened(film(), scored_hip(Category.INTERNAL_FIXATION)))
    (hip,) = flagged()["flagged"]
    assert "not assessed" in hip["note"]
    assert "not assessed" in run("flagged")[1]


def test_a_file_whose_content_was_never_read_is_named_with_its_folder(record, run):
    record(Refusal(Path("/in/deep/gone.dcm"), Code.UNREADABLE))
    assert "/in/deep/gone.dcm" in run("flagged")[1]


def test_the_detail_of_a_refusal_is_shown(record, run, flagged):
    record(refusal(Code.DECODE_FAILED, detail="Jpeg2kError"))
    assert flagged()["not_read"][0]["detail"] == "Jpeg2kError"
    assert "Jpeg2kError" in run("flagged")[1]


@pytest.mark.parametrize("since", ["0001-01-01", "0001-01-01T00:00:00", "1969-12-31"])
def test_since_the_beginning_of_the_calendar_is_everything(record, flagged, since):
    record(refusal(Code.EMPTY_FILE), refusal(Code.WRONG_MODALITY, "ct"))
    lists = flagged("--since", since)
    assert len(lists["not_read"]) == len(lists["other_modalities"]) == 1


@pytest.mark.parametrize("since", ["9999-12-31", "9999-12-31T23:59:59"])
def test_since_the_end_of_the_calendar_is_nothing(record, flagged, since):
    record(refusal(Code.EMPTY_FILE), refusal(Code.WRONG_MODALITY, "ct"))
    assert not any(flagged("--since", since).values())


def test_since_is_local_time(record, flagged):
    record(refusal(Code.EMPTY_FILE), refusal(Code.WRONG_MODALITY, "ct"))
    for minutes, count in ((-5, 1), (5, 0)):
        since = (datetime.now() + timedelta(minutes=minutes)).isoformat(timespec="seconds")
        lists = flagged("--since", since)
        assert len(lists["not_read"]) == len(lists["other_modalities"]) == count


def test_no_text_of_a_models_card_is_read_as_markup_or_moves_the_cursor(
    record, run, reference_model
):
    name, text = "[bold red]x[/] \x1b[2J\x1b[1A", "[link=http://a.b]click[/link]\x07 [/nonsense]"
    card = replace(reference_model.card, name=name, status_text=text)
    record(screened(film(), URGENT, marks=[Mark.CONFLICT]), card=card)
    for command in (["flagged"], ["flagged", "--csv"], ["status"], ["show", "1", "--json"]):
        code, out, err = run(*command)
        assert code == 0
        assert not {"\x1b", "\x07"} & set(out + err)
    _, _, err = run("flagged")
    assert r"[bold red]x[/] \x1b[2J\x1b[1A" in err
    assert r"[link=http://a.b]click[/link]\x07 [/nonsense]" in err


@pytest.fixture
def preprocess(reference_model):
    return Preprocessor(reference_model.card.input, GivenHips(), frozenset())


def test_files_that_the_gate_refuses_are_all_listed(record, flagged, preprocess, db):
    """The kinds that no list named once: of a body part, view, frame count or object's class."""
    variants = {
        "abdomen": {"BodyPartExamined": "ABDOMEN"},
        "chest": {"BodyPartExamined": "CHEST"},
        "hand": {"BodyPartExamined": "HAND"},
        "lateral": {"ViewPosition": "LL"},
        "frames": {"NumberOfFrames": "2"},
        "capture": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        "localizer": {"ImageType": ["DERIVED", "SECONDARY", "LOCALIZER"]},
        "software": {"ImageType": ["DERIVED", "SECONDARY", "AI"]},
    }
    pixels = np.random.default_rng(1).integers(0, 4096, (64, 48), np.uint16)
    for name, elements in variants.items():
        (db.parent / f"{name}.dcm").write_bytes(dicom_film(pixels, **elements))
    pages = [Image.new("L", (90, 80), gray) for gray in (10, 200, 90)]
    pages[0].save(db.parent / "pages.tif", save_all=True, append_images=pages[1:])
    films = [*db.parent.glob("*.dcm"), db.parent / "pages.tif"]
    outcomes = [preprocess(path) for path in films]
    # Noise has no hips: a film that passes the gate is refused by the locator.
    assert all(isinstance(outcome, Refusal) for outcome in outcomes)
    record(*outcomes)
    assert {Path(entry["path"]) for entry in flagged()["not_read"]} == set(films)
    codes = {Path(outcome.source).stem: outcome.code for outcome in outcomes}
    assert codes["hand"] is Code.WRONG_BODY_PART
    assert codes["lateral"] is Code.LATERAL_VIEW


def test_a_flagged_hip_comes_with_its_probabilities_and_its_box(record, flagged, flagged_csv):
    record(screened(film(), URGENT))
    (hip,) = flagged()["flagged"]
    assert hip["box_px"] == [-10.5, 0.0, 700.2, 800.0]
    assert sum(hip["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)
    assert hip["probabilities"]["femoral_neck_fracture"] == max(hip["probabilities"].values())
    assert all(round(value, 4) == value for value in hip["probabilities"].values())
    (row,) = flagged_csv()
    assert row["box_px"] == "-10.5;0.0;700.2;800.0"
    assert float(row["p_femoral_neck_fracture"]) == hip["probabilities"]["femoral_neck_fracture"]


def test_without_a_database_the_command_that_makes_one_is_named(run, db):
    code, _, err = run("flagged")
    assert code == 2
    assert "hipedge screen" in err
    assert not db.exists()


def test_a_hip_that_is_flagged_for_two_categories_ranks_by_the_likelier():
    reasons = (Category.OSTEOARTHRITIS, Category.FEMORAL_NECK_FRACTURE)
    probabilities = [0.01] * len(CATEGORIES)
    probabilities[CATEGORIES.index(reasons[0])] = 0.6
    probabilities[CATEGORIES.index(reasons[1])] = 0.3
    for flagged_for in (reasons, reasons[::-1]):
        finding = Finding(
            reasons[0], tuple(probabilities), flagged_for, False, Priority.URGENT, "sensitive"
        )
        assert max_flag_probability(finding) == 0.6
