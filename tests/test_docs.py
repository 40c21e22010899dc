"""What the documents show is what happens."""

import dataclasses
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import hipedge

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name):
    """The code block of the README that follows the comment with this name."""
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)[1]


def in_shell(script, folder):
    script = f'hipedge() {{ "{sys.executable}" -m hipedge "$@"; }}\n{script}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def clinic(tmp_path_factory, shared_data):
    """A clinic that has followed the README, with some of the real films in ./incoming."""
    folder = tmp_path_factory.mktemp("clinic")
    incoming = folder / "incoming"
    incoming.mkdir()
    for name in ("wg04/RG2_RLE.dcm", "wg04/RG1_J2KI_chest.dcm", "radoss_ddh/331_DDH_1.dcm"):
        (incoming / Path(name).name).symlink_to((shared_data / name).resolve())
    command = block("run")
    assert command.startswith("pip install")
    done = in_shell(command.split("&&", 1)[1], folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.timeout(300)
def test_the_first_command_screens_and_prints_what_the_readme_shows(clinic):
    _, done = clinic
    shown = block("output: screen")
    assert done.stdout.splitlines()[0].strip() == shown.splitlines()[0].strip() == "Summary"
    for line in ("screened", "flagged, urgent", "wrong_body_part"):
        assert line in shown
        assert line in done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("line", block("look").strip().splitlines())
def test_each_command_to_look_with_runs(clinic, line):
    folder, _ = clinic
    done = in_shell(line.split("#")[0].strip(), folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_test_command_is_the_one_that_ci_runs():
    assert "pytest" in block("test")
    assert "<!-- test -->" in (ROOT / ".ci/run").read_text()


def test_the_settings_of_the_readme_are_valid(tmp_path):
    from hipedge.config import load_settings

    file = tmp_path / "hipedge.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1])
    settings = load_settings({}, file, {})
    assert settings.operating_point == "sensitive"
    assert len(settings.thresholds) == 1


def test_the_page_of_settings_has_each_setting_with_its_default(tmp_path):
    from hipedge.config import Settings, load_settings

    page = (ROOT / "docs/settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (?:–|`(.+?)`) \| ", page, re.MULTILINE)
    names = {field.name for field in dataclasses.fields(Settings)} - {"calibration"}
    assert sorted(name for name, _ in rows) == sorted(names)
    without = {name for name in names if getattr(Settings(), name) in (None, {}, ())}
    assert {name for name, default in rows if not default} == without
    environment = {f"HIPEDGE_{name.upper()}": default for name, default in rows if default}
    (tmp_path / "empty.toml").touch()
    assert load_settings({}, tmp_path / "empty.toml", environment) == Settings()


def test_the_page_of_commands_is_what_the_commands_say():
    page = runpy.run_path(str(ROOT / "docs/make_cli.py"))
    written = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert written == page["render"](), "out of date: run python docs/make_cli.py"


PAGES = [
    page.relative_to(ROOT).as_posix() for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_documents_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    missing = [path for path in targets if not ((ROOT / page).parent / path).exists()]
    assert missing == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation site, built so that a link to no page or heading fails."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(300)
def test_every_document_is_a_page_of_the_site_and_every_name_is_in_its_reference(site):
    names = {Path(page).stem.lower() for page in PAGES} - {"readme"}
    assert {page.parent.name for page in site.glob("*/index.html")} >= names | {"reference"}
    assert "flagged hips in SQLite" in (site / "index.html").read_text("utf-8")
    reference = (site / "reference/index.html").read_text("utf-8")
    for name in hipedge.__all__:
        assert re.search(rf'id="hipedge\.[\w.]*\b{name}"', reference), name


class Resources(HTMLParser):
    """Collects what a browser would load for a page, but not what a reader may click on."""

    def __init__(self):
        super().__init__()
        self.loaded = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in ("a", "form"):
            self.loaded += [values[name] for name in ("src", "href", "srcset") if name in values]


@pytest.mark.timeout(300)
def test_a_page_of_the_site_loads_nothing_from_another_host(site):
    resources = Resources()
    for page in site.rglob("*.html"):
        resources.feed(page.read_text("utf-8"))
    assert len(resources.loaded) > 100
    styles = "".join(style.read_text("utf-8") for style in site.rglob("*.css"))
    imported = re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", styles)
    assert [url for url in (*resources.loaded, *imported) if re.match("(https?:)?//", url)] == []
