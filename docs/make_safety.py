r"""Write the table of docs/safety.md from a test run.

pytest tests/watch tests/dicom/test_dicom_damage.py tests/test_screen.py \
    -m 'slow or not slow' --junitxml promises.xml
python docs/make_safety.py promises.xml
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

TARGET = Path(__file__).with_name("safety.md")
BEGIN, END = "<!-- promises -->\n", "<!-- end of promises -->\n"

PROMISES = {
    1: "Killed at any point and started again, every file comes to exactly one end.",
    2: "A file that grows, stalls, is finished or cut off is never screened half.",
    3: "A file rewritten in place, with the same size and mtime, is seen to be another one.",
    4: "Ten thousand files at once all come to an end, in bounded memory, the watchdog fed; "
    "without events the scan finds all.",
    5: "A mount that goes is an alarm and gives no result; clocks may jump.",
    6: "A film on which its process crashes, hangs, panics or runs out of memory is quarantined; "
    "the next one is fine.",
    7: "Bombs are refused, within the worker's memory.",
    8: "Malformed files, and mutations of a real one, come to one end each without a restart.",
    9: "A full disk or a locked database is a pause and an alarm; one that cannot serve is a clear "
    "refusal to start.",
    10: "A lost backend gives no result, and each hip gets exactly one.",
    11: "Nothing out of a file is ever a path, a command, a log line, a label or in a message.",
    12: "A film that is an executable too is marked, and never passed on.",
    13: "An outage delays notifications and loses none, the most urgent first, once in effect.",
    14: "One UID with two images is a conflict, both screened; one file under two names is one "
    "result.",
    15: "A backup under load is whole; pruning removes nothing that is not finished.",
    16: "The systemd units verify, and expose little.",
    17: "A frame whose pixels are wrong is refused or marked, at the rate measured below; a sound "
    "one is neither.",
}


def render(report: Path) -> str:
    """Return the table for a run's report in JUnit's format."""
    tests: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.attrib["classname"].split(".")[-1] + ".py"
        spoken = case.attrib["name"].split("[")[0].removeprefix("test_").replace("_", " ")
        name = f"`{file}`: {spoken}"
        for one in case.iter("property"):
            if one.attrib["name"] == "promise":
                tests[int(one.attrib["value"])][name].append(_verdict(case))
    rows = ["| | promise | shown by, in the last full run |", "|---|---|---|"]
    for number, promise in PROMISES.items():
        shown = [f"{name} ({_counted(verdicts)})" for name, verdicts in tests[number].items()]
        rows.append(f"| {number} | {promise} | {'<br>'.join(shown)} |")
    return "\n".join(rows) + "\n"


def _verdict(case: ElementTree.Element) -> str:
    for verdict in ("failure", "error", "skipped"):
        if case.find(verdict) is not None:
            return verdict
    return "passed"


def _counted(verdicts: list[str]) -> str:
    return ", ".join(f"{verdicts.count(one)} {one}" for one in dict.fromkeys(verdicts))


if __name__ == "__main__":
    text = TARGET.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    TARGET.write_text(before + BEGIN + render(Path(sys.argv[1])) + END + after, encoding="utf-8")
