"""Tables that cannot be used say which rows, and why."""

import numpy as np
import pytest

from hipedge.errors import InputError
from hipedge.study.cases import match_predictions
from hipedge.study.inputs import FilmName, Prediction, read_labels, read_predictions, read_reads
from hipedge.study.reader_study import match_reads
from hipedge.types import Side

from .conftest import NAMES, label, prediction, read_of


def test_labels_and_predictions_are_matched_by_film_and_side(table):
    labels = read_labels(table("l.csv", [label("1"), label("1", "left", "osteoarthritis")]))
    predictions = table("p.csv", [prediction("1", "left"), prediction("1", "right"),
                                  prediction("2")])  # fmt: skip
    cases = match_predictions(labels, read_predictions(predictions))
    assert cases.truth.tolist() == [0, 1]
    assert cases.answer.tolist() == [0, 0]
    assert cases.probabilities[1, 0] == 0.93
    assert cases.unlabelled == 1


def test_a_semicolon_table_with_a_byte_order_mark_is_read_too(table):
    path = table("l.csv", [label("1", site="Zürich")], encoding="utf-8-sig", delimiter=";")
    assert read_labels(path)[0].site == "Zürich"


def test_a_sha256_wins_over_a_path(table):
    labels = read_labels(table("l.csv", [label("x", sha256="aa", path="old.dcm")]))
    made = Prediction(FilmName(sha256="aa", path="new.dcm"), Side.RIGHT, 0)
    assert match_predictions(labels, [made]).answer.tolist() == [0]


def test_a_relative_path_and_its_absolute_form_are_one(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"path": "films/a.dcm", "side": "right", "category": "normal", "patient": "1"}]
    made = Prediction(FilmName(path=str(tmp_path / "films" / "a.dcm")), Side.RIGHT, 0)
    assert match_predictions(read_labels(table("l.csv", rows)), [made]).answer.tolist() == [0]


def test_an_unknown_side_matches_the_only_label_of_its_film(table):
    labels = read_labels(table("l.csv", [label("1", "left")]))
    unknown = Prediction(FilmName(case="1"), Side.UNKNOWN, 2)
    assert match_predictions(labels, [unknown]).answer.tolist() == [2]
    both = read_labels(table("l.csv", [label("1", "left"), label("1", "right")]))
    assert match_predictions(both, [unknown]).answer.tolist() == [-1, -1]


def test_a_film_that_was_not_read_leaves_its_hips_without_an_answer(table):
    labels = read_labels(table("l.csv", [label("1"), label("1", "left"), label("2")]))
    predictions = [
        Prediction(FilmName(case="1"), None, code="truncated"),
        Prediction(FilmName(case="2"), Side.LEFT, 0),
    ]
    cases = match_predictions(labels, predictions)
    assert cases.answer.tolist() == [-1, -1, -1]
    assert cases.reasons == {0: "truncated", 1: "truncated", 2: "hip_not_found"}


def test_a_row_without_probabilities_says_that_the_hip_was_not_read(table):
    empty = dict.fromkeys(NAMES, "")
    rows = [prediction("1") | empty | {"code": "no_hip_found"}, prediction("2") | {"code": ""}]
    labels = read_labels(table("l.csv", [label("1"), label("2")]))
    cases = match_predictions(labels, read_predictions(table("p.csv", rows)))
    assert cases.reasons == {0: "no_hip_found"}
    assert not cases.scored[0]
    assert cases.scored[1]


def test_age_sex_and_vendor_come_from_the_film_where_the_label_has_none(table):
    labels = read_labels(table("l.csv", [label("1", sex="F"), label("2", sex="")]))
    films = [
        Prediction(FilmName(case=c), Side.RIGHT, 0, sex="M", age_years=a, vendor="v")
        for c, a in (("1", 12.0), ("2", 81.0))
    ]
    groups = match_predictions(labels, films).groups
    assert groups["sex"][0] == ("F", "M")
    assert groups["age"][0] == ("0 to 17", "80 and over")
    assert groups["vendor"][0] == ("v",)


LABEL_FAULTS = {
    "unknown category 'broken'": [label("1"), label("2", category="broken")],
    "a side that is not right, left or unknown": [label("1"), label("2", side="both")],
    "no patient": [label("1"), label("2") | {"patient": ""}],
    "no film": [label("1"), label("")],
    "a value of age that is not a number": [label("1", age="40"), label("2", age="NaN")],
    "no split, though other rows have one": [label("1", split="a"), label("2", split="")],
}


@pytest.mark.parametrize("message", LABEL_FAULTS)
def test_a_bad_label_is_named_by_its_row(table, message):
    with pytest.raises(InputError, match=message) as raised:
        read_labels(table("l.csv", LABEL_FAULTS[message]))
    assert "row 3" in str(raised.value)


def test_a_column_split_that_is_empty_throughout_makes_one_data_set(table):
    labels = read_labels(table("l.csv", [label("1", split=""), label("2", split="")]))
    assert [label.split for label in labels] == [None, None]


PREDICTION_FAULTS = {
    "probabilities that do not sum to one": {"normal": "0.5"},
    "a probability that is not a number from 0 to 1": {"normal": "nan"},
    "a probability that is not a number": {"osteoarthritis": "1e99"},
    "a value of flagged": {"flagged": "maybe"},
    "a side that is not": {"side": "up"},
}


@pytest.mark.parametrize("message", PREDICTION_FAULTS)
def test_a_bad_prediction_is_named_by_its_row(table, message):
    rows = [prediction("1", flagged="1"), prediction("2", flagged="0") | PREDICTION_FAULTS[message]]
    with pytest.raises(InputError, match=message) as raised:
        list(read_predictions(table("p.csv", rows)))
    assert "row 3" in str(raised.value)


def test_probabilities_of_an_unknown_side_need_not_sum_to_one(table):
    row = prediction("1", "unknown") | {"osteoarthritis": "0.4"}
    assert next(read_predictions(table("p.csv", [row]))).probabilities[1] == 0.4


def test_every_kind_of_fault_is_told_at_once(table):
    rows = [label("1", category="x"), label("2", side="up"), label("3", category="x")]
    with pytest.raises(InputError) as raised:
        read_labels(table("l.csv", rows))
    assert "unknown category 'x': rows 2, 4" in str(raised.value)
    assert "row 3" in str(raised.value)


def test_mixed_encodings_are_named_by_row(table):
    path = table("l.csv", [label("1", site="Bern"), label("2", site="Bern")])
    path.write_bytes(path.read_bytes()[:-2] + "Zürich".encode("latin-1") + b"\n")
    with pytest.raises(InputError, match="not UTF-8 throughout: row 3"):
        read_labels(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column side"),
        ("case,side,category\n1,right,normal\n", "no column patient"),
        ("side,category,patient\nright,normal,1\n", "no column content_hash or"),
        ("case,side,side,category,patient\n", "a column is named twice: side"),
        ("case,side,category,patient\n", "no rows"),
        ("case,side,category,patient\n1,right,normal\n", "row 2: 3 cells under a header of 4"),
        ('case,side,category,patient\n1,right,"normal,1\n', "row 2"),
    ],
)
def test_a_malformed_table_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_labels(path)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "absent.csv")


def test_some_probability_columns_without_others_are_refused(table):
    row = prediction("1")
    del row["osteoarthritis"]
    with pytest.raises(InputError, match="no probability column for osteoarthritis"):
        list(read_predictions(table("p.csv", [row])))


def test_a_label_whose_film_the_predictions_do_not_know_is_an_error(table):
    labels = read_labels(table("l.csv", [label("1"), label("7")]))
    with pytest.raises(InputError, match=r"no prediction has this case.*row 3"):
        match_predictions(labels, read_predictions(table("p.csv", [prediction("1")])))


def test_duplicates_are_named_by_row(table):
    with pytest.raises(InputError, match="a second label for a hip: row 3"):
        match_predictions(read_labels(table("l.csv", [label("1"), label("1")])),
              read_predictions(table("p.csv", [prediction("1")])))  # fmt: skip
    with pytest.raises(InputError, match="a second prediction for a hip: row 3"):
        match_predictions(read_labels(table("l.csv", [label("1")])),
              read_predictions(table("p.csv", [prediction("1"), prediction("1")])))  # fmt: skip


def test_tables_without_a_common_film_column_are_refused(table):
    labels = read_labels(table("l.csv", [label("1")]))
    with pytest.raises(InputError, match="no column in common"):
        match_predictions(labels, [Prediction(FilmName(sha256="aa"), Side.RIGHT, 0)])
    with pytest.raises(InputError, match="there are no predictions"):
        match_predictions(labels, [])


@pytest.mark.parametrize("nameless_first", [False, True])
def test_a_prediction_without_what_films_are_matched_by_is_left_out_and_counted(
    table, nameless_first
):
    """As a corrupt file in a database is: it has a path and a hash, but no UID."""
    named = Prediction(FilmName(sha256="aa", sop_instance_uid="1.2", path="a.dcm"), Side.RIGHT, 0)
    nameless = Prediction(FilmName(sha256="bb", path="notes.txt"), None, code="not_an_image")
    rows = [{"sop_instance_uid": "1.2", "side": "right", "category": "normal", "patient": "1"}]
    predictions = [nameless, named] if nameless_first else [named, nameless]
    cases = match_predictions(read_labels(table("l.csv", rows)), predictions)
    assert cases.answer.tolist() == [0]
    assert cases.unlabelled == 1


def test_films_are_matched_by_the_best_column_that_any_prediction_has(table):
    labels = read_labels(table("l.csv", [label("1", sop_instance_uid="1.2", path="a.dcm")]))
    by_path = Prediction(FilmName(path="a.dcm"), Side.RIGHT, 3)
    by_uid = Prediction(FilmName(sop_instance_uid="1.2"), Side.RIGHT, 0)
    assert match_predictions(labels, [by_path]).answer.tolist() == [3]
    assert match_predictions(labels, [by_path, by_uid]).answer.tolist() == [0]


def test_an_unread_film_without_a_label_is_counted_too(table):
    labels = read_labels(table("l.csv", [label("1")]))
    unread = Prediction(FilmName(case="2"), None, code="truncated")
    assert (
        match_predictions(
            labels, [Prediction(FilmName(case="1"), Side.RIGHT, 0), unread]
        ).unlabelled
        == 1
    )


def reads_of(table, rows, n_labels=2):
    labels = read_labels(table("l.csv", [label(str(i)) for i in range(1, n_labels + 1)]))
    made = [prediction(str(i)) for i in range(1, n_labels + 1)]
    cases = match_predictions(labels, read_predictions(table("p.csv", made)))
    return match_reads(read_reads(table("r.csv", rows)), labels, cases)


def test_a_hip_that_a_reader_missed_is_left_out_and_counted(table):
    study = reads_of(table, [read_of("1"), read_of("2"), read_of("1", "R2")])
    assert len(study.cases) == 1
    assert study.excluded["a reader's answer is missing"] == 1


def test_a_read_of_unknown_side_is_of_the_only_label_of_its_film(table):
    assert len(reads_of(table, [read_of("1"), read_of("2", side="unknown")]).cases) == 2


def test_a_read_of_the_other_side_has_no_label(table):
    with pytest.raises(InputError, match="a read of a hip that has no label: row 3"):
        reads_of(table, [read_of("1"), read_of("2", side="left")])


READ_FAULTS = {
    "a second read of a hip": [read_of("1"), read_of("1")],
    "a read of a hip that has no label": [read_of("1"), read_of("9")],
    "a phase that is neither": [read_of("1"), read_of("2", phase="later")],
    "unknown answer 'ill'": [read_of("1"), read_of("2", answer="ill")],
    "a reader with a second grade": [read_of("1"), read_of("2") | {"grade": "junior"}],
}


@pytest.mark.parametrize("message", READ_FAULTS)
def test_a_bad_read_is_named_by_its_row(table, message):
    with pytest.raises(InputError, match=message) as raised:
        reads_of(table, READ_FAULTS[message])
    assert "row 3" in str(raised.value)


def test_every_reader_must_read_in_every_phase(table):
    rows = [read_of("1"), read_of("1", phase="assisted"), read_of("1", "R2")]
    with pytest.raises(InputError, match="R2 has no reads assisted"):
        reads_of(table, rows)


def test_confidence_counts_only_where_every_read_has_it(table):
    full = [read_of("1", confidence="80"), read_of("2", confidence="60")]
    assert reads_of(table, full).confidence.tolist() == [[[80.0, 60.0]]]
    part = [read_of("1", confidence="80"), read_of("2", confidence="")]
    assert reads_of(table, part).confidence is None


def test_selecting_hips_keeps_their_reasons(table):
    labels = read_labels(table("l.csv", [label("1"), label("2")]))
    cases = match_predictions(labels, [Prediction(FilmName(case="1"), Side.RIGHT, 0),
                           Prediction(FilmName(case="2"), None, code="truncated")])  # fmt: skip
    chosen = cases.select(np.array([False, True]))
    assert chosen.reasons == {0: "truncated"}
    assert chosen.films == ["2"]


def test_every_optional_cell_of_a_label_is_read_and_an_empty_one_is_none(table):
    filled = {"site": "A", "sex": "F", "age": "0", "vendor": "V", "split": "internal"}
    found = read_labels(table("l.csv", [label("1", **filled)]))[0]
    assert (found.row, found.film, found.side) == (2, FilmName(case="1"), Side.RIGHT)
    assert (found.category, found.patient) == (0, "p1")
    assert (found.site, found.sex, found.age_years) == ("A", "F", 0.0)
    assert (found.vendor, found.split) == ("V", "internal")
    empty = read_labels(table("l.csv", [label("1", **dict.fromkeys(filled, ""))]))[0]
    assert {empty.site, empty.sex, empty.age_years, empty.vendor, empty.split} == {None}


def test_a_film_keeps_every_identifier_that_its_row_has(table):
    row = label("c", content_hash="B", sha256="s", sop_instance_uid="u", path="p")
    expected = FilmName("blake3:b", "s", "u", "p", "c")
    assert read_labels(table("l.csv", [row]))[0].film == expected


@pytest.mark.parametrize("column", ["age"])
@pytest.mark.parametrize("value", ["-1", "inf", "old"])
def test_a_number_that_cannot_be_is_refused(table, column, value):
    with pytest.raises(InputError, match=f"a value of {column} that is not a number of 0 or more"):
        read_labels(table("l.csv", [label("1", **{column: value})]))


def test_predictions_without_rows_are_refused(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(",".join(["case", "side", *NAMES]) + "\n")
    with pytest.raises(InputError, match="has no rows under its header"):
        list(read_predictions(path))


def test_predictions_need_probabilities_or_a_category(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("case,side\n1,right\n")
    with pytest.raises(InputError, match="neither probability columns"):
        list(read_predictions(path))


def test_a_prediction_has_the_most_probable_category_unless_it_names_another(table):
    rows = [prediction("1", category="osteoarthritis"), prediction("2") | {"category": NAMES[3]}]
    rows[0]["category"] = ""
    found = list(read_predictions(table("p.csv", rows)))
    assert [(p.category, p.side, p.code, p.row) for p in found] == [
        (1, Side.RIGHT, None, 2),
        (3, Side.RIGHT, None, 3),
    ]


@pytest.mark.parametrize(
    ("text", "flagged"),
    [("1", True), ("True", True), ("0", False), ("false", False), ("", None)],
)
def test_a_flag_is_true_false_or_not_known(table, text, flagged):
    assert (
        next(read_predictions(table("p.csv", [prediction("1", flagged=text)]))).flagged is flagged
    )


def test_a_model_that_is_certain_has_probabilities_of_0_and_1(table):
    certain = dict.fromkeys(NAMES, "0") | {"osteoarthritis": "1"}
    found = next(read_predictions(table("p.csv", [prediction("1") | certain])))
    assert found.probabilities == (0.0, 1.0, *[0.0] * 6)


@pytest.mark.parametrize("value", ["1.001", "-0.001"])
def test_a_probability_outside_0_to_1_is_refused(table, value):
    with pytest.raises(InputError, match="a probability that is not a number from 0 to 1: row 2"):
        list(read_predictions(table("p.csv", [prediction("1") | {"osteoarthritis": value}])))


def test_rounded_probabilities_may_miss_one_by_a_little(table):
    row = prediction("1") | {"normal": "0.926"}
    assert next(read_predictions(table("p.csv", [row]))).category == 0
    for off in ("0.924", "0.936"):
        rows = [prediction("1") | {"normal": off}]
        with pytest.raises(InputError, match="do not sum to one"):
            list(read_predictions(table("p.csv", rows)))


def test_a_film_that_was_not_read_needs_no_side_but_an_answer_does(table):
    empty = dict.fromkeys(NAMES, "")
    unread = next(read_predictions(table("p.csv", [prediction("1", "") | empty])))
    assert (unread.side, unread.category, unread.code) == (None, None, "not_read")
    with pytest.raises(InputError, match="a side that is not"):
        list(read_predictions(table("p.csv", [prediction("1", "")])))
    with pytest.raises(InputError, match="a side that is not"):
        list(read_predictions(table("p.csv", [prediction("1", "up") | empty])))


def test_a_similar_category_is_suggested(table):
    with pytest.raises(InputError, match=r"'osteoarthritus' \(did you mean osteoarthritis\?\)"):
        read_labels(table("l.csv", [label("1", category="osteoarthritus")]))


def test_every_cell_of_a_read_is_read(table):
    row = read_of("1", answer="Femoral neck fracture", confidence="80", seconds="12.5")
    found = read_reads(table("r.csv", [row]))[0]
    assert (found.row, found.reader, found.grade, found.phase) == (2, "R1", "senior", "alone")
    assert (found.answer, found.confidence, found.seconds) == (3, 80.0, 12.5)
    ungraded = read_reads(table("r.csv", [read_of("1") | {"grade": ""}]))[0]
    assert (ungraded.grade, ungraded.confidence, ungraded.seconds) == ("ungraded", None, None)


def test_a_read_without_a_reader_and_a_table_without_reads_are_refused(table, tmp_path):
    with pytest.raises(InputError, match="no reader: row 2"):
        read_reads(table("r.csv", [read_of("1", reader="")]))
    path = tmp_path / "empty.csv"
    path.write_text("reader,grade,phase,case,side,answer\n")
    with pytest.raises(InputError, match="has no rows"):
        read_reads(path)


def test_reads_keep_their_times_where_not_every_read_has_one(table):
    timed = [read_of("1", seconds="3"), read_of("2", seconds="")]
    found = reads_of(table, timed).seconds[0, 0]
    assert found[0] == 3.0
    assert np.isnan(found[1])
    untimed = [read_of("1", seconds=""), read_of("2", seconds="")]
    assert reads_of(table, untimed).seconds is None


def test_hips_left_out_of_a_reader_study_are_counted_by_reason(table):
    labels = read_labels(table("l.csv", [label(str(i)) for i in range(1, 7)]))
    made = [Prediction(FilmName(case=str(i)), Side.RIGHT, 0) for i in range(1, 6)]
    cases = match_predictions(labels, [*made, Prediction(FilmName(case="6"), None, code="x")])
    rows = [read_of(c, r) for c in "126" for r in ("R1", "R2")] + [read_of("3", "R1")]
    study = match_reads(read_reads(table("r.csv", rows)), labels, cases)
    assert study.cases.films == ["1", "2"]
    assert study.excluded == {
        "labelled, but not read": 2,
        "a reader's answer is missing": 1,
        "no answer by the model": 1,
    }


def test_reads_are_stored_by_reader_phase_and_hip(table):
    rows = [
        read_of(case, reader, phase, answer)
        for reader, phase, answers in (
            ("R2", "assisted", (NAMES[1], NAMES[2])),
            ("R2", "alone", (NAMES[3], NAMES[4])),
            ("R1", "alone", (NAMES[5], NAMES[6])),
            ("R1", "assisted", (NAMES[7], NAMES[0])),
        )
        for case, answer in zip("12", answers, strict=True)
    ]
    study = reads_of(table, rows)
    assert (study.readers, study.phases) == (("R2", "R1"), ("alone", "assisted"))
    assert study.answers.tolist() == [[[3, 4], [1, 2]], [[5, 6], [7, 0]]]


def test_a_study_whose_hips_nobody_shares_has_nothing_to_compare(table):
    with pytest.raises(InputError, match="no hip was answered by every reader"):
        reads_of(table, [read_of("1", "R1"), read_of("2", "R2")])


def test_selected_hips_keep_everything_that_belongs_to_them(table):
    labels = read_labels(
        table("l.csv", [label("1", site="A"), label("2", "left", site="B"), label("3", site="A")])
    )
    share = (0.3, *[0.1] * 7)
    made = [
        Prediction(FilmName(case="1"), Side.RIGHT, 1, share, flagged=True),
        Prediction(FilmName(case="2"), Side.UNKNOWN, 2, share, flagged=False),
        Prediction(FilmName(case="3"), None, code="truncated"),
    ]
    cases = match_predictions(labels, made)
    assert cases.flagged.tolist() == [1, 0, -1]
    assert cases.merged.tolist() == [False, True, False]
    assert cases.answered.tolist() == cases.scored.tolist() == [True, True, False]
    assert not cases.clustered
    chosen = cases.select(np.array([False, True, True]))
    assert chosen.sides == [Side.LEFT, Side.RIGHT]
    assert chosen.films == ["2", "3"]
    assert (chosen.answer.tolist(), chosen.flagged.tolist()) == ([2, -1], [0, -1])
    assert chosen.merged.tolist() == [True, False]
    assert chosen.patients.tolist() == [1, 2]
    assert chosen.groups["site"] == (("A", "B"), pytest.approx([1, 0]))
    assert chosen.reasons == {1: "truncated"}


def test_two_hips_of_a_patient_make_a_clustered_sample(table):
    labels = read_labels(table("l.csv", [label("1"), label("1", "left")]))
    made = [Prediction(FilmName(case="1"), side, 0) for side in (Side.RIGHT, Side.LEFT)]
    assert match_predictions(labels, made).clustered


@pytest.mark.parametrize(
    ("age", "band"),
    [("0", "0 to 17"), ("17.9", "0 to 17"), ("18", "18 to 39"), ("40", "40 to 59"),
     ("60", "60 to 79"), ("79.9", "60 to 79"), ("80", "80 and over"), ("230", "80 and over")],
)  # fmt: skip
def test_ages_fall_into_bands(table, age, band):
    labels = read_labels(table("l.csv", [label("1", age=age)]))
    cases = match_predictions(labels, [Prediction(FilmName(case="1"), Side.RIGHT, 0, age_years=5)])
    assert cases.groups["age"][0] == (band,)


def test_an_unread_film_describes_its_hips_too(table):
    labels = read_labels(table("l.csv", [label("1"), label("2")]))
    made = [
        Prediction(FilmName(case="1"), None, code="truncated", vendor="v"),
        Prediction(FilmName(case="2"), Side.RIGHT, 0),
    ]
    groups = match_predictions(labels, made).groups
    assert groups["vendor"][0] == ("v",)
    assert groups["vendor"][1].tolist() == [0, -1]
    assert "sex" not in groups


def test_labels_and_reads_without_a_common_column_are_refused(table):
    labels = read_labels(table("l.csv", [label("1")]))
    cases = match_predictions(labels, [Prediction(FilmName(case="1"), Side.RIGHT, 0)])
    row = {name: value for name, value in read_of("1").items() if name != "case"}
    reads = read_reads(table("r.csv", [row | {"path": "a.dcm"}]))
    with pytest.raises(InputError, match="labels and reads have no column in common"):
        match_reads(reads, labels, cases)


def test_an_empty_probability_among_others_is_refused(table):
    with pytest.raises(InputError, match="a probability that is not a number from 0 to 1: row 2"):
        list(read_predictions(table("p.csv", [prediction("1") | {"osteoarthritis": ""}])))


def test_a_prediction_for_the_other_hip_of_a_labelled_film_is_counted(table):
    labels = read_labels(table("l.csv", [label("1")]))
    made = [Prediction(FilmName(case="1"), side, 0) for side in (Side.RIGHT, Side.LEFT)]
    assert match_predictions(labels, made).unlabelled == 1


def test_the_data_sets_are_a_group_of_the_cases(table):
    labels = read_labels(table("l.csv", [label("1", split="b"), label("2", split="a")]))
    made = [Prediction(FilmName(case=case), Side.RIGHT, 0) for case in "12"]
    names, codes = match_predictions(labels, made).groups["split"]
    assert (names, codes.tolist()) == (("b", "a"), [0, 1])
