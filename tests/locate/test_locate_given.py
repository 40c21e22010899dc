"""`--hips hips.csv`: hips that a person has marked."""

import pytest

from hipedge.errors import InputError
from hipedge.locate.given import GivenHip, GivenHips, read_hips_csv
from hipedge.types import Box, Side
from tests.builders import content, film, sha

UID = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "hips.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def hips_of(path, name="film", **values):
    return read_hips_csv(path).of(film(name, folder=path.parent, **values))


def test_a_hip_is_a_femoral_heads_centre(written):
    path = written("path,side,x,y\nfilm.dcm,right,410.5,802\n")
    assert hips_of(path) == (GivenHip(Side.RIGHT, (410.5, 802.0)),)


def test_a_hip_is_a_box(written):
    path = written("path,side,x0,y0,x1,y1\nfilm.dcm,left,10,20,310,320\n")
    assert hips_of(path) == (GivenHip(Side.LEFT, Box(10, 20, 310, 320)),)


def test_one_file_may_hold_both_kinds(written):
    path = written(
        "path,side,x,y,x0,y0,x1,y1\nfilm.dcm,left,5,6,,,,\nfilm.dcm,right,,,10,20,310,320\n"
    )
    assert [type(hip.marked) for hip in hips_of(path)] == [tuple, Box]


def test_a_centre_may_come_with_the_heads_radius(written):
    path = written("path,side,x,y,radius\nfilm.dcm,left,5,6,61.5\nfilm.dcm,right,9,6,\n")
    assert [hip.radius_px for hip in hips_of(path)] == [61.5, None]


def test_each_film_of_the_csv_has_the_line_where_it_first_stands(written, tmp_path):
    path = written(
        f"path,sha256,side,x,y\n b.dcm ,,left,1,2\n,{sha('c').upper()},left,1,2\nb.dcm,,right,3,4\n"
    )
    assert read_hips_csv(path).lines == {
        str(tmp_path / "b.dcm"): "line 2: b.dcm",
        sha("c"): f"line 3: {sha('c').upper()}",
    }


def test_a_path_is_relative_to_the_csv_or_absolute(written, tmp_path):
    relative = written("path,side,x,y\n./night/../film.dcm,right,1,2\n")
    assert hips_of(relative)
    absolute = written(f"path,side,x,y\n{tmp_path / 'film.dcm'},right,1,2\n")
    assert hips_of(absolute)


def test_a_path_names_the_file_behind_a_link(written, tmp_path):
    (tmp_path / "film.dcm").touch()
    (tmp_path / "link.dcm").symlink_to(tmp_path / "film.dcm")
    assert hips_of(written("path,side,x,y\nlink.dcm,right,1,2\n"))


def test_the_same_name_in_another_folder_is_another_film(written):
    given = read_hips_csv(written("path,side,x,y\nfilm.dcm,right,1,2\n"))
    assert given.of(film("film")) == ()


def test_a_film_is_named_by_its_bytes(written):
    path = written(f"sha256,side,x,y\n{sha('film').upper()},right,1,2\n")
    assert read_hips_csv(path).by_sha256
    assert hips_of(path, sha256=sha("film"))
    assert not hips_of(path, "other", sha256=sha("other"))


@pytest.mark.parametrize("cell", [content("film"), sha("film"), sha("film").upper()])
def test_a_film_is_named_by_blake3_with_and_without_its_prefix(written, cell):
    path = written(f"content_hash,side,x,y\n{cell},right,1,2\n")
    assert not read_hips_csv(path).by_sha256
    assert hips_of(path)
    assert not hips_of(path, "other")


def test_a_film_is_named_by_its_uid(written):
    path = written(f"sop_instance_uid,side,x,y\n{UID},right,1,2\n")
    assert hips_of(path, uid=UID)
    assert not hips_of(path, uid=None)


def test_bytes_go_before_the_path_and_the_path_before_the_uid(written):
    text = f"sha256,path,sop_instance_uid,side,x,y\n,,{UID},right,3,0\n,film.dcm,,right,2,0\n"
    assert hips_of(written(text), uid=UID)[0].marked == (2, 0)
    text += f"{sha('film')},,,right,1,0\n"
    assert hips_of(written(text), uid=UID, sha256=sha("film"))[0].marked == (1, 0)


def test_a_spreadsheets_byte_order_mark_and_blank_lines_are_read_over(written):
    assert hips_of(written("\ufeffpath,side,x,y\n\nfilm.dcm,Right, 1 ,2\n"))


def test_without_a_csv_no_hip_is_given():
    assert GivenHips().of(film()) == ()


@pytest.mark.parametrize(
    ("rows", "line", "reason"),
    [
        ("path,side,x,y\nfilm.dcm,right,1,2\nfilm.dcm,middle,1,2\n", 3, "right, left or unknown"),
        ("path,side,x,y\nfilm.dcm,,1,2\n", 2, "right, left or unknown"),
        ("path,side,x,y\n,right,1,2\n", 2, "exactly one of"),
        ("path,sha256,side,x,y\nfilm.dcm,ab,right,1,2\n", 2, "exactly one of"),
        ("sha256,side,x,y\nabc,right,1,2\n", 2, "64 hexadecimal digits"),
        ("path,side,x,y\nfilm.dcm,right,1\n", 2, "either x and y"),
        ("path,side,x,y,x0,y0,x1,y1\nfilm.dcm,right,1,2,0,0,9,9\n", 2, "either x and y"),
        ("path,side,x0,y0,x1,y1\nfilm.dcm,right,0,0,9,\n", 2, "either x and y"),
        ("path,side,x,y\nfilm.dcm,right,one,2\n", 2, "'one'"),
        ("path,side,x,y\nfilm.dcm,right,nan,2\n", 2, "not a finite number"),
        ("path,side,x0,y0,x1,y1\nfilm.dcm,right,9,0,0,9\n", 2, "x0 < x1"),
        ("path,side,x,y\nfilm.dcm,right,1,2,3\n", 2, "more cells than columns"),
        ("path,side,x,y,radius\nfilm.dcm,right,1,2,0\n", 2, "radius must be greater than 0"),
        ("path,side,x,y,radius\nfilm.dcm,right,1,2,inf\n", 2, "not a finite number"),
        ("path,side,x0,y0,x1,y1,radius\nfilm.dcm,right,0,0,9,9,4\n", 2, "needs a centre"),
        ("path,side,x,y\nfilm.dcm,right,1,2\nfilm.dcm,left,1,2\n", 3, "same hip twice"),
        ("path,side,x,y\nfilm.dcm,right,1,2\nfilm.dcm,right,3,4\n", 3, "second right hip"),
        (
            "path,side,x,y\na,unknown,1,2\na,left,3,4\na,unknown,5,6\n",
            4,
            "third hip",
        ),
        ('path,side,x,y\n"film.dcm,right,1,2\n', 2, "unexpected end of data"),
        ("path,sid,x,y\nfilm.dcm,right,1,2\n", 1, "unknown column 'sid'"),
        ("path,side,side,x,y\nfilm.dcm,right,right,1,2\n", 1, "named twice"),
        ("side,x,y\nright,1,2\n", 1, "needs the column"),
        ("", 0, "needs the column"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(written, rows, line, reason):
    path = written(rows)
    with pytest.raises(InputError, match=reason) as error:
        read_hips_csv(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")


def test_a_csv_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"hips\.csv: cannot be read"):
        read_hips_csv(tmp_path / "hips.csv")


def test_a_csv_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "hips.csv"
    path.write_bytes(b"path,side,x,y\n\xff\xfe,right,1,2\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_hips_csv(path)
