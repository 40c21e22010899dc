"""Reader studies for tests: their films, their tables, a clock that can be set forward."""

import csv
import re
from datetime import timedelta

import pytest

from hipedge.cli import main
from hipedge.rules.site_rule import site_rule
from hipedge.store.connection import utc_now
from hipedge.store.studies import Studies
from hipedge.types import CATEGORIES, Category, Side
from tests.builders import scored_hip, screened

from .conftest import placed

HIPS = 12


class Clock:
    """The present time, and what has been added to it."""

    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return utc_now() + self.ahead


def record_films(place, count=HIPS, first=0, **film):
    """Record films with a right hip each, which the model is mostly right about; return the truth.

    The names of the files tell the truth, as those of many collections do.
    """
    rule = site_rule(place.card, place.settings)
    truths = [CATEGORIES[number % 4] for number in range(first, first + count)]
    outcomes = []
    for number, truth in enumerate(truths, start=first):
        found = Category.NORMAL if number % 5 == 4 else truth
        hip = placed(scored_hip(found, Side.RIGHT), 20, 60, 120, 200)
        taken = place.film(f"{truth.value}-{number}", sop_instance_uid=f"1.2.{number}", **film)
        outcomes.append(screened(taken, hip, rule=rule))
    place.record(*outcomes)
    return truths


def write_table(place, truths, name="trial", first=0):
    """Write a coordinator's table of the hips of `record_films`; return its path."""
    path = place.folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sop_instance_uid", "side", "category", "patient"))
        for number, truth in enumerate(truths, start=first):
            writer.writerow((f"1.2.{number}", "right", truth.value, f"patient {number}"))
    return path


def hipedge(*arguments):
    """Run a command; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


def new_study(place, *options, count=HIPS, readers="rita=senior,robert=junior"):
    """Record films and make a study called trial of them; return the truth."""
    truths = record_films(place, count)
    table = write_table(place, truths)
    db = ("--db", place.settings.db)
    assert hipedge("study", "new", table, "--readers", readers, "--seed", 7, *db, *options) == 0
    return truths


def study_of(place, name="trial"):
    with Studies(place.settings.study_database) as studies:
        return studies.by_name(name)


def form_of_hip(page):
    """Return the hidden fields of a page with a hip."""
    form = re.search(r'<form class="card answer" id="reading".*?</form>', page, re.DOTALL)[0]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))


def data_of(page):
    """Return the address of the film, and its coarsest level."""
    film = re.search(r'"film": "([^"]+)"', page)[1]
    return film, int(re.search(r'"first": (\d+)', page)[1])


def open_hip(client, number=None):
    """Open a hip as the viewer does, with its film; return the form's fields."""
    address = "/study/1/hip" + ("" if number is None else f"?number={number}")
    page = client.get(address)
    assert page.status_code == 200, page.text
    film, first = data_of(page.text)
    assert client.get(f"{film}/{first}").status_code == 200
    return form_of_hip(page.text)


def report(client, fields, kind, shown_ms=0.0, paused_ms=0.0):
    times = {"kind": kind, "shown_ms": shown_ms, "paused_ms": paused_ms}
    return client.post("/study/1/event", data=fields | times)


def answer_hip(client, category="normal", confidence=4, shown_ms=100.0, **changes):
    """Open the next hip and answer it; return the response."""
    fields = open_hip(client)
    report(client, fields, "drawn")
    given = {"category": category, "confidence": confidence, "shown_ms": shown_ms, "paused_ms": 0}
    return client.post("/study/1/answer", data=fields | given | changes)
