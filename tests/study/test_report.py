"""The report: what is in it, that it needs nothing else, and what a browser makes of it."""

import base64
import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hipedge.config import Settings as SiteSettings
from hipedge.study.estimates import PLAIN, POINTS, Estimate, Interval, Table
from hipedge.study.evaluate import EvaluationSettings, evaluate
from hipedge.study.inputs import read_reads
from hipedge.study.reader_analysis import ReaderSettings, analyse_readers
from hipedge.study.reader_study import match_reads
from hipedge.study.report.checklist import CHECKLISTS, checklists_html
from hipedge.study.report.evaluation import write_evaluation
from hipedge.study.report.export import slug, write_json, write_tables
from hipedge.study.report.html import cell_html, number, sentence, table_html
from hipedge.study.report.pictures import FolderPictures, NoPictures, disagreement_gallery
from hipedge.study.report.reader_study import write_reader_study
from hipedge.study.sources import load_inputs, split_cases

from .conftest import label, prediction, read_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

EVALUATION_SECTIONS = [
    "In plain language", "Data sets side by side", "Cases: internal", "Performance: internal",
    "Confusion matrix: internal", "ROC curves: internal", "Calibration: internal",
    "Sub-groups: internal", "Disagreements: internal", "Cases: external", "Performance: external",
    "Confusion matrix: external", "ROC curves: external", "Calibration: external",
    "Sub-groups: external", "Disagreements: external", "How it was done", "Reporting checklists",
]  # fmt: skip
READER_SECTIONS = [
    "In plain language", "Cases and readers", "Model and readers", "Non-inferiority",
    "Model against readers and grades", "What assistance changed", "Time and automation bias",
    "Agreement", "Hips that the model got wrong", "How it was done", "Reporting checklists",
]  # fmt: skip


@pytest.fixture(scope="module")
def reports(simulated, tmp_path_factory):
    """The folders of an evaluation and of a reader study of the same simulated cases."""
    folder = tmp_path_factory.mktemp("reports")
    labels, predictions = simulated / "labels.csv", simulated / "predictions.csv"
    with load_inputs(labels, predictions, SiteSettings()) as inputs:
        sets = split_cases(inputs.cases, ["internal", "external"])
        write_evaluation(
            evaluate(sets, EvaluationSettings(replicates=200)),
            folder / "evaluation",
            sources=inputs.files,
            pictures=NoPictures(),
        )
        study = match_reads(read_reads(simulated / "reads.csv"), inputs.labels, inputs.cases)
        write_reader_study(
            analyse_readers(study, ReaderSettings(replicates=200)),
            folder / "readers",
            sources=inputs.files,
            pictures=NoPictures(),
        )
    return folder


class Page(HTMLParser):
    """The headings, links and outward references of a page; fails on tags that do not pair."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self, text):
        super().__init__()
        self.headings, self.anchors, self.links, self.outward = [], set(), set(), []
        self._open, self._heading = [], False
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "section":
            self.anchors.add(values["id"])
        for name in ("href", "src", "xlink:href"):
            value = values.get(name)
            if value and tag == "a":
                self.links.add(value.removeprefix("#"))
            elif value and not value.startswith(("#", "data:")):
                self.outward.append(value)
        if tag not in self.VOID:
            self._open.append(tag)
        self._heading = tag == "h2"

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag
        self._heading = False

    def handle_data(self, data):
        if self._heading:
            self.headings.append(data)


@pytest.mark.parametrize(
    ("name", "sections"), [("evaluation", EVALUATION_SECTIONS), ("readers", READER_SECTIONS)]
)
def test_a_report_has_every_section_and_refers_to_nothing_outside(reports, name, sections):
    text = (reports / name / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.headings == sections
    assert page.links == page.anchors
    assert page.outward == []
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "Research use only" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the report in")
@pytest.mark.parametrize(
    ("name", "sections"), [("evaluation", EVALUATION_SECTIONS), ("readers", READER_SECTIONS)]
)
def test_a_browser_shows_every_section_with_its_figures(reports, tmp_path, name, sections):
    """The page is copied with a script that reports what the browser laid out, and how wide."""
    text = (reports / name / "report.html").read_text(encoding="utf-8")
    probe = (
        "<script>addEventListener('load', () => { const seen = {"
        "headings: [...document.querySelectorAll('h2')].filter(e => e.offsetHeight > 0)"
        ".map(e => e.textContent),"
        "flat: [...document.querySelectorAll('figure svg')]"
        ".filter(e => e.getBoundingClientRect().height < 100).length,"
        "figures: document.querySelectorAll('figure svg').length,"
        "tooWide: document.documentElement.scrollWidth > innerWidth };"
        "document.body.innerHTML = '<pre>' + JSON.stringify(seen) + '</pre>'; });</script>"
    )
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    seen = json.loads(re.search(r"<pre>(.*)</pre>", done.stdout)[1].replace("&amp;", "&"))
    assert seen["headings"] == sections
    assert seen["figures"] >= 4
    assert seen["flat"] == 0
    assert not seen["tooWide"]


def test_a_tiny_study_without_fractures_or_errors_is_reported_too(table, tmp_path):
    """Three normal hips, all right: nearly everything is undefined, and nothing breaks."""
    names = ["1", "2", "3"]
    labels = table("labels.csv", [label(name) for name in names])
    predictions = table("predictions.csv", [prediction(name) for name in names])
    reads = [read_of(name, reader, phase) for name in names for reader in ("R1", "R2")
             for phase in ("alone", "assisted")]  # fmt: skip
    with load_inputs(labels, predictions, SiteSettings()) as inputs:
        study = match_reads(read_reads(table("reads.csv", reads)), inputs.labels, inputs.cases)
        found = evaluate({"all": inputs.cases}, EvaluationSettings(replicates=100))
        about = {"sources": inputs.files, "pictures": NoPictures()}
        evaluation = write_evaluation(found, tmp_path / "evaluation", **about)
        results = analyse_readers(study, ReaderSettings(replicates=100))
        readers = write_reader_study(results, tmp_path / "readers", **about)
    assert "undefined" in evaluation.read_text(encoding="utf-8")
    assert "agree on every hip" in readers.read_text(encoding="utf-8")


def test_json_holds_the_numbers_of_the_page(reports):
    content = json.loads((reports / "evaluation" / "results.json").read_text(encoding="utf-8"))
    accuracy = content["results"]["internal"]["overall"]["rows"][0]
    assert accuracy["metric"] == "accuracy"
    found = accuracy["of the hips with an answer"]
    assert set(found["intervals"]) == {"wilson", "percentile", "bca"}
    page = (reports / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert f"{100 * found['value']:.1f}" in page


def test_csv_has_a_column_for_each_end_of_each_interval(reports):
    path = reports / "evaluation" / "tables" / "internal-categories.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    low, value, high = (
        float(rows[0][f"sensitivity{end}"]) for end in (" wilson low", "", " wilson high")
    )
    assert low < value < high


def test_the_same_numbers_give_the_same_page(simulated, tmp_path):
    pages = []
    for name in ("one", "two"):
        with load_inputs(
            simulated / "labels.csv", simulated / "predictions.csv", SiteSettings()
        ) as inputs:
            found = evaluate({"all": inputs.cases}, EvaluationSettings(replicates=100))
            path = write_evaluation(
                found, tmp_path / name, sources=inputs.files, pictures=NoPictures()
            )
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def test_what_the_user_wrote_is_escaped():
    table = Table("k", "<b>", ("<i>",), (("<script>alert(1)</script>",),), "a & b")
    found = table_html(table)
    assert "<script>" not in found
    assert "<b>" not in found
    assert "a &amp; b" in found


def test_numbers_are_written_for_people():
    percent = Estimate(0.95614, {"wilson": Interval(0.9212, 0.976)})
    assert cell_html(percent).startswith("95.6\N{NO-BREAK SPACE}%")
    assert "92.1 to 97.6" in cell_html(percent)
    assert "undefined" in cell_html(Estimate(float("nan")))
    assert number(-0.00001, POINTS) == "0.0\N{NO-BREAK SPACE}points"
    assert number(-0.012, PLAIN) == "−0.012"
    assert cell_html(12345) == "12,345"


def test_long_names_of_films_are_cut_but_kept_for_the_pointer():
    sha256, path = "ab" * 32, "/archive/" + "x" * 60 + "/film.dcm"
    assert f'title="{sha256}"' in cell_html(sha256)
    assert ">abab" in cell_html(sha256)
    assert "film.dcm<" in cell_html(path)
    assert cell_html("a remark that is long enough to be cut, were it not made of words") == (
        "a remark that is long enough to be cut, were it not made of words"
    )


def test_the_first_interval_that_is_defined_is_shown():
    estimate = Estimate(0.5, {"wilson": None, "percentile": Interval(0.4, 0.6)})
    assert estimate.shown == Interval(0.4, 0.6)


def test_a_worklist_shows_the_pictures_that_there_are(tmp_path):
    rows = (("dir/a.dcm", "left", "normal", "osteoarthritis", None, None, ""),
            ("b", "right", "normal", "no answer", None, None, ""))  # fmt: skip
    table = Table("disagreements", "t", ("film", "side", "truth", "model", "p", "q", "r"), rows)
    assert "No images" in disagreement_gallery(table, FolderPictures(tmp_path))
    (tmp_path / "a.dcm-left.png").write_bytes(b"a picture")
    found = disagreement_gallery(table, FolderPictures(tmp_path))
    assert base64.b64encode(b"a picture").decode() in found
    assert found.count("<figure>") == 1


def test_each_checklist_numbers_its_items_once():
    for items in CHECKLISTS.values():
        numbers = [number for number, _, _ in items]
        assert len(set(numbers)) == len(numbers)
    assert {name: len(items) for name, items in CHECKLISTS.items()} == {
        "STARD 2015": 34,
        "TRIPOD+AI 2024": 52,
        "CLAIM 2020": 42,
    }


@pytest.mark.parametrize(
    ("name", "sections"),
    [("evaluation.html", EVALUATION_SECTIONS), ("reader-study.html", READER_SECTIONS)],
)
def test_the_documented_examples_have_every_section(name, sections):
    headings = Page((EXAMPLES / name).read_text(encoding="utf-8")).headings
    assert [heading for heading in headings if not heading.startswith("Operating")] == sections


PERCENTAGE = Estimate(0.5, {"wilson": Interval(0.4, 0.6), "bca": None}, 20)
UNDEFINED = Estimate(float("nan"), {"percentile": None}, 0)
RESULTS = Table(
    "k",
    "t",
    ("name", "x", "n"),
    (("=cmd|' /C calc'!A0", PERCENTAGE, 1234), ("-b", UNDEFINED, None), ("-0.5", None, -3)),
    "note",
)


def test_a_table_as_csv_has_full_precision_and_no_formulas(tmp_path):
    write_tables(tmp_path / "tables", {"Data set 1": [RESULTS]})
    with (tmp_path / "tables" / "data-set-1-k.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["name", "x", "x wilson low", "x wilson high", "x bca low", "x bca high",
             "x percentile low", "x percentile high", "n"],
            ["'=cmd|' /C calc'!A0", "0.5", "0.4", "0.6", "", "", "", "", "1234"],
            ["'-b", "undefined", "", "", "", "", "", "", ""],
            ["-0.5", "", "", "", "", "", "", "", "-3"],
        ]  # fmt: skip


def test_a_table_as_json_has_every_interval_and_null_for_what_is_undefined(tmp_path):
    write_json(tmp_path / "results.json", {"seed": 3}, {"all": [RESULTS]})
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["seed"] == 3
    table = content["results"]["all"]["k"]
    assert (table["title"], table["note"]) == ("t", "note")
    assert table["rows"][0] == {
        "name": "=cmd|' /C calc'!A0",
        "x": {"value": 0.5, "n": 20, "intervals": {"wilson": [0.4, 0.6], "bca": None}},
        "n": 1234,
    }
    assert table["rows"][1]["x"] == {"value": None, "n": 0, "intervals": {"percentile": None}}


def test_a_name_becomes_a_file_name():
    assert slug("Hospital 3: Zürich/West") == "hospital-3-z-rich-west"
    assert slug("…") == "data"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "\N{NO-BREAK SPACE}%", "12.3\N{NO-BREAK SPACE}%"),
        (-0.1, POINTS, "−10.0\N{NO-BREAK SPACE}points"),
        (12.34567, PLAIN, "12.346"),
        (-0.0004, PLAIN, "0.000"),
        (float("inf"), PLAIN, "undefined"),
    ],
)
def test_a_number_has_the_digits_and_the_minus_of_print(value, unit, text):
    assert number(value, unit) == text


def test_an_estimate_in_a_sentence_has_its_interval_and_its_denominator():
    space = "\N{NO-BREAK SPACE}"
    assert sentence(PERCENTAGE) == f"50.0{space}% (95 % CI 40.0 to 60.0{space}%; n = 20)"
    assert sentence(Estimate(0.5, {}, 1200)) == f"50.0{space}% (n = 1,200)"
    assert sentence(Estimate(0.5, {}, unit=PLAIN)) == "0.500"
    assert sentence(UNDEFINED) == "undefined"


def test_a_long_table_shows_its_first_rows_and_says_how_many_are_left():
    table = Table("k", "t", ("a",), tuple((str(i),) for i in range(1003)), "Remark.")
    found = table_html(table, max_rows=2)
    assert found.count("<tr>") == 3
    assert "Remark. 1,001 more rows are in the CSV file." in found
    assert "more rows" not in table_html(table)
    assert "more rows" not in table_html(table, max_rows=1003)


def test_columns_of_words_are_set_to_the_left_and_columns_of_numbers_are_not():
    rows = (("Bern", "< 0.0001", "3 of 4", None), ("", "undefined", "12 of 20", 5))
    found = table_html(Table("k", "t", ("site", "p", "events", "n"), rows))
    assert re.findall(r'<th( class="words")?>(\w+)', found) == [
        (' class="words"', "site"), ("", "p"), ("", "events"), ("", "n"),
    ]  # fmt: skip
    assert '<td class="words">Bern</td><td>&lt; 0.0001</td><td>3 of 4</td><td></td>' in found


def test_only_names_that_are_too_long_for_a_cell_are_cut():
    assert "title" not in cell_html("a" * 44)
    assert cell_html("a" * 45) == f'<span title="{"a" * 45}">{"a" * 22}…</span>'
    assert cell_html("/" + "b" * 50) == f'<span title="/{"b" * 50}">…{"b" * 44}</span>'
    assert cell_html("c:\\" + "d" * 50).endswith(f'">…{"d" * 44}</span>')


def test_a_gallery_shows_at_most_two_dozen_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"any side")
    rows = tuple(("a", "left", "normal", "osteoarthritis", None, None, "") for _ in range(30))
    table = Table("disagreements", "t", ("film", "side", "truth", "model", "p", "q", "r"), rows)
    found = disagreement_gallery(table, FolderPictures(tmp_path))
    assert found.count("<figure>") == 24
    assert "a, left: osteoarthritis, in truth normal" in found
    assert "agree on every hip" in disagreement_gallery(
        Table("disagreements", "t", table.columns, ()), NoPictures()
    )


def test_a_checklist_counts_what_the_data_answer():
    found = checklists_html({"flow": "See 'Cases'.", "limits": "<b>", "software": ""})
    assert "2 of 34 items are filled in" in found
    assert "&lt;b&gt;" in found
    assert found.count("See &#39;Cases&#39;.") == 5
    assert found.count("to be filled in") == 34 + 52 + 42 - 8
