"""Answers of readers: appended, corrected, never overwritten; hidden findings."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from hipedge.errors import StoreError
from hipedge.store.feedback import Feedback, Verdict
from hipedge.store.store import Store
from hipedge.types import Category, Side

from .conftest import answer, form_of


def answers_of(place):
    with Store(place.settings.db, read_only=True) as store:
        return Feedback(store).present()


def all_answers(place, content_hash):
    with Store(place.settings.db, read_only=True) as store:
        return Feedback(store).of_film(content_hash)


@pytest.mark.parametrize(
    ("fields", "verdict", "category"),
    [
        ({"verdict": "right"}, Verdict.RIGHT, Category.FEMORAL_NECK_FRACTURE),
        (
            {"verdict": "wrong", "category": "osteoarthritis"},
            Verdict.WRONG,
            Category.OSTEOARTHRITIS,
        ),
        ({"verdict": "not_judged"}, Verdict.NOT_JUDGED, None),
        ({"verdict": "image_unfit"}, Verdict.IMAGE_UNFIT, None),
        ({"verdict": "wrong_side"}, Verdict.WRONG_SIDE, None),
    ],
)
def test_an_answer_is_recorded_with_who_when_and_what_was_shown(place, fields, verdict, category):
    film = place.fracture()
    assert answer(place.client("rita"), 1, **fields, note="a remark").status_code == 303
    (recorded,) = answers_of(place)
    assert (recorded.verdict, recorded.category) == (verdict, category)
    assert (recorded.reader, recorded.note, recorded.blind) == ("rita", "a remark", False)
    assert recorded.answered_at.startswith("20")
    shown = recorded.shown
    assert (shown.content_hash, shown.hip, shown.side) == (film.content_hash, 0, Side.RIGHT)
    assert (shown.category, shown.flagged) == (Category.FEMORAL_NECK_FRACTURE, True)


def test_a_missed_hip_is_about_the_film(place):
    place.fracture()
    response = answer(place.client("rita"), 1, "missed", verdict="hip_missed", side="left")
    assert response.status_code == 303
    (recorded,) = answers_of(place)
    assert (recorded.verdict, recorded.shown.side) == (Verdict.HIP_MISSED, Side.LEFT)
    assert "left hip missed" in place.client("robert").get("/case/1").text


def test_a_correction_keeps_the_answer_that_it_corrects(place):
    film = place.fracture()
    client = place.client("rita")
    answer(client, 1, verdict="right")
    answer(client, 1, verdict="wrong", category="normal")
    (present,) = answers_of(place)
    assert present.verdict is Verdict.WRONG
    assert [one.verdict for one in all_answers(place, film.content_hash)] == [
        Verdict.RIGHT,
        Verdict.WRONG,
    ]
    assert "corrected since" in client.get("/case/1").text


@pytest.mark.parametrize("change", ["delete from feedback", "update feedback set note = 'x'"])
def test_answers_cannot_be_changed_or_deleted_in_the_database(place, change):
    place.fracture()
    answer(place.client("rita"), 1, verdict="right")
    with (
        Store(place.settings.db) as store,
        pytest.raises(StoreError, match="an answer is not"),
        store.transaction(),
    ):
        store.execute(change)


def test_two_readers_who_answer_at_once_are_both_recorded(place):
    place.fracture()
    clients = [place.client("rita"), place.client("robert")]
    forms = [form_of(client.get("/case/1").text) for client in clients]
    with ThreadPoolExecutor() as threads:
        sent = [
            threads.submit(client.post, "/case/1/answer", data=form | {"verdict": "right"})
            for client, form in zip(clients, forms, strict=True)
        ]
    assert [one.result().status_code for one in sent] == [303, 303]
    assert {one.reader for one in answers_of(place)} == {"rita", "robert"}


def test_a_reader_with_two_windows_overwrites_nothing_unseen(place):
    place.fracture()
    client = place.client("rita")
    form = form_of(client.get("/case/1").text)
    assert client.post("/case/1/answer", data=form | {"verdict": "right"}).status_code == 303
    response = client.post("/case/1/answer", data=form | {"verdict": "wrong", "category": "normal"})
    assert response.status_code == 409
    assert "answered meanwhile" in response.text
    assert [one.verdict for one in answers_of(place)] == [Verdict.RIGHT]


def test_nobody_corrects_the_answer_of_another(place):
    place.fracture()
    answer(place.client("rita"), 1, verdict="right")
    response = answer(place.client("robert"), 1, verdict="not_judged", corrects="1")
    assert response.status_code == 409


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"verdict": ""}, 400),
        ({"verdict": "perfect"}, 400),
        ({"verdict": "wrong"}, 400),
        ({"verdict": "wrong", "category": "femoral_neck_fracture"}, 400),
        ({"verdict": "wrong", "category": "nonsense"}, 400),
        ({"verdict": "hip_missed"}, 400),
        ({"verdict": "right", "hip": "7"}, 404),
        ({"verdict": "right", "hip": "-1"}, 400),
        ({"verdict": "hip_missed", "hip": "", "side": "both"}, 400),
        ({"verdict": "right", "content_hash": "0" * 64}, 409),
        ({"verdict": "right", "corrects": "12"}, 409),
    ],
)
def test_answers_that_make_no_sense_are_refused(place, change, status):
    place.fracture()
    client = place.client("rita")
    fields = form_of(client.get("/case/1").text) | change
    assert client.post("/case/1/answer", data=fields).status_code == status
    assert answers_of(place) == []


def test_long_notes_are_cut(place):
    place.fracture()
    answer(place.client("rita"), 1, verdict="right", note="word " * 1000)
    assert len(answers_of(place)[0].note) == 2000


class TestBlind:
    @pytest.fixture(autouse=True)
    def blind(self, place):
        place.set(web_blind=True)

    def test_readers_and_viewers_see_no_finding_before_they_have_answered(self, place):
        place.fracture()
        for user in ("rita", "vera"):
            client = place.client(user)
            for address in ("/", "/rows", "/case/1", "/search?q=1", "/?list=flagged",
                            "/?category=femoral_neck_fracture&list=flagged"):  # fmt: skip
                text = client.get(address).text
                without_choices = re.sub(r"<option.*?</option>", "", text, flags=re.DOTALL)
                assert "femoral neck fracture" not in without_choices, address
                assert "badge urgent" not in text, address
                assert '"heat": [' not in text, address

    def test_the_finding_shows_once_this_reader_has_answered(self, place):
        place.fracture()
        client = place.client("rita")
        answer(client, 1, verdict="category", category="osteoarthritis")
        page = client.get("/case/1").text
        assert "femoral neck fracture" in page
        assert "badge urgent" in page
        (recorded,) = answers_of(place)
        assert (recorded.verdict, recorded.blind) == (Verdict.WRONG, True)
        assert recorded.category is Category.OSTEOARTHRITIS

    def test_the_answer_of_another_reader_is_hidden_too(self, place):
        place.fracture()
        answer(place.client("robert"), 1, verdict="category", category="femoral_neck_fracture")
        page = place.client("rita").get("/case/1").text
        assert "robert" not in page
        assert [one.verdict for one in answers_of(place)] == [Verdict.RIGHT]

    def test_a_correction_in_sight_of_the_finding_is_not_blind(self, place):
        film = place.fracture()
        client = place.client("rita")
        answer(client, 1, verdict="category", category="normal")
        answer(client, 1, verdict="right")
        assert [one.blind for one in all_answers(place, film.content_hash)] == [True, False]

    def test_a_case_is_open_for_each_reader_until_that_one_has_answered(self, place):
        place.fracture()
        for hip in (0, 1):
            answer(place.client("robert"), 1, hip, verdict="category", category="normal")
        assert "fracture.png" in place.client("rita").get("/").text
        assert "fracture.png" not in place.client("robert").get("/").text

    def test_an_administrator_sees_the_findings(self, place):
        place.fracture()
        assert "badge urgent" in place.client("anna").get("/").text
