"""docs/security.md: each test that it names exists, and each line has a test or says why not."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text("utf-8")


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert len(named) > 30
    assert named - set(re.findall(r"^ *def (test_\w+)", sources, re.MULTILINE)) == set()


def test_every_requirement_has_a_test_or_says_why_not():
    rows = re.findall(r"^\| ([\d.,– ]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 60
    for numbers, _, shown in rows:
        words = ("`test_", "**not met**", "not applicable", "web.md", "as 3.1.1")
        assert any(word in shown for word in words), numbers
