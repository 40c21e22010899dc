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
from hipedge.study.report.checklist import CHECKLISTS
from hipedge.study.report.evaluation import write_evaluation
from hipedge.study.report.html import cell_html, number, table_html
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
