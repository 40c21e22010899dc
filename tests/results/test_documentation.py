"""The page on results in PACS says what is so, and its commands run."""

import re
import shlex

from typer.testing import CliRunner

from hipedge.cli import app
from hipedge.config import load_settings
from hipedge.results.codes import load_codes
from hipedge.types import CATEGORIES, Priority
from tests.results.test_send_command import site  # noqa: F401
from tests.test_docs import ROOT

PAGE = (ROOT / "docs/clinic_results.md").read_text("utf-8")


def test_the_table_of_codes_is_the_one_that_ships():
    rows = [
        f"| `{section}.{name}` | {code.value} | {code.scheme} | {code.meaning} | {code.source} |"
        for section, codes in load_codes().sections.items()
        for name, code in codes.items()
    ]
    table = [line for line in PAGE.splitlines() if re.match(r"\| `\w+\.\w+` \|", line)]
    assert table == rows


def test_each_category_has_its_codes_and_each_urgency_too():
    codes = load_codes()
    for category in CATEGORIES:
        assert codes("category", category.value).meaning
        assert len(codes("probability", category.value).value) <= 16
    assert set(codes.sections["priority"]) == {Priority.URGENT.value, Priority.ROUTINE.value}


def test_the_commands_of_the_page_send_what_it_says(site, orthanc):  # noqa: F811
    settings = re.search(r"<!-- results-settings -->\n```toml\n(.*?)```", PAGE, re.DOTALL)[1]
    settings = settings.replace("4242", str(orthanc.dicom_port)).replace("ORTHANC", "PACS")
    (site / "hipedge.toml").write_text(settings)
    assert load_settings({}).pacs_port == orthanc.dicom_port
    commands = re.search(r"<!-- results-commands -->\n```bash\n(.*?)```", PAGE, re.DOTALL)[1]
    sent = []
    for line in commands.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if program == "hipedge":
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
            sent.append(len(orthanc.instances()))
    assert sent == [0, 2, 4]
    assert len(list((site / "results").iterdir())) == 2
