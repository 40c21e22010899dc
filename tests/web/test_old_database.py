"""A site whose films were named by SHA-256: its pages, answers, log and studies."""

import re

import pytest

from hipedge.dicom.read import load
from hipedge.store.store import Store
from tests.old_database import make_old, rows

from .conftest import answer
from .studies import answer_hip, new_study, study_of

LISTS = ("/?list=flagged", "/?list=all", "/?list=flagged&answered=1", "/case/1", "/log")


@pytest.fixture
def films(place):
    """Two flagged films, of which one has an answer, and a study of others."""
    films = [place.fracture("first"), place.fracture("second")]
    assert answer(place.client("robert"), 1, verdict="right").status_code == 303
    new_study(place, "--washout", "0d", count=3, readers="rita")
    return films


def make_site_old(place):
    """Make its three databases old ones; return the SHA-256 of each content."""
    files = list(place.folder.glob("*.png"))
    make_old(place.settings.web_database, files, "web")
    make_old(place.settings.study_database, files, "study")
    return make_old(place.settings.db, files)


def pages(place):
    """What the pages show, but for the hashes in forms and log, and the lines of this look."""
    client = place.client("anna")
    texts = {address: client.get(address).text for address in LISTS}
    log = texts.pop("/log")
    texts = {
        address: re.sub(r'name="(form_token|content_hash)" value="[^"]*"', "", text)
        for address, text in texts.items()
    }
    lines = re.findall(r"<td>robert</td>.*?</tr>", log, re.DOTALL)
    texts["log"] = re.sub(r"(q=[^\"]+|<code>.*?</code>)", "", " ".join(lines))
    assert "right" in texts["log"]
    return texts


def migrated(place):
    with Store(place.settings.db):
        pass  # `serve` only reads, so another command migrates


def test_the_pages_of_an_old_site_show_the_same(place, films):
    before = pages(place)
    make_site_old(place)
    migrated(place)
    assert pages(place) == before


def test_films_of_an_old_site_are_shown_and_found_by_their_log(place, films):
    names = make_site_old(place)
    migrated(place)
    client = place.client("anna")
    assert client.get("/film/1/0").status_code == 200
    first = names[films[0].content_hash]
    assert f"/search?q={first}" in client.get("/log").text
    found = client.get("/search", params={"q": first})
    assert found.status_code == 303 or "first.png" in found.text


def test_an_answer_of_an_old_site_is_corrected_and_not_doubled(place, films):
    names = make_site_old(place)
    migrated(place)
    response = answer(place.client("robert"), 1, verdict="wrong", category="normal")
    assert response.status_code == 303
    first = names[films[0].content_hash]
    sql = "select content_hash, verdict, corrects from feedback order by id"
    assert rows(place.settings.db, sql) == [(first, "right", None), (first, "wrong", 1)]
    sql = "select count(distinct content_hash) from audit where event = 'answer'"
    assert rows(place.settings.web_database, sql) == [(1,)]


def test_the_films_of_an_old_study_stay_hidden_until_they_are_read(place, films):
    make_site_old(place)
    migrated(place)
    paths = {path for (path,) in rows(place.settings.study_database, "select path from study_hips")}
    files = rows(place.settings.db, "select id, path from files")
    case = next(number for number, path in files if path in paths)
    rita = place.client("rita")
    assert rita.get(f"/case/{case}").status_code == 403
    for _ in range(2 * 3):  # alone, then assisted
        assert answer_hip(rita).status_code == 303
    assert rita.get(f"/case/{case}").status_code == 200
    assert study_of(place).hips == 3


def test_a_film_that_changed_under_an_old_name_is_not_shown(place, films):
    make_site_old(place)
    migrated(place)
    films[0].source.write_bytes(films[1].source.read_bytes())
    assert load(films[0].source).content_hash == films[1].content_hash
    assert place.client("anna").get("/film/1/0").status_code == 410
