"""docs/safety.md names every promise, and each has a test."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/safety.md"
TESTS = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
PROMISES = runpy.run_path(str(ROOT / "docs/make_safety.py"))["PROMISES"]


@pytest.mark.parametrize("number", PROMISES)
def test_each_promise_is_on_the_page_and_has_a_test_that_passed(number):
    assert any(f"@pytest.mark.promise({number})" in text for text in TESTS)
    (row,) = re.findall(rf"^\| {number} \| .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert PROMISES[number] in row
    assert "passed" in row
    assert not re.search(r"failure|error\)|\berror,", row)


def test_each_test_that_the_page_names_is_there():
    names = re.findall(r"`(test_\w+)\.py`: ([\w ]+) \(", PAGE.read_text("utf-8"))
    assert len(names) > 20
    missing = [name for _, name in names if not any(defines(text, name) for text in TESTS)]
    assert missing == []


def defines(text, spoken):
    return f"def test_{spoken.replace(' ', '_')}(" in text
