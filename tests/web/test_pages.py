"""What the pages show: the lists, a case, and that nothing from a file becomes markup."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import date
from html import unescape
from pathlib import Path

import pytest

from hipedge.errors import Code
from hipedge.rules.site_rule import site_rule
from hipedge.store.accounts import Accounts
from hipedge.store.service import Service
from hipedge.store.store import Store
from hipedge.types import Category, Mark, Refusal
from tests.builders import content, film, scored_hip, screened

from .conftest import answer

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def record(place, *outcomes):
    place.record(*outcomes)


def flagged(place, name, category, **values):
    rule = site_rule(place.card, place.settings)
    return screened(film(name, pixels=name), scored_hip(category), rule=rule, **values)


def names(page):
    return [unescape(name) for name in re.findall(r'<td class="path" title="([^"]*)"', page)]


def test_urgent_films_come_first_and_the_newest_of_them_first(place):
    record(
        place,
        flagged(place, "arthritis", Category.OSTEOARTHRITIS),
        flagged(place, "old", Category.FEMORAL_NECK_FRACTURE),
        flagged(place, "new", Category.INTERTROCHANTERIC_FRACTURE),
        flagged(place, "normal", Category.NORMAL),
    )
    page = place.client("rita").get("/").text
    assert names(page) == ["/in/new.dcm", "/in/old.dcm", "/in/arthritis.dcm"]


def test_what_was_not_read_and_what_to_look_at_again_are_lists_of_their_own(place):
    record(
        place,
        Refusal(Path("/in/broken.dcm"), Code.DECODE_FAILED, content_hash=content("broken")),
        Refusal(Path("/in/ct.dcm"), Code.WRONG_MODALITY, content_hash=content("ct")),
        Refusal(Path("/in/lateral.dcm"), Code.LATERAL_VIEW, content_hash=content("lateral")),
        flagged(place, "marked", Category.NORMAL, marks=[Mark.SIDE_UNCLEAR]),
    )
    client = place.client("rita")
    page = client.get("/?list=not_read").text
    assert names(page) == ["/in/broken.dcm", "/in/lateral.dcm"]
    assert "the decoder refused the pixel data" in page
    page = client.get("/?list=marked").text
    assert names(page) == ["/in/marked.dcm"]
    assert "side unclear" in page


def test_filters_by_category_and_day_and_state(place):
    record(
        place,
        flagged(place, "fracture", Category.FEMORAL_NECK_FRACTURE),
        flagged(place, "arthritis", Category.OSTEOARTHRITIS),
    )
    client = place.client("rita")
    assert names(client.get("/?category=osteoarthritis").text) == ["/in/arthritis.dcm"]
    assert names(client.get("/?until=2000-01-01").text) == []
    assert len(names(client.get("/?since=2000-01-01").text)) == 2
    answer(client, 1, verdict="right")
    assert names(client.get("/").text) == ["/in/arthritis.dcm"]
    assert names(client.get("/?answered=yes").text) == ["/in/fracture.dcm"]
    assert len(names(client.get("/?answered=all").text)) == 2


def test_the_filter_by_site_is_by_watched_folder(place):
    with Store(place.settings.db) as store:
        for root in ("/in", "/other"):
            Service(store).mount_point(Path(root), Path("/"))
    record(place, flagged(place, "fracture", Category.FEMORAL_NECK_FRACTURE))
    client = place.client("rita")
    assert '<option value="/other"' in client.get("/").text
    assert names(client.get("/?folder=/in").text) == ["/in/fracture.dcm"]
    assert names(client.get("/?folder=/other").text) == []
    assert client.get("/?folder=/etc").status_code == 400


def test_pages_of_a_list_follow_each_other_and_hold_each_case_once(place):
    record(
        place,
        *(flagged(place, f"oa{n}", Category.OSTEOARTHRITIS) for n in range(60)),
        *(flagged(place, f"fx{n}", Category.FEMORAL_NECK_FRACTURE) for n in range(60)),
    )
    client, address, seen = place.client("rita"), "/", []
    while address:
        page = client.get(address).text
        seen += names(page)
        links = re.findall(r'href="([^"]+)">Next page', page)
        address = unescape(links[0]) if links else None
    assert seen == [f"/in/fx{n}.dcm" for n in reversed(range(60))] + [
        f"/in/oa{n}.dcm" for n in reversed(range(60))
    ]


def test_a_case_leads_to_the_next_one_of_its_list(place):
    record(
        place,
        flagged(place, "second", Category.FEMORAL_NECK_FRACTURE),
        flagged(place, "first", Category.FEMORAL_NECK_FRACTURE),
    )
    client = place.client("rita")
    page = client.get("/").text
    first = unescape(re.search(r'class="open" href="([^"]+)"', page)[1])
    following = re.search(r'id="next" href="([^"]+)"', client.get(first).text)
    page = client.get(unescape(following[1])).text
    assert "second.dcm" in page
    assert 'id="next"' not in page


def test_rows_are_sent_again_only_where_they_have_changed(place):
    record(place, flagged(place, "fracture", Category.FEMORAL_NECK_FRACTURE))
    client = place.client("rita")
    tag = client.get("/rows").headers["etag"]
    assert client.get("/rows", headers={"If-None-Match": tag}).status_code == 304
    record(place, flagged(place, "another", Category.FEMORAL_NECK_FRACTURE))
    response = client.get("/rows", headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert "another.dcm" in response.text


@pytest.mark.parametrize("key", ["1", "/in/fracture.dcm", "1.2.3.4", "5.6.7", "racture.d", "hash"])
def test_search_finds_a_film_by_number_path_uid_or_hash(place, key):
    rule = site_rule(place.card, place.settings)
    one = film("fracture", uid="1.2.3.4", study_instance_uid="5.6.7")
    record(place, screened(one, rule=rule), flagged(place, "other", Category.NORMAL))
    key = one.content_hash[7:19] if key == "hash" else key
    page = place.client("vera").get("/search", params={"q": key}).text
    assert names(page) == ["/in/fracture.dcm"]


@pytest.mark.parametrize(
    "key", ["", "%", "_", "' or 1=1 --", "\x00", "9" * 40, "\udcff", "x" * 5000]
)
def test_search_finds_nothing_for_nonsense(place, key):
    record(place, flagged(place, "fracture", Category.FEMORAL_NECK_FRACTURE))
    response = place.client("vera").get(
        "/search", params={"q": key.encode("utf-8", "surrogateescape")}
    )
    assert response.status_code == 200
    assert names(response.text) == []


@pytest.mark.parametrize(
    "query",
    ["list=nothing", "category=nothing", "answered=maybe", "since=yesterday", "after=x.y",
     "after=1.99999999999999999999", "until=9999-99-99"],
)  # fmt: skip
def test_addresses_that_no_page_links_to_are_refused(place, query):
    assert place.client("rita").get(f"/?{query}").status_code == 400


@pytest.mark.parametrize("file_id", ["0", "2", "99999999999999999999999", "9223372036854775807"])
def test_forged_numbers_of_cases_find_nothing(place, file_id):
    place.fracture()
    client = place.client("rita")
    assert client.get(f"/case/{file_id}").status_code == 404
    assert client.get(f"/film/{file_id}/0").status_code == 404


def test_text_from_files_and_readers_is_shown_and_never_run(place):
    card = type(place.card)(
        **{name: getattr(place.card, name) for name in place.card.__dataclass_fields__}
        | {"status_text": f"status {HOSTILE}"}
    )
    rule = site_rule(card, place.settings)
    hostile = film(f"file {HOSTILE.replace('/', '-')}", uid=f"1.2.{HOSTILE}",
                   study_instance_uid="1.9", manufacturer=HOSTILE, sex=HOSTILE)  # fmt: skip
    other = film("other", pixels="other", study_instance_uid="1.9")
    hip = scored_hip(Category.FEMORAL_NECK_FRACTURE)
    place.record(screened(hostile, hip, rule=rule), screened(other, rule=rule), card=card)
    client = place.client("rita")
    assert answer(client, 1, verdict="right", note=HOSTILE).status_code == 303
    for address in (
        "/",
        "/case/1",
        "/case/2",
        "/search?q=1",
        f"/search?q={HOSTILE}",
        "/?answered=yes",
    ):
        text = client.get(address).text
        assert "<script>alert" not in text, address
        assert "<img" not in text, address
    assert "&lt;script&gt;alert(1)" in client.get("/case/1").text
    assert "status &lt;script" in client.get("/case/1").text


def test_names_that_are_not_text_are_shown_escaped(place):
    odd = Path("/in/odd\udcff\u202egpj.dcm")
    place.record(Refusal(odd, Code.DECODE_FAILED, content_hash=content("odd")))
    page = place.client("rita").get("/?list=not_read").text
    assert "odd\\udcff\\u202egpj.dcm" in page


def test_a_film_that_was_not_read_has_a_page_that_says_why(place):
    place.record(Refusal(Path("/in/x.dcm"), Code.LATERAL_VIEW, "detail", content_hash=content("x")))
    page = place.client("rita").get("/case/1").text
    assert "a lateral view" in page
    assert "no negative result" in page


def test_implants_are_said_not_to_be_assessed(place):
    rule = site_rule(place.card, place.settings)
    place.record(screened(film(), scored_hip(Category.TOTAL_HIP_ARTHROPLASTY), rule=rule))
    page = place.client("rita").get("/case/1").text
    assert "not assessed for loosening or fracture around the implant" in " ".join(page.split())


def test_other_films_of_a_study_are_linked(place):
    rule = site_rule(place.card, place.settings)
    place.record(
        screened(film("ap", study_instance_uid="1.9"), rule=rule),
        screened(film("later", pixels="2", study_instance_uid="1.9"), rule=rule),
    )
    assert "later.dcm" in place.client("rita").get("/case/1").text


def test_a_list_under_thresholds_that_were_not_applied_says_that_it_is_incomplete(place):
    place.fracture()
    client = place.client("rita")
    assert "not complete" not in client.get("/").text
    place.set(thresholds={Category.OSTEOARTHRITIS: 0.123})
    client = place.client("rita")
    assert "not complete" in client.get("/").text


def test_a_locked_database_is_said_to_be_locked_and_the_log_still_works(place):
    place.fracture()
    client = place.client("rita")
    with closing(sqlite3.connect(place.settings.db)) as other:
        other.execute("begin exclusive")
        response = client.get("/")
        assert response.status_code == 503
        assert "locked" in response.text
        assert response.headers["retry-after"]
    assert client.get("/").status_code == 200


def test_a_database_that_another_version_migrates_is_said_to_be_one(place):
    place.fracture()
    client = place.client("rita")
    with closing(sqlite3.connect(place.settings.db)) as other:
        other.execute("delete from _sqlite_migrations where name = 'keep_feedback'")
        other.commit()
    response = client.get("/case/1")
    assert response.status_code == 503
    assert "schema" in response.text


def test_a_database_that_is_gone_is_not_created_again(place):
    client = place.client("rita")
    place.settings.db.unlink()
    assert client.get("/").status_code == 503
    assert not place.settings.db.exists()


def test_pages_only_read_the_database(place):
    place.fracture()
    before = place.settings.db.read_bytes()
    client = place.client("anna")
    for address in (
        "/",
        "/rows",
        "/case/1",
        "/search?q=1",
        "/dashboard",
        "/agreement",
        "/log",
        "/film/1/0",
    ):
        assert client.get(address).status_code == 200
    assert place.settings.db.read_bytes() == before


def test_users_are_managed_from_the_command_line(place, capsys, monkeypatch):
    from hipedge.cli import main

    monkeypatch.setattr("typer.prompt", lambda *_, **__: "several words nobody expects")
    for arguments in (["add", "nina", "--role", "viewer"], ["role", "nina", "reader"],
                      ["disable", "nina"], ["enable", "nina"], ["list"]):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main(["user", *arguments, "--db", str(place.settings.db)])
        assert not ended.value.code
    assert "nina" in capsys.readouterr().out
    with Accounts(place.settings.web_database) as accounts:
        assert accounts.user("nina").role.value == "reader"
    events = [entry.event for entry in place.audit()]
    assert events[::-1] == ["user_added", "role_changed", "user_disabled", "user_enabled"]


def linked(place, name, day, **values):
    place.fracture(name, patient="p1", studied_on=date.fromisoformat(day),
                   study_instance_uid=f"1.{name}", **values)  # fmt: skip


def test_a_case_lists_the_other_studies_of_its_patient_and_brings_the_one_before(place):
    for name, day in (("old", "2019-05-01"), ("before", "2024-03-01"), ("later", "2026-01-01"),
                      ("this", "2025-01-01")):  # fmt: skip
        linked(place, name, day)
    page = place.client("vera").get("/case/4").text
    listed = page.partition("Other studies of this patient")[2]
    assert re.findall(r'<a href="/case/(\d)">([\d-]+)</a>', listed) == [
        ("3", "2026-01-01"), ("2", "2024-03-01"), ("1", "2019-05-01"),
    ]  # fmt: skip
    (data,) = re.findall(r'id="film-data">(.*?)</script>', page)
    data = json.loads(data)
    assert (data["date"], data["earlier"]["film"]) == ("2025-01-01", "/film/2")
    assert data["earlier"]["date"] == "2024-03-01"
    assert data["earlier"]["hips"] == []
    assert 'data-toggle="earlier"' in page
    first = place.client("vera").get("/case/1").text
    assert 'data-toggle="earlier"' not in first


def test_without_links_between_films_a_case_says_nothing_of_patients(place):
    place.fracture("one")
    place.fracture("two")
    page = place.client("vera").get("/case/2").text
    assert "Other studies" not in page
    assert 'data-toggle="earlier"' not in page


def test_a_blind_site_shows_the_earlier_film_without_findings(place):
    place.set(web_blind=True)
    linked(place, "before", "2024-03-01")
    linked(place, "this", "2025-01-01")
    page = place.client("rita").get("/case/2").text
    assert "Other studies of this patient" in page
    (data,) = re.findall(r'id="film-data">(.*?)</script>', page)
    assert "femoral neck fracture" not in data
    assert "heat" not in data
