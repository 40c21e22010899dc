import csv

import pytest

from hipedge.errors import InputError
from hipedge.train.manifest import SPLITS, read_manifest, split_of
from hipedge.types import Box, Category, Side
from tests.train.films import write_films, write_manifest


@pytest.fixture
def rows(tmp_path):
    with write_films(tmp_path, 4).open() as file:
        return list(csv.DictReader(file))


def read(tmp_path, rows):
    return read_manifest(write_manifest(tmp_path / "changed.csv", rows)).rows


def test_a_row_is_one_hip_with_its_mark(tmp_path, rows):
    first = read(tmp_path, rows)[0]
    assert first.path == tmp_path / "000.png"
    assert (first.line, first.side, first.category) == (2, Side.RIGHT, Category.NORMAL)
    assert (first.marked, first.age_years, first.site) == ((100.0, 120.0), 40.0, "one")


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("path", "lost.png", "no file"),
        ("path", "", "no path"),
        ("side", "unknown", "side must be right or left"),
        ("category", "gout", "none of normal, osteoarthritis"),
        ("patient", "", "no patient"),
        ("age", "old", "age 'old' is not a number"),
        ("age", "1840", "not from 0 to 120"),
        ("x", "nan", "centre 'nan' is not a number"),
        ("y", "", "a centre needs x and y"),
    ],
)
def test_a_bad_cell_is_named_with_its_file_and_line(tmp_path, rows, column, value, fault):
    rows[2][column] = value
    with pytest.raises(InputError, match=rf"changed\.csv, line 4: .*{fault}"):
        read(tmp_path, rows)


def test_all_bad_rows_are_named_at_once(tmp_path, rows):
    rows[0]["side"], rows[5]["category"] = "up", "x"
    with pytest.raises(InputError) as caught:
        read(tmp_path, rows)
    assert [text.split(": ")[0][-6:] for text in str(caught.value).split("\n")] == [
        "line 2",
        "line 7",
    ]


def test_a_thousand_faults_do_not_fill_the_screen(tmp_path, rows):
    with pytest.raises(InputError, match="and 980 more faults"):
        read(tmp_path, [{**rows[0], "side": "up"} for _ in range(1000)])


def test_the_same_hip_twice_is_an_error(tmp_path, rows):
    with pytest.raises(InputError, match="line 10: the same hip as in line 2"):
        read(tmp_path, [*rows, rows[0]])


def test_a_patient_in_two_splits_is_leakage(tmp_path, rows):
    for row in rows:
        row["split"] = "train"
    rows[3]["split"] = "test"
    with pytest.raises(InputError, match=r"line 5: leakage: .* test here and in train in line 4"):
        read(tmp_path, rows)


def test_half_a_split_is_an_error(tmp_path, rows):
    for row in rows:
        row["split"] = "train"
    rows[6]["split"] = rows[7]["split"] = ""
    with pytest.raises(InputError, match="line 8: no split, though other rows have one"):
        read(tmp_path, rows)


def test_without_a_split_each_patient_falls_into_one_and_stays_there(tmp_path, rows):
    before = {row.patient: row.split for row in read(tmp_path, rows)}
    after = {row.patient: row.split for row in read(tmp_path, rows[2:])}
    assert set(before.values()) <= set(SPLITS)
    assert after.items() <= before.items()


def test_the_split_keeps_its_shares_and_depends_on_the_seed():
    splits = [split_of(f"patient {i}", seed=1) for i in range(4000)]
    shares = [splits.count(split) / 4000 for split in SPLITS]
    assert shares == pytest.approx([0.7, 0.15, 0.15, 0.0], abs=0.02)
    assert splits != [split_of(f"patient {i}", seed=2) for i in range(4000)]


def test_a_box_is_read_and_a_centre_goes_before_it(tmp_path, rows):
    for row in rows:
        row |= {"x0": 10, "y0": 20, "x1": 110, "y1": 120}
    rows[1] |= {"x": "", "y": ""}
    marks = [row.marked for row in read(tmp_path, rows)]
    assert marks[:2] == [(100.0, 120.0), Box(10, 20, 110, 120)]


def test_other_columns_are_left_unread(tmp_path, rows):
    assert len(read(tmp_path, [{**row, "grade": "kl2"} for row in rows])) == len(rows)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("path,side,category\n", "line 1: no column patient"),
        ("path,side,category,patient,side\n", "named twice: side"),
        ("path,side,category,patient\n", "no rows under its header"),
        ("path,side,category,patient\na,b\n", "line 2: 2 cells under a header of 4"),
        ('path,side,category,patient\n"a,b\n', "line 2"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, fault):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=fault):
        read_manifest(tmp_path / "bad.csv")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"path\xff\xfe,side")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_manifest(tmp_path / "bad.csv")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_manifest(tmp_path / "lost.csv")
