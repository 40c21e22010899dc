"""The dashboard: its figures, who sees them, and what is odd in a database."""

import re
import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta
from html import unescape

import pytest

from hipedge.errors import Code
from hipedge.store.figures import Answers, FilmCounts, Waits
from hipedge.types import Category, Refusal
from hipedge.web import charts
from tests.builders import content, film

from .conftest import answer

HOSTILE = "<script>alert(1)</script>"
DAY = date(2026, 3, 30)


def change(place, sql, *parameters):
    with closing(sqlite3.connect(place.settings.db)) as db, db:
        db.execute(sql, parameters)


def text(page):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_without_a_film_every_chart_says_so(place):
    page = place.client("vera").get("/dashboard")
    assert page.status_code == 200
    shown = text(page.text)
    assert "0 screened, 0 not read." in shown
    for nothing in (
        "No film was recorded",
        "No file was refused",
        "No hip was judged",
        "Not known",
    ):
        assert nothing in shown
    assert 'class="plot"' not in page.text


@pytest.mark.parametrize("days", [7, 30, 365])
def test_one_film_is_one_bar_and_one_row(place, days):
    place.fracture()
    page = place.client("vera").get(f"/dashboard?days={days}").text
    today = date.today().isoformat()
    assert f"{today}: 1 screened, 0 not read" in page
    assert page.count('<rect class="screened" x=') == 1
    assert "femoral neck fracture 1" in text(page)
    assert re.search(rf'<th scope="row" class="nowrap">{today}</th><td class="number">1</td>', page)


def test_refusals_answers_and_times_are_shown(place):
    place.fracture()
    place.record(Refusal(film("broken").source, Code.DECODE_FAILED, content_hash=content("broken")))
    change(place, "update files set waited_s = 90 where state = 'screened'")
    answer(place.client("rita"), 1, verdict="right")
    page = place.client("vera").get("/dashboard").text
    assert "decode_failed the decoder refused the pixel data 1" in text(page)
    assert "1 screened, 1 not read (50.0 %)" in text(page)
    assert "median 1.5 min, 95th percentile 1.5 min, 1 films" in page
    assert "100 % of 1 (95 % interval 21 to 100 %)" in page


def test_a_day_of_fifty_thousand_films_and_days_without_any(place):
    place.fracture()
    columns = "run_id, model_id, pipeline_version, recorded_at, state, marks, attempts, timings_ms"
    yesterday, earlier = (date.today() - timedelta(days=n) for n in (1, 20))
    change(
        place,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000)"
        f" insert into files (content_hash, path, day, waited_s, {columns})"
        f" select 'x' || i, '/in/' || i, ?, i, {columns} from files, n",
        yesterday.isoformat(),
    )
    change(
        place,
        f"insert into files (content_hash, path, day, {columns})"
        f" select 'y', '/in/y', ?, {columns} from files limit 1",
        earlier.isoformat(),
    )
    page = place.client("vera").get("/dashboard").text
    assert f"{yesterday}: 50000 screened" in page
    assert "60,000" in page  # the axis
    assert "50,002 screened" in text(page)
    assert "median 6.9 h, 95th percentile 13 h" in page
    assert page.count('<rect class="screened" x=') == 3


def test_a_film_of_tomorrow_says_that_a_clock_is_wrong(place):
    place.fracture()
    change(place, "update files set day = ?", (date.today() + timedelta(days=1)).isoformat())
    shown = text(place.client("vera").get("/dashboard").text)
    assert "1 files are dated after today, and are not shown" in shown


def test_names_of_a_newer_version_are_shown_and_never_run(place):
    place.fracture()
    place.record(Refusal(film("broken").source, Code.DECODE_FAILED, content_hash=content("broken")))
    change(place, "update files set code = ? where code is not null", HOSTILE)
    change(place, "update decisions set flagged_for = json_array(?) where flagged", HOSTILE)
    page = place.client("vera").get("/dashboard").text
    assert HOSTILE not in page
    assert text(page).count(HOSTILE) == 2
    assert "a code of another version of hipedge" in page


def test_where_findings_are_hidden_so_is_what_was_flagged(place):
    place.set(web_blind=True)
    place.fracture()
    for user, hidden in (("rita", True), ("vera", True), ("anna", False)):
        page = place.client(user).get("/dashboard").text
        assert ("Hidden, as findings are" in page) is hidden
        assert ("femoral neck fracture" in page) is not hidden


def test_after_a_change_of_thresholds_the_flags_say_that_they_are_incomplete(place):
    place.fracture()
    client = place.client("vera")
    assert "Not complete" not in client.get("/dashboard").text
    place.set(thresholds={Category.OSTEOARTHRITIS: 0.123})
    assert "Not complete" in place.client("vera").get("/dashboard").text


def test_only_the_periods_that_it_offers_are_counted(place):
    client = place.client("vera")
    for days in ("8", "0", "-1", "x", "9" * 99):
        assert client.get(f"/dashboard?days={days}").status_code == 400
    assert place.client().get("/dashboard").status_code == 303


@pytest.mark.parametrize(
    ("most", "steps"),
    [(0, [0, 1]), (1, [0, 1]), (4, [0, 1, 2, 3, 4]), (5, [0, 2, 4, 6]), (23, [0, 10, 20, 30]),
     (50_000, [0, 20_000, 40_000, 60_000])],
)  # fmt: skip
def test_an_axis_of_counts_has_a_few_round_lines_up_to_the_highest(most, steps):
    assert charts.count_steps(most) == steps


@pytest.mark.parametrize("lowest", [0.0, 0.05, 3.0, 59.0, 3600.0, 1e12])
@pytest.mark.parametrize("factor", [1.0, 1.5, 1e3, 1e9])
def test_an_axis_of_times_has_two_lines_or_more_around_both(lowest, factor):
    steps = charts.time_steps(lowest, lowest * factor)
    assert len(steps) >= 2
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (0.123, "0.12 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "60 s"),
     (90.0, "1.5 min"), (3600.0, "1 h"), (86399.0, "24 h"), (3e6, "35 d"), (1e9, "11574 d")],
)  # fmt: skip
def test_a_time_is_said_in_the_unit_that_suits_it(seconds, words):
    assert charts.duration(seconds) == words


def test_bars_are_as_high_as_their_counts():
    days = [DAY - timedelta(days=1), DAY]
    chart = charts.films_chart(days, {DAY: FilmCounts(screened=30, not_read=10)})
    (column,) = chart.columns
    top = int(chart.up[-1].text)
    heights = [bar.height * top / chart.height for bar in column.bars]
    assert heights == pytest.approx([30, 10])
    assert column.bars[1].top + column.bars[1].height == pytest.approx(column.bars[0].top)
    assert (column.left, column.width) == (50, 50)


def test_ranges_reach_from_the_median_to_the_95th_percentile():
    waits = {DAY: Waits(20, 10.0, 60.0)}
    (column,) = (chart := charts.waits_chart([DAY], waits)).columns
    places = {tick.text: tick.at for tick in chart.up}
    assert column.value == column.bottom == pytest.approx(places["10 s"])
    assert column.top == pytest.approx(places["1 min"])


def test_answers_of_a_week_make_one_point_with_its_interval():
    days = [DAY - timedelta(days=n) for n in range(9, -1, -1)]
    answers = {DAY: Answers(6, 3), days[3]: Answers(2, 1), days[0]: Answers(1, 1)}
    first, second = charts.agreement_chart(days, answers, 7).columns
    assert second.text.startswith(f"{days[3]} to {DAY}: 50 % of 8 (95 % interval 22 to 78 %)")
    assert first.text.startswith(f"{days[0]} to {days[2]}: 100 % of 1")


def test_a_year_is_divided_by_quarters_and_a_month_by_its_last_days():
    year = [DAY - timedelta(days=n) for n in range(364, -1, -1)]
    labels = [tick.text for tick in charts.day_ticks(year)]
    assert labels == ["Apr 2025", "Jul 2025", "Oct 2025", "Jan 2026"]
    assert charts.day_ticks(year[-30:])[0].text == "30 Mar"
    assert len(charts.day_ticks(year[-30:])) == 5
    assert datetime.strptime(labels[0], "%b %Y").month == 4
