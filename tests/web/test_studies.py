"""A reader's way through a study as requests: what is refused, and whose time counts."""

import csv
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from hipedge.errors import StoreError
from hipedge.rules.site_rule import site_rule
from hipedge.store.accounts import Accounts, Role
from hipedge.store.readings import Readings
from hipedge.store.store import Store
from hipedge.store.studies import Studies
from hipedge.types import CATEGORIES, Category, Side
from hipedge.web import guard
from tests.builders import scored_hip, screened

from .conftest import answer, form_of
from .studies import (
    HIPS,
    Clock,
    answer_hip,
    data_of,
    form_of_hip,
    hipedge,
    new_study,
    open_hip,
    record_films,
    report,
    study_of,
    write_table,
)

ANSWER = {"category": "normal", "confidence": 3, "shown_ms": 50, "paused_ms": 0}


@pytest.fixture(autouse=True)
def no_limit(monkeypatch):
    """A reader of these tests reads faster than the server allows; nor are films checked."""
    monkeypatch.setattr(guard, "REQUESTS", (10**6, 1e-6))
    monkeypatch.setattr("hipedge.web.check.films_not_shown", lambda *_: {})


@pytest.fixture
def clock():
    return Clock()


def readings_of(place):
    with Studies(place.settings.study_database) as studies:
        return Readings(studies).all_of(studies.by_name("trial"))


def read_all(client, count=HIPS, **values):
    for _ in range(count):
        assert answer_hip(client, **values).status_code == 303


def export(place, path, *options):
    return hipedge("study", "export", "trial", path, "--db", place.settings.db, *options)


def test_only_a_studys_readers_see_it(place):
    new_study(place, readers="rita")
    assert "trial" in place.client("rita").get("/studies").text
    robert = place.client("robert")
    assert "do not take part" in robert.get("/studies").text
    for page in ("/study/1", "/study/1/hip", "/study/2", "/study/99999999999999999999"):
        assert robert.get(page).status_code == 404, page
    assert place.client("vera").get("/studies").status_code == 403
    assert place.client("anna").get("/study/1").status_code == 404
    assert place.client().get("/study/1/hip").headers["location"] == "/login"


def test_without_a_study_the_page_says_so_and_makes_no_database(place):
    assert "do not take part" in place.client("rita").get("/studies").text
    assert place.client("rita").get("/study/1").status_code == 503
    assert not place.settings.study_database.exists()


def test_the_second_phase_opens_after_the_wash_out_from_the_readers_own_last_answer(place, clock):
    new_study(place, count=2)
    app = place.app(clock=clock)
    rita, robert = place.client("rita", app), place.client("robert", app)
    read_all(rita, 2)
    clock.ahead += timedelta(days=10)
    read_all(robert, 2)
    assert "opens on" in rita.get("/study/1").text
    for days, open_to in ((17.9, ()), (0.2, (rita,)), (9.7, (rita,)), (0.3, (rita, robert))):
        clock.ahead += timedelta(days=days)
        for client in (rita, robert):
            expected = 200 if client in open_to else 303
            assert client.get("/study/1/hip").status_code == expected, (days, expected)


def test_an_answer_of_the_first_phase_does_not_open_the_second_by_hand(place):
    new_study(place, count=1)
    client = place.client("rita")
    fields = open_hip(client)
    assert client.post("/study/1/answer", data=fields | ANSWER).status_code == 303
    assert client.get("/study/1/hip").headers["location"] == "/study/1"
    # The opening that is answered neither takes another answer nor shows its film again.
    assert (
        client.post("/study/1/answer", data=fields | ANSWER | {"confidence": 5}).status_code == 409
    )
    film, first = f"/study/1/film/{fields['opening']}", 0
    assert client.get(f"{film}/{first}").status_code == 409
    assert len(readings_of(place)) == 1


def test_findings_are_shown_in_the_assisted_phase_alone(place, clock):
    new_study(place, "--washout", "0d", count=4)
    client = place.client("rita")
    for phase in ("alone", "assisted"):
        for _ in range(4):
            page = client.get("/study/1/hip").text
            film, _ = data_of(page)
            data = json.loads(re.search(r'id="film-data">(.*?)</script>', page)[1])
            assert film.startswith("/study/1/film/")
            assert ("heat" in data["hips"][0]) is (phase == "assisted")
            assert ("flagged" in data["hips"][0]) is (phase == "assisted")
            assert ("hipedge found" in page) is (phase == "assisted")
            assert (" %" in page.split("</aside>")[0].split("<aside")[1]) is (phase == "assisted")
            answer_hip(client)
    assert "You have finished" in client.get("/study/1").text


def test_no_page_of_a_study_names_a_file_or_its_truth(place):
    record_films(place, 1, first=40)
    new_study(place, "--washout", "0d", count=4)
    client = place.client("rita")
    for address in ("/studies", "/study/1", "/study/1/hip"):
        page = client.get(address).text
        assert ".png" not in page
        assert "1.2." not in page
        for _, digest in _films(place):
            assert digest not in page


def _films(place):
    with Store(place.settings.db, read_only=True) as store:
        return [
            (row["id"], row["content_hash"])
            for row in store.query("select id, content_hash from files")
        ]


def test_until_finished_a_reader_sees_the_films_of_a_study_nowhere_else(place, clock):
    """Every address of the application that shows a film, a finding, or how films are listed."""
    outside = place.fracture("outside")
    truths = new_study(place, "--washout", "0d", count=3, readers="rita")
    films = [one for one in _films(place) if one[1] != outside.content_hash]
    lists = ("/?list=flagged", "/?list=all", "/?list=marked", "/?list=flagged&answered=all",
             "/rows?list=flagged", "/rows?list=all&answered=all",
             "/?list=flagged&category=osteoarthritis")  # fmt: skip
    rita, robert = place.client("rita"), place.client("robert")
    # What is in them for another reader.
    assert "osteoarthritis-1.png" in robert.get("/?list=all").text
    assert "outside.png" in rita.get("/?list=all").text

    def all_pages(client):
        pages = [client.get(address) for address in lists]
        for number, (file_id, digest) in enumerate(films):
            name = f"{truths[number].value}-{number}.png"
            keys = (name, f"1.2.{number}", digest, digest[:15], str(file_id), truths[number].value)
            pages += [client.get("/search", params={"q": key}) for key in keys]
        return [page.text.split("<table", 1)[-1] if "<table" in page.text else "" for page in pages]

    def hidden(client):
        assert all("-0.png" not in page and "-1.png" not in page for page in all_pages(client))
        for file_id, _ in films:
            assert client.get(f"/case/{file_id}").status_code == 403
            assert client.get(f"/film/{file_id}/0").status_code == 403
            fields = form_of(robert.get(f"/case/{file_id}").text)
            fields["form_token"] = re.search(
                r'name="form_token" value="([^"]+)"', client.get("/studies").text
            )[1]
            form = fields | {"verdict": "right"}
            assert client.post(f"/case/{file_id}/answer", data=form).status_code == 403

    hidden(rita)
    read_all(rita, 3)
    hidden(rita)
    read_all(rita, 3)
    assert "osteoarthritis-1.png" in rita.get("/?list=all").text
    assert rita.get(f"/case/{films[0][0]}").status_code == 200


def test_counts_of_lists_do_not_count_films_of_a_study(place):
    place.fracture("outside")
    new_study(place, count=4, readers="rita")
    count = r'Flagged\s*<span class="count">(\d+)'
    assert re.search(count, place.client("rita").get("/").text)[1] == "1"
    assert re.search(count, place.client("robert").get("/").text)[1] == "4"


def test_another_reading_of_the_same_film_is_hidden_too(place, reference_model):
    """By another model, or sent again in another encoding under its UID."""
    new_study(place, count=2, readers="rita")
    other = replace(place.card, name="another")
    film = place.film("again", sop_instance_uid="1.2.1")
    rule = site_rule(other, place.settings)
    place.record(screened(film, scored_hip(Category.NORMAL, Side.RIGHT), rule=rule), card=other)
    newest = max(file_id for file_id, _ in _films(place))
    assert place.client("rita").get(f"/case/{newest}").status_code == 403
    assert "again.png" not in place.client("rita").get("/?list=all").text
    assert place.client("robert").get(f"/case/{newest}").status_code == 200


def test_a_closed_study_is_not_read_and_its_films_are_shown_again(place):
    new_study(place, count=2, readers="rita")
    client = place.client("rita")
    fields = open_hip(client)
    assert hipedge("study", "close", "trial", "--db", place.settings.db) == 0
    assert client.post("/study/1/answer", data=fields | ANSWER).status_code == 409
    assert report(client, fields, "beat").status_code == 409
    assert client.get("/study/1/hip").status_code == 303
    assert "closed" in client.get("/study/1").text
    assert client.get("/case/1").status_code == 200


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"opening": ""}, 404),
        ({"opening": "99"}, 404),
        ({"opening": "99999999999999999999999"}, 404),
        ({"opening": "1; drop table readings"}, 404),
        ({"form_token": "forged"}, 403),
        ({"category": "broken"}, 400),
        ({"category": ""}, 400),
        ({"confidence": "0"}, 400),
        ({"confidence": "6"}, 400),
        ({"confidence": "٣"}, 400),
        ({"confidence": ""}, 400),
        ({"skip": "1"}, 400),
    ],
)
def test_forged_answers_are_refused(place, changes, status):
    new_study(place, count=2)
    client = place.client("rita")
    fields = open_hip(client)
    response = client.post("/study/1/answer", data=fields | ANSWER | changes)
    assert response.status_code == status
    assert readings_of(place) == []


def test_an_answer_for_another_reader_is_refused(place):
    new_study(place, count=2)
    rita, robert = place.client("rita"), place.client("robert")
    hers, his = open_hip(rita), open_hip(robert)
    stolen = his | {"opening": hers["opening"]}
    assert robert.post("/study/1/answer", data=stolen | ANSWER).status_code == 404
    assert report(robert, stolen, "beat").status_code == 404
    assert robert.get(f"/study/1/film/{hers['opening']}/0").status_code == 404
    # Her page in his session: the token is not his.
    assert robert.post("/study/1/answer", data=hers | ANSWER).status_code == 403
    assert readings_of(place) == []


def test_a_form_of_another_site_answers_nothing(place):
    new_study(place, count=1)
    client = place.client("rita")
    fields = open_hip(client)
    for path in ("answer", "event"):
        response = client.post(
            f"/study/1/{path}", data=fields | ANSWER | {"kind": "beat"},
            headers={"origin": "https://elsewhere.example"},
        )  # fmt: skip
        assert response.status_code == 403
    assert client.get("/study/1/answer").status_code == 404


@pytest.mark.parametrize("number", ["0", "2", "3", "99999999999999999999", "-1"])
def test_hips_are_not_read_out_of_their_order(place, number):
    new_study(place, count=3)
    client = place.client("rita")
    response = client.get(f"/study/1/hip?number={number}")
    shown = re.search(r"<h1>Hip (\d+)", response.text)
    assert response.status_code == 409 or shown[1] == "1"


def test_there_is_no_way_back_unless_the_study_has_one(place):
    new_study(place, count=3)
    client = place.client("rita")
    read_all(client, 2)
    assert client.get("/study/1/hip?number=1").status_code == 409
    assert "Hip before" not in client.get("/study/1/hip").text


def test_where_there_is_a_way_back_an_answer_is_changed_and_the_first_one_kept(place):
    new_study(place, "--go-back", count=3)
    client = place.client("rita")
    answer_hip(client, "osteoarthritis", 2)
    assert "Hip before" in client.get("/study/1/hip").text
    fields = open_hip(client, 1)
    page = client.get("/study/1/hip?number=1").text
    assert re.search(r'value="osteoarthritis"[^>]*checked', page)
    fields = form_of_hip(page)
    assert client.post("/study/1/answer", data=fields | ANSWER).status_code == 303
    (reading,) = readings_of(place)
    assert (reading.answer, reading.confidence) == (Category.NORMAL, 3)
    with Studies(place.settings.study_database) as studies:
        assert len(studies.query("select 1 from readings")) == 2
    read_all(client, 2)
    # The phase is finished: nothing is changed any more.
    assert client.get("/study/1/hip?number=1").status_code == 303
    assert client.post("/study/1/answer", data=fields | ANSWER).status_code == 303  # the same again
    assert client.post(
        "/study/1/answer", data=fields | ANSWER | {"confidence": 1}
    ).status_code == 409  # fmt: skip


def test_an_answer_that_is_sent_twice_counts_once_even_at_the_same_time(place):
    new_study(place, count=3)
    app = place.app()
    client = place.client("rita", app)
    fields = open_hip(client)
    cookies = dict(client.cookies)

    def send(_):
        one = place.client(app=app)
        one.cookies.update(cookies)
        return one.post("/study/1/answer", data=fields | ANSWER).status_code

    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(send, range(4)))
    assert statuses == [303] * 4
    assert len(readings_of(place)) == 1


def test_two_readers_answer_at_once(place):
    new_study(place, count=6)
    app = place.app()

    def read(user):
        read_all(place.client(user, app), 6)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(read, ("rita", "robert")))
    assert len(readings_of(place)) == 12


def test_the_film_of_an_older_window_is_not_sent(place):
    new_study(place, count=2)
    client = place.client("rita")
    old = open_hip(client)
    new = open_hip(client)
    assert client.get(f"/study/1/film/{old['opening']}/0").status_code == 409
    assert client.post("/study/1/answer", data=old | ANSWER).status_code == 409
    assert report(client, old, "beat", 10).status_code == 409
    assert client.post("/study/1/answer", data=new | ANSWER).status_code == 303


@pytest.mark.parametrize("halvings", [1, 9, 99999])
def test_resolutions_that_a_film_does_not_have_are_not_sent(place, halvings):
    new_study(place, count=1)
    client = place.client("rita")
    fields = open_hip(client)
    assert client.get(f"/study/1/film/{fields['opening']}/{halvings}").status_code == 404


def test_a_page_that_reports_more_time_than_there_was_is_not_believed(place, clock):
    new_study(place, count=3)
    client = place.client("rita", place.app(clock=clock))
    fields = open_hip(client)
    report(client, fields, "drawn")
    clock.ahead += timedelta(seconds=30)
    client.post("/study/1/answer", data=fields | ANSWER | {"shown_ms": 9_000_000})
    fields = open_hip(client)
    report(client, fields, "drawn")
    clock.ahead += timedelta(seconds=30)
    client.post("/study/1/answer", data=fields | ANSWER | {"shown_ms": 20_000, "paused_ms": 10_000})
    fields = open_hip(client)
    report(client, fields, "drawn")
    clock.ahead += timedelta(seconds=30)
    client.post("/study/1/answer", data=fields | ANSWER | {"shown_ms": 10, "paused_ms": 0})
    first, second, third = readings_of(place)
    assert (first.times.by_server, second.times.by_server, third.times.by_server) == (
        True,
        False,
        True,
    )
    assert first.times.seconds == pytest.approx(30, abs=5)
    assert (second.times.seconds, second.times.paused_s) == (20, 10)
    assert third.times.seconds == pytest.approx(30, abs=5)


@pytest.mark.parametrize("time", ["", "nan", "inf", "-5", "1e30", "soon"])
def test_a_time_that_is_none_is_replaced_by_the_servers(place, clock, time):
    new_study(place, count=2)
    client = place.client("rita", place.app(clock=clock))
    fields = open_hip(client)
    assert report(client, fields, "beat", time).status_code == 400
    assert report(client, fields, "film", 1).status_code == 400
    clock.ahead += timedelta(seconds=12)
    assert client.post(
        "/study/1/answer", data=fields | ANSWER | {"shown_ms": time}
    ).status_code == 303  # fmt: skip
    (reading,) = readings_of(place)
    assert reading.times.by_server
    assert reading.times.seconds == pytest.approx(12, abs=5)


def test_the_time_of_a_session_that_died_is_that_of_its_last_report(place, clock):
    new_study(place, count=2)
    client = place.client("rita", place.app(clock=clock))
    fields = open_hip(client)
    report(client, fields, "drawn")
    clock.ahead += timedelta(seconds=25)
    report(client, fields, "beat", 25_000)
    clock.ahead += timedelta(hours=9)  # the machine is off
    fields = open_hip(client)
    report(client, fields, "drawn")
    clock.ahead += timedelta(seconds=5)
    client.post("/study/1/answer", data=fields | ANSWER | {"shown_ms": 5000})
    (reading,) = readings_of(place)
    assert reading.openings == 2
    assert reading.times.seconds == pytest.approx(30, abs=1)
    assert not reading.times.by_server


def test_a_study_that_is_locked_says_so_and_takes_the_answer_later(place, monkeypatch):
    monkeypatch.setattr("hipedge.web.site.BUSY_TIMEOUT_S", 0.1)
    new_study(place, count=2)
    client = place.client("rita")
    fields = open_hip(client)
    with closing(Studies(place.settings.study_database)._db.conn) as other:
        other.execute("begin exclusive")
        response = client.post("/study/1/answer", data=fields | ANSWER)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        # What cannot be checked is not shown.
        assert client.get("/case/1").status_code in (403, 503)
        other.execute("rollback")
    assert client.post("/study/1/answer", data=fields | ANSWER).status_code == 303


def test_a_study_is_only_added_to(place):
    new_study(place, count=2)
    answer_hip(place.client("rita"))
    with Studies(place.settings.study_database) as studies:
        for statement in (
            "update readings set answer = 'normal'", "delete from readings",
            "update reading_events set shown_ms = 1", "delete from reading_events",
            "delete from openings", "update reading_order set position = 9",
            "update study_hips set truth = 'normal'", "delete from study_hips",
            "update study_readers set grade = 'x'", "update studies set washout_s = 0",
            "delete from studies",
        ):  # fmt: skip
            with pytest.raises(StoreError, match="only added to"), studies.transaction():
                studies.execute(statement)


def test_the_log_has_who_saw_and_answered_what(place):
    new_study(place, count=2)
    answer_hip(place.client("rita"))
    lines = [entry for entry in place.audit() if entry.event.startswith("study_")]
    assert [line.event for line in lines] == ["study_answer", "study_hip", "study_added"]
    assert {line.detail for line in lines[:2]} == {"trial: alone 1"}
    assert lines[0].content_hash == lines[1].content_hash
    page = place.client("anna").get("/log").text
    assert "osteoarthritis" not in page


def test_a_hip_that_a_reader_could_not_see_is_left_out_of_the_export(place, tmp_path):
    new_study(place, count=2, readers="rita")
    client = place.client("rita")
    for path in place.folder.glob("*.png"):
        path.rename(path.with_suffix(".gone"))
    page = client.get("/study/1/hip").text
    film, first = data_of(page)
    gone = client.get(f"{film}/{first}")
    assert (gone.status_code, gone.text) == (410, "This film cannot be shown now.")
    fields = form_of_hip(page)
    assert client.post("/study/1/answer", data=fields | {"skip": "1"}).status_code == 303
    for path in place.folder.glob("*.gone"):
        path.rename(path.with_suffix(".png"))
    answer_hip(client)
    assert export(place, tmp_path / "reads.csv") == 0
    assert len((tmp_path / "reads.csv").read_text().splitlines()) == 2


def test_a_case_that_is_no_ones_study_is_answered_as_before(place):
    place.fracture("outside")
    new_study(place, count=1)
    assert answer(place.client("rita"), 1, verdict="right").status_code == 303


GRADES = {"ada": "junior", "ben": "junior", "cleo": "intermediate", "dan": "intermediate",
          "eva": "senior", "finn": "senior"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_design_of_six_readers_of_three_grades_in_two_phases(place, clock, tmp_path):
    with Accounts(place.settings.web_database) as accounts:
        known = accounts.user("rita").password_hash
        for name in GRADES:
            accounts.add_user(name, Role.READER, known)
    readers = ",".join(f"{name}={grade}" for name, grade in GRADES.items())
    truths = new_study(place, count=5, readers=readers)
    app = place.app(clock=clock)
    for phase, skill in (("alone", 3), ("assisted", 5)):
        for name in GRADES:
            client = place.client(name, app)
            with Studies(place.settings.study_database) as studies:
                order = studies.query(
                    "select hip from reading_order where reader = ? and phase = ?"
                    " order by position",
                    [name, phase],
                )
            for row in order:
                truth = CATEGORIES.index(truths[row["hip"]])
                seen = truth if (row["hip"] + len(name)) % skill else (truth + 1) % 4
                answer_hip(client, CATEGORIES[seen].value, 1 + row["hip"] % 5)
        clock.ahead += timedelta(days=29)
    reads, predictions = tmp_path / "reads.csv", tmp_path / "predictions.csv"
    assert export(place, reads, "--predictions", predictions) == 0
    rows = list(csv.DictReader(reads.read_text().splitlines()))
    assert len(rows) == 6 * 2 * 5
    assert {row["grade"] for row in rows} == {"junior", "intermediate", "senior"}
    labels = place.folder / "trial.csv"
    output = tmp_path / "report"
    done = hipedge("readers", reads, "--labels", labels, "--model-predictions", predictions,
                   "-o", output, "--replicates", 100)  # fmt: skip
    assert done == 0
    page = (output / "report.html").read_text()
    assert all(name in page for name in (*GRADES, *GRADES.values()))


@pytest.mark.parametrize("page", ["/studies", "/study/1", "/study/1/hip", "/study/1/truth/1"])
def test_pages_of_a_study_have_no_script_or_style_of_their_own(place, page):
    table = write_table(place, record_films(place, 1, first=50), "practice", first=50)
    new_study(place, "--training", table, count=1)
    client = place.client("rita")
    assert client.get("/study/1/truth/1").status_code == 404  # nothing was answered
    answer_hip(client)
    text = client.get(page).text
    assert "hipedge" in text
    assert not re.search(r"<script(?![^>]* src=)(?![^>]*application/json)", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|http://", text)


def test_the_truth_is_told_about_the_training_alone_and_to_its_reader_alone(place):
    table = write_table(place, record_films(place, 1, first=51), "practice", first=51)
    new_study(place, "--training", table, "--go-back", count=2)
    rita, robert = place.client("rita"), place.client("robert")
    told = answer_hip(rita).headers["location"]
    assert f"Truth: <strong>{CATEGORIES[51 % 4].value.replace('_', ' ')}" in rita.get(told).text
    assert robert.get(told).status_code == 404
    answer_hip(rita)
    assert rita.get("/study/1/truth/2").status_code == 404
    # Nor is an answer of the training changed after that, where others may be.
    assert rita.get("/study/1/hip?number=1").status_code == 200
    assert "alone" in rita.get("/study/1/hip?number=1").text


def test_a_hostile_name_of_a_study_or_patient_is_shown_and_never_run(place):
    record_films(place, 1, sex="<script>x</script>")
    table = write_table(place, [CATEGORIES[0]])
    assert hipedge("study", "new", table, "--readers", "rita", "--name", "<script>",
                   "--db", place.settings.db) == 2  # fmt: skip
    assert hipedge("study", "new", table, "--readers", "rita", "--db", place.settings.db) == 0
    page = place.client("rita").get("/study/1/hip").text
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


def test_orders_differ_between_readers_and_phases_and_are_those_of_the_seed(place):
    new_study(place, "--name", "trial")
    with Studies(place.settings.study_database) as studies:
        orders = {
            (row["reader"], row["phase"]): row["hips"]
            for row in studies.query(
                "select reader, phase, group_concat(hip) as hips from"
                " (select * from reading_order order by position) group by reader, phase"
            )
        }
    assert len(orders) == len(set(orders.values())) == 4

    def key(number):
        return sha256(f"7/rita/alone/{number}".encode()).hexdigest()

    assert orders["rita", "alone"] == ",".join(map(str, sorted(range(HIPS), key=key)))
    assert study_of(place).plan.seed == 7
