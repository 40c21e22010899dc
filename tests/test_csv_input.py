"""CSV tables from users: what is wrong is named with its row, and nothing in them is executed."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hipedge.csv_input import (
    Columns,
    Problems,
    did_you_mean,
    finite_number,
    name_rows,
    read_rows,
    repeated_rows,
)
from hipedge.errors import InputError
from hipedge.files import escape_formula, write_csv

TABLE = Columns(required=("side", "patient"), any_of=("path", "sha256"))


def rows_of(text, columns=TABLE, encoding="utf-8"):
    return list(read_rows(Path("t.csv"), columns, content=text.encode(encoding)))


def test_rows_are_numbered_as_an_editor_numbers_them():
    text = "path,side,patient\na,left,1\n\nb,right,2\n"
    assert [row for row, _ in rows_of(text)] == [2, 4]


def test_a_row_of_empty_cells_is_no_row():
    assert len(rows_of("path,side,patient\n,,\na,left,1\n")) == 1


def test_column_names_ignore_case_and_spaces_and_cells_are_stripped():
    assert rows_of(" Path ,SIDE,patient\n a ,left, 1\n")[0][1] == {
        "path": "a",
        "side": "left",
        "patient": "1",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_spreadsheets_delimiter_and_byte_order_mark_are_understood(encoding, delimiter):
    text = "path,side,patient\na,left,Zoë\n".replace(",", delimiter)
    assert rows_of(text, encoding=encoding)[0][1]["patient"] == "Zoë"


def test_a_quoted_cell_may_hold_the_delimiter_and_line_breaks():
    found = rows_of('path,side,patient\n"a,\nb",left,1\nc,left,2\n')
    assert [(row, cells["path"]) for row, cells in found] == [(3, "a,\nb"), (4, "c")]


def test_a_misspelt_column_is_suggested():
    with pytest.raises(InputError, match=r"line 1: no column patient \(did you mean pateint\?\)"):
        rows_of("path,side,pateint\n")


def test_a_table_names_the_columns_that_it_needs():
    needed = r"no column path or sha256; the table needs the columns side and patient and one of"
    with pytest.raises(InputError, match=needed):
        rows_of("side,patient\n")


def test_an_unknown_column_is_suggested_where_only_known_ones_are_allowed():
    closed = Columns(required=("side",), allowed=("side", "centre"))
    with pytest.raises(InputError, match=r"unknown column 'center' \(did you mean centre\?\)"):
        rows_of("side,center\n", closed)


def test_short_rows_are_refused_or_filled_as_the_table_asks():
    text = "path,side,patient\na,left\n"
    with pytest.raises(InputError, match="line 2: 2 cells under a header of 3: fewer cells"):
        rows_of(text)
    padded = Columns(required=("side",), pad_short_rows=True)
    assert rows_of(text, padded)[0][1] == {"path": "a", "side": "left", "patient": ""}
    with pytest.raises(InputError, match="more cells than columns"):
        rows_of("side\nleft,1\n", padded)


def test_a_table_says_row_or_line_as_its_readers_do():
    with pytest.raises(InputError, match="row 2: 1 cells"):
        rows_of("a,b\n1\n", Columns(required=(), row_word="row"))


def test_bytes_that_are_not_utf8_are_named_by_their_rows():
    with pytest.raises(InputError, match="not UTF-8 throughout: line 3;"):
        rows_of("path,side,patient\na,left,1\nb,left,Zoë\n", encoding="latin-1")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "one", "", "1,5"])
def test_what_is_no_finite_number_has_no_value(text):
    assert finite_number(text) is None


def test_numbers_are_parsed():
    assert [finite_number(text) for text in ("2", "-0.5", " 1e3 ")] == [2.0, -0.5, 1000.0]


def test_only_a_similar_word_is_suggested():
    assert did_you_mean("Osteoarthrits", ["normal", "osteoarthritis"]) == (
        " (did you mean osteoarthritis?)"
    )
    assert did_you_mean("knee", ["normal", "osteoarthritis"]) == ""


def test_repeated_rows_come_with_the_first_of_their_kind():
    assert list(repeated_rows([(2, "a"), (3, "b"), (4, "a"), (5, "a")])) == [(4, 2), (5, 2)]


def test_at_most_ten_rows_are_named():
    assert name_rows([2]) == "row 2"
    assert name_rows(list(range(1, 11))) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    assert name_rows(list(range(1, 12))).endswith("9, 10 and 1 more")
    assert name_rows(list(range(1, 13))) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more"


def message_of(problems, how):
    with pytest.raises(InputError) as raised:
        getattr(problems, how)()
    return str(raised.value)


def test_problems_are_listed_by_row_or_by_message():
    problems = Problems("t.csv")
    for row, message in ((4, "no side"), (2, "no side"), (3, "no patient"), (3, "no patient")):
        problems.add(row, message)
    assert message_of(problems, "raise_by_row").splitlines() == [
        "t.csv, line 2: no side",
        "t.csv, line 3: no patient",
        "t.csv, line 4: no side",
    ]
    assert message_of(problems, "raise_by_message").splitlines() == [
        "t.csv cannot be used:",
        "  no side: rows 2, 4",
        "  no patient: row 3",
    ]


def test_the_number_of_problems_listed_is_limited():
    problems = Problems("t.csv")
    for row in range(1, 21):
        problems.add(row, f"problem {row}")
    for how in ("raise_by_row", "raise_by_message"):
        assert "more" not in message_of(problems, how)
    problems.add(21, "problem 21")
    assert message_of(problems, "raise_by_row").splitlines()[20:] == ["and 1 more faults"]
    assert message_of(problems, "raise_by_message").splitlines()[21:] == [
        "  and 1 more kinds of fault"
    ]


def test_without_problems_nothing_is_raised():
    Problems("t.csv").raise_by_row()
    Problems("t.csv").raise_by_message()


FORMULAS = ["=1+2", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "-inf"]


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_a_spreadsheet_would_evaluate_gets_an_apostrophe(text):
    assert escape_formula(text) == "'" + text


@pytest.mark.parametrize("cell", [-1, -0.5, None, True, "-0.5", "+1e-3", "a-b", "O'Neill", ""])
def test_numbers_and_other_text_are_written_unchanged(cell):
    assert escape_formula(cell) is cell


@given(st.text(alphabet="=+-@'a1. ", max_size=6).map(str.strip))
def test_escaped_text_is_read_back_as_it_was(text):
    file = io.StringIO()
    write_csv(file, ("a", "b"), [(text, "x")])
    assert rows_of(file.getvalue(), Columns(required=()))[0][1]["a"] == text


def test_a_csv_file_has_its_header_and_rows():
    file = io.StringIO()
    write_csv(file, ("name", "=x"), [("a,b", -1.5), ("=c", None)])
    assert list(csv.reader(io.StringIO(file.getvalue()))) == [
        ["name", "'=x"],
        ["a,b", "-1.5"],
        ["'=c", ""],
    ]
