"""Who gets in, what a role may do, and what every request and response must have."""

import re
from datetime import timedelta

import pytest

from hipedge.errors import InputError, StoreError
from hipedge.store.accounts import Accounts
from hipedge.web import guard
from hipedge.web.limits import RateLimit
from hipedge.web.passwords import hash_password, is_password

from .conftest import PASSWORD, ROLES, answer, form_of

PAGES = ("/", "/rows", "/search?q=x", "/case/1", "/dashboard", "/agreement", "/log", "/studies",
         "/study/1", "/study/1/hip", "/study/1/truth/1")  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_without_login_every_page_leads_to_the_login(place, page):
    place.fracture()
    response = place.client().get(page)
    assert response.status_code == 303
    assert response.headers["location"] == "/login"


def test_without_login_no_film_is_sent_and_no_answer_taken(place):
    place.fracture()
    client = place.client()
    assert client.get("/film/1/0").status_code == 401
    assert client.post("/case/1/answer", data={"verdict": "right"}).status_code == 303
    assert place.client("rita").get("/case/1").text.count('class="answers"') == 0


def test_a_user_logs_in_and_out_and_the_old_cookie_is_worth_nothing(place):
    client = place.client("rita")
    cookies = dict(client.cookies)
    assert client.get("/").status_code == 200
    token = re.search(r'name="form_token" value="([^"]+)"', client.get("/").text)[1]
    assert client.post("/logout", data={"form_token": token}).status_code == 303
    client.cookies.update(cookies)
    assert client.get("/").status_code == 303


def test_the_cookie_is_closed_to_scripts_and_other_sites_and_changes_at_login(place):
    client = place.client()
    tokens = set()
    for _ in range(2):
        response = client.post("/login", data={"user": "rita", "password": PASSWORD})
        cookie = response.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        tokens.add(cookie.split(";")[0])
    assert len(tokens) == 2


def test_the_database_holds_neither_password_nor_cookie(place):
    client = place.client("rita")
    (cookie,) = client.cookies.values()
    content = b"".join(path.read_bytes() for path in place.folder.glob("hipedge.web.db*"))
    assert PASSWORD.encode() not in content
    assert cookie.encode() not in content


@pytest.mark.parametrize(
    ("user", "password"), [("rita", "wrong"), ("nobody", PASSWORD), ("", ""), ("rita", "x" * 1000)]
)
def test_wrong_names_and_wrong_passwords_get_the_same_answer(place, user, password):
    response = place.client().post("/login", data={"user": user, "password": password})
    assert response.status_code == 401
    assert "User name or password is wrong." in response.text


def test_guessing_is_slowed_down_even_with_the_right_password_in_the_end(place):
    client = place.client()
    for _ in range(5):
        client.post("/login", data={"user": "rita", "password": "wrong"})
    response = client.post("/login", data={"user": "rita", "password": PASSWORD})
    assert response.status_code == 401
    assert "Too many attempts" in response.text
    assert client.post("/login", data={"user": "vera", "password": PASSWORD}).status_code == 303
    assert {entry.event for entry in place.audit()} >= {"login_failed", "login_refused", "login"}


def test_a_password_typed_into_the_wrong_field_is_not_logged(place):
    place.client().post("/login", data={"user": PASSWORD, "password": ""})
    assert PASSWORD not in str(place.audit())


def test_a_disabled_user_is_out_at_once(place):
    client = place.client("rita")
    with Accounts(place.settings.web_database) as accounts:
        accounts.set_disabled("rita", disabled=True)
    assert client.get("/").status_code == 303
    response = client.post("/login", data={"user": "rita", "password": PASSWORD})
    assert response.status_code == 401


def test_a_new_password_ends_the_sessions_of_the_old_one(place):
    client = place.client("rita")
    with Accounts(place.settings.web_database) as accounts:
        accounts.set_password("rita", hash_password("some other long words", "rita"))
    assert client.get("/").status_code == 303


NEW = "three other quiet words"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 303),
        ({"password": "wrong"}, 401),
        ({"again": "something else here"}, 400),
        ({"new_password": "short", "again": "short"}, 400),
        ({"form_token": "forged"}, 403),
    ],
)
def test_users_change_their_passwords_with_the_present_one(place, fields, status):
    client = place.client("vera")
    token = re.search(r'name="form_token" value="([^"]+)"', client.get("/password").text)[1]
    form = {"form_token": token, "password": PASSWORD, "new_password": NEW, "again": NEW} | fields
    assert client.post("/password", data=form).status_code == status
    accepted = client.post("/login", data={"user": "vera", "password": NEW}).status_code == 303
    assert accepted is (status == 303)


def test_an_idle_session_ends(place):
    app = place.app(idle=timedelta(seconds=0))
    client = place.client("rita", app)
    assert client.get("/").status_code == 303


def test_a_session_that_ends_in_mid_case_records_no_answer(place):
    place.fracture()
    client = place.client("rita")
    form = form_of(client.get("/case/1").text)
    with Accounts(place.settings.web_database) as accounts, accounts.transaction():
        accounts.execute("delete from sessions")
    response = client.post("/case/1/answer", data=form | {"verdict": "right"})
    assert (response.status_code, response.headers["location"]) == (303, "/login")
    assert client.get("/film/1/0").status_code == 401
    assert 'class="answers"' not in place.client("rita").get("/case/1").text


def test_roles(place):
    place.fracture()
    status = {
        user: (
            place.client(user).get("/case/1").status_code,
            place.client(user).get("/log").status_code,
        )
        for user in ROLES
    }
    assert status == {"vera": (200, 403), "rita": (200, 403), "robert": (200, 403),
                      "anna": (200, 200)}  # fmt: skip


def test_a_viewer_sees_no_form_and_cannot_answer_by_hand(place):
    place.fracture()
    page = place.client("rita").get("/case/1").text
    viewer = place.client("vera")
    own_page = viewer.get("/case/1").text
    assert 'class="answer"' not in own_page
    token = re.search(r'name="form_token" value="([^"]+)"', own_page)[1]
    fields = form_of(page) | {"verdict": "right", "form_token": token}
    assert viewer.post("/case/1/answer", data=fields).status_code == 403


@pytest.mark.parametrize(
    ("change", "headers"),
    [
        ({"form_token": ""}, {}),
        ({"form_token": "forged"}, {}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null"}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_of_another_site_is_refused(place, change, headers):
    place.fracture()
    client = place.client("rita")
    fields = form_of(client.get("/case/1").text) | {"verdict": "right"} | change
    response = client.post("/case/1/answer", data=fields, headers=headers)
    assert response.status_code == 403
    assert "You:" not in client.get("/case/1").text


def test_the_token_of_another_session_is_refused(place):
    place.fracture()
    token = form_of(place.client("robert").get("/case/1").text)["form_token"]
    response = answer(place.client("rita"), 1, verdict="right", form_token=token)
    assert response.status_code == 403


def test_a_login_form_of_another_site_is_refused(place):
    response = place.client().post(
        "/login",
        data={"user": "rita", "password": PASSWORD},
        headers={"Origin": "https://evil.example"},
    )
    assert response.status_code == 401


@pytest.mark.parametrize("page", [*PAGES, "/login", "/nothing", "/film/1/0", "/film/9/9"])
def test_every_response_forbids_foreign_scripts_frames_and_storage(place, page):
    place.fracture()
    headers = place.client("anna").get(page).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "no-store" in headers["cache-control"]
    assert "server" not in headers


@pytest.mark.parametrize(
    ("page", "kind"),
    [("/", "text/html; charset=utf-8"), ("/film/1/0", "application/octet-stream"),
     ("/film/9/9", "text/plain; charset=utf-8"), ("/nothing", "text/html; charset=utf-8")],
)  # fmt: skip
def test_every_response_has_its_type(place, page, kind):
    place.fracture()
    headers = place.client("anna").get(page).headers
    assert headers["content-type"] == kind
    assert (headers.get("content-disposition") == "attachment") is (page == "/film/1/0")
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "POST"])
@pytest.mark.parametrize("page", ["/", "/case/1", "/film/1/0", "/log"])
def test_methods_that_a_page_does_not_have_are_refused(place, method, page):
    place.fracture()
    client = place.client("anna")
    assert client.request(method, page).status_code in (404, 405)


def test_no_page_has_a_script_or_style_of_its_own(place):
    place.fracture()
    client = place.client("anna")
    for page in (
        "/",
        "/case/1",
        "/dashboard",
        "/agreement",
        "/log",
        "/search?q=1",
        "/nothing",
        "/login",
    ):
        text = client.get(page).text
        assert not re.search(r"<script(?![^>]* src=)(?![^>]*application/json)", text), page
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text), page
        assert "http://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_a_host_that_a_name_server_pointed_here_is_refused(place):
    client = place.client()
    assert client.get("/login", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/login", headers={"Host": "localhost:8464"}).status_code == 200


def test_large_and_endless_bodies_are_refused(place):
    client = place.client()
    assert client.post("/login", content=b"x" * 20_000).status_code == 413
    assert client.post("/login", content=iter([b"x"] * 10)).status_code == 413
    assert client.post("/login", content=b"&".join([b"a=1"] * 3000)).status_code == 401


def test_too_many_requests_of_one_client_are_refused_for_a_while(place, monkeypatch):
    monkeypatch.setattr(guard, "REQUESTS", (5, 3600.0))
    client = place.client()
    answers = [client.get("/healthz").status_code for _ in range(7)]
    assert answers == [200] * 5 + [429] * 2


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/0.2.0/../../app.py", "/static/0.2.0/%2e%2e/app.py",
     "/static/0.2.0/..%2fapp.py", "/static/0.2.0//etc/passwd", "/film/..%2f..%2fetc/0",
     "/case/../../etc/passwd"],
)  # fmt: skip
def test_paths_lead_nowhere_else(place, path):
    response = place.client("anna").get(path)
    assert response.status_code in (303, 404)
    assert "import" not in response.text
    assert "root:" not in response.text


def test_scripts_and_styles_are_served_without_login(place):
    page = place.client().get("/login").text
    (style,) = re.findall(r'href="(/static/[^"]+\.css)"', page)
    assert place.client().get(style).status_code == 200


def test_without_users_a_link_lets_in_the_person_who_started_the_server(place):
    app = place.app(link_token="the-token-of-the-link")
    client = place.client(app=app)
    assert client.get("/login?token=guessed").status_code == 401
    assert client.post("/login", data={"user": "rita", "password": PASSWORD}).status_code == 401
    assert client.get("/login?token=the-token-of-the-link").status_code == 303
    assert "olga" in client.get("/").text


def test_the_log_says_who_saw_which_film_and_who_answered_what(place):
    film = place.fracture()
    client = place.client("rita")
    answer(client, 1, verdict="right")
    client.get("/film/1/0")
    entries = {
        (entry.user, entry.event)
        for entry in place.audit()
        if entry.content_hash == film.content_hash
    }
    assert entries == {("rita", "case"), ("rita", "film"), ("rita", "answer")}
    page = place.client("anna").get("/log").text
    assert "rita" in page
    assert film.content_hash[:12] in page


@pytest.mark.parametrize("change", ["delete from audit", "update audit set user = 'other'"])
def test_the_log_can_only_grow(place, change):
    place.client("rita")
    with Accounts(place.settings.web_database) as accounts:
        with pytest.raises(StoreError, match=r"not (deleted|changed)"), accounts.transaction():
            accounts.execute(change)
        assert len(accounts.audit()) == 1


@pytest.mark.parametrize("password", ["short", "rita is my name", "aaaaaaaaaaaaaaaa", "x" * 200])
def test_passwords_that_can_be_guessed_are_refused(password):
    with pytest.raises(InputError):
        hash_password(password, "rita")


def test_hashes_are_salted_argon2id():
    one, two = (hash_password(PASSWORD, "rita") for _ in range(2))
    assert one != two
    assert one.startswith("$argon2id$")
    assert is_password(one, PASSWORD)
    assert not is_password(one, PASSWORD + "x")
    assert not is_password(None, PASSWORD)


def test_a_rate_limit_allows_a_burst_and_then_one_at_a_time():
    now = [0.0]
    limit = RateLimit(3, 10.0, clock=lambda: now[0])
    assert [limit.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert limit.take("b")
    now[0] = 10.0
    assert [limit.take("a") for _ in range(2)] == [True, False]
