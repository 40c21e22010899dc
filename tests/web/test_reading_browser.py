"""A whole reader study in a real browser, and what the page of a hip does there."""

import csv
import json
import re
from datetime import timedelta

import pytest

from hipedge.store.readings import Readings
from hipedge.store.studies import Studies
from hipedge.types import CATEGORIES

from .conftest import PASSWORD, served
from .studies import HIPS, Clock, hipedge, new_study, record_films, study_of, write_table
from .test_browser import CHROMIUM, CONTRAST, NAMELESS, TOO_WIDE, chromium  # noqa: F401

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the pages in")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def visit(place, clock, chromium):  # noqa: F811
    """Returns pages of readers who are logged in, with what the browser complains of."""
    contexts = []
    with served(place.app(clock=clock)) as address:

        def log_in(user, **options):
            context = chromium.new_context(
                viewport={"width": 1000, "height": 640}, base_url=address, **options
            )
            contexts.append(context)
            page = context.new_page()
            page.complaints = []
            page.on(
                "console", lambda m: page.complaints.append(m.text) if m.type == "error" else None
            )
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            page.set_default_timeout(20_000)
            page.goto("/login")
            page.fill("#user", user)
            page.fill("#password", PASSWORD)
            page.click("button.primary")
            page.wait_for_selector(".tabs")
            return page

        yield log_in
        for context in contexts:
            context.close()


def begin(page):
    page.goto("/studies")
    page.click("text=trial")
    page.click("#begin")
    wait_for_film(page)


def wait_for_film(page):
    page.wait_for_selector("canvas[data-state=ready]")


def heading(page):
    return page.inner_text(".panel h1")


def answer_by_keyboard(page, category, confidence):
    """Answer with the keys alone."""
    page.keyboard.press("a")
    page.keyboard.press(str(category))
    page.keyboard.press(str(confidence))
    with page.expect_navigation():
        page.keyboard.press("Enter")


def readings_of(place):
    with Studies(place.settings.study_database) as studies:
        return Readings(studies).all_of(studies.by_name("trial"))


def film_of(page):
    return json.loads(page.inner_text("#film-data", timeout=5000))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("hips", [4, pytest.param(HIPS, marks=pytest.mark.slow)])
def test_a_study_of_two_readers_in_both_phases_is_analysed(place, visit, clock, tmp_path, hips):
    truths = new_study(place, count=hips)
    films = dict(enumerate(truths))
    pages = {reader: visit(reader) for reader in ("rita", "robert")}
    # Wrong in every third hip alone, in every sixth with hipedge: at places of their own order.
    for phase, wrong in (("alone", 3), ("assisted", 6)):
        for reader, page in pages.items():
            with Studies(place.settings.study_database) as studies:
                order = [
                    row["hip"]
                    for row in studies.query(
                        "select hip from reading_order where reader = ? and phase = ?"
                        " order by position",
                        [reader, phase],
                    )
                ]
            begin(page)
            for place_, hip in enumerate(order):
                assert f"Hip {place_ + 1} of {hips}" in heading(page)
                assert ("hipedge found" in page.content()) is (phase == "assisted")
                truth = CATEGORIES.index(films[hip])
                category = (truth + 1) % 4 if place_ % wrong == 0 else truth
                answer_by_keyboard(page, category + 1, 3 + place_ % 3)
                if place_ + 1 < hips:
                    wait_for_film(page)
            expected = "opens on" if phase == "alone" else "You have finished"
            page.wait_for_selector(f"text={expected}")
            assert page.locator("#begin").count() == 0
        clock.ahead += timedelta(days=28, minutes=1)

    reads = tmp_path / "reads.csv"
    assert hipedge("study", "export", "trial", reads, "--db", place.settings.db) == 0
    rows = list(csv.DictReader(reads.read_text().splitlines()))
    assert len(rows) == 2 * 2 * hips
    assert {row["clock"] for row in rows} == {"page"}
    assert all(0 < float(row["seconds"]) < 60 for row in rows)
    output = tmp_path / "report"
    labels = ("--labels", place.folder / "trial.csv", "--db", place.settings.db)
    assert hipedge("readers", reads, *labels, "-o", output, "--replicates", 100) == 0
    results = json.loads((output / "results.json").read_text())
    assert "rita" in json.dumps(results)
    page = (output / "report.html").read_text()
    assert "senior" in page
    assert "assisted" in page
    for page in pages.values():
        assert page.complaints == []


def test_the_time_is_that_with_the_film_on_the_screen(place, visit):
    new_study(place)
    page = visit("rita")
    begin(page)
    page.wait_for_timeout(600)
    page.keyboard.press("k")
    assert page.locator("#cover").is_visible()
    assert page.is_disabled("#send")
    page.wait_for_timeout(1500)
    page.keyboard.press("k")
    assert page.locator("#cover").is_hidden()
    answer_by_keyboard(page, 1, 5)
    wait_for_film(page)
    (reading,) = readings_of(place)
    assert reading.times.seconds >= 0.6
    assert reading.times.paused_s >= 1.5
    assert not reading.times.by_server
    assert page.complaints == []


def test_a_page_that_is_not_looked_at_stops_the_clock(place, visit):
    new_study(place)
    page = visit("rita")
    begin(page)
    page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", { value: true, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.wait_for_timeout(1200)
    page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", { value: false, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    answer_by_keyboard(page, 2, 1)
    wait_for_film(page)
    (reading,) = readings_of(place)
    assert reading.times.paused_s >= 1.2


def test_five_minutes_without_a_movement_cover_the_film(place, visit):
    new_study(place)
    page = visit("rita")
    page.add_init_script(
        """const [now, wait] = [performance.now.bind(performance), window.setInterval];
        window.ahead = 0;
        performance.now = () => now() + window.ahead;
        window.setInterval = (action) => wait(action, 200);"""
    )
    page.goto("/study/1/hip")
    wait_for_film(page)
    for step in range(2):
        page.evaluate("window.ahead += 4 * 60_000")
        page.mouse.move(300, 300 + step)
        page.wait_for_timeout(500)
        assert page.locator("#cover").is_hidden()
    page.evaluate("window.ahead += 5 * 60_000")
    page.wait_for_selector("#cover:visible")
    assert "no movement" in page.inner_text("#cover-text")


def test_a_session_that_dies_in_mid_case_goes_on_with_its_time(place, visit):
    new_study(place)
    first = visit("rita")
    begin(first)
    first.wait_for_timeout(1000)
    with first.expect_response(re.compile("/event$")):
        first.keyboard.press("k")  # the last that the server hears
    first.context.close()
    page = visit("rita")
    begin(page)
    assert "Hip 1 of 12" in heading(page)
    answer_by_keyboard(page, 1, 4)
    wait_for_film(page)
    (reading,) = readings_of(place)
    assert reading.openings == 2
    assert reading.times.seconds >= 1.0


def test_of_two_windows_the_newer_one_reads(place, visit):
    new_study(place)
    old = visit("rita")
    begin(old)
    new = old.context.new_page()
    new.goto("/study/1/hip")
    wait_for_film(new)
    old.keyboard.press("k")  # reports, and is told
    old.wait_for_selector("text=in another window")
    assert old.locator("#resume").is_hidden()
    answer_by_keyboard(new, 1, 4)
    wait_for_film(new)
    assert len(readings_of(place)) == 1


def test_a_double_click_answers_once(place, visit):
    new_study(place)
    page = visit("rita")
    begin(page)
    page.check("input[name=category] >> nth=0")
    page.check("input[name=confidence] >> nth=4")
    page.dblclick("#send")
    page.wait_for_selector("text=Hip 2 of 12")
    assert len(readings_of(place)) == 1
    page.go_back()
    page.wait_for_selector("text=Hip 2 of 12")


def test_a_film_that_is_gone_can_be_skipped(place, visit):
    truths = new_study(place)
    for path in place.folder.glob("*.png"):
        path.unlink()
    page = visit("rita")
    page.goto("/study/1/hip")
    page.wait_for_selector("#skip:visible")
    assert not any(truth.value in page.inner_text("#message") for truth in truths)
    page.click("#skip")
    page.wait_for_selector("text=Hip 2 of 12")
    (reading,) = readings_of(place)
    assert reading.answer is None


def test_a_training_tells_the_truth_and_is_not_exported(place, visit, tmp_path):
    table = write_table(place, record_films(place, 2, first=50), "practice", first=50)
    new_study(place, "--training", table, readers="rita")
    page = visit("rita")
    begin(page)
    assert "training" in heading(page)
    for _ in range(2):
        answer_by_keyboard(page, 1, 4)
        page.wait_for_selector("text=Truth:")
        page.keyboard.press("Enter")
        wait_for_film(page)
    assert "alone" in heading(page)
    answer_by_keyboard(page, 1, 4)
    assert hipedge("study", "export", "trial", tmp_path / "r.csv", "--db", place.settings.db) == 0
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 2
    assert study_of(place).training == 2


def test_the_pages_of_a_study_have_contrast_names_and_fit_on_a_phone(place, visit, clock):
    table = write_table(place, record_films(place, 1, first=50), "practice", first=50)
    new_study(place, "--training", table, "--go-back", "--washout", "0d", count=1, readers="rita")
    page = visit("rita")
    for address in ("/studies", "/study/1", "/study/1/hip"):
        page.set_viewport_size({"width": 1300, "height": 900})
        page.goto(address)
        look(page, address)
    wait_for_film(page)
    answer_by_keyboard(page, 1, 4)
    look(page, "truth")
    page.goto("/study/1/hip")
    wait_for_film(page)
    answer_by_keyboard(page, 1, 4)
    page.goto("/study/1/hip")
    wait_for_film(page)
    assert "hipedge found" in page.content()
    look(page, "assisted")


def look(page, what):
    assert page.evaluate(CONTRAST) == [], what
    assert page.evaluate(NAMELESS) == [], what
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate(TOO_WIDE) == [], what


def test_a_hip_is_answered_by_touch(place, visit):
    new_study(place)
    page = visit("rita", has_touch=True)
    begin(page)
    page.tap("input[name=category] >> nth=2")
    page.tap("input[name=confidence] >> nth=1")
    page.tap("#send")
    page.wait_for_selector("text=Hip 2 of 12")
    (reading,) = readings_of(place)
    assert (reading.answer, reading.confidence) == (CATEGORIES[2], 2)
