r"""Write the table of docs/safety.md from the report of a test run.

pytest tests/watch tests/network tests/results tests/dicom/test_dicom_damage.py \
    tests/pipeline/test_screen.py -m 'slow or not slow' --junitxml promises.xml
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
    1: "However often the service is killed and restarted, every file gets exactly one outcome.",
    2: "A file that grows, stalls, is completed later or is cut off is never screened in part.",
    3: "A file rewritten in place, with the same size and mtime, is recognised as new content.",
    4: "Ten thousand files at once all get an outcome, in bounded memory, with the watchdog fed; "
    "without file events the scan finds them all.",
    5: "A mount that disappears raises an alarm and gives no result; clocks may jump.",
    6: "A film that makes its process crash, hang, panic or run out of memory is quarantined; the "
    "next film is not affected.",
    7: "Decompression bombs are refused, within the memory limit of the worker.",
    8: "Malformed files and mutations of a real film get one outcome each, without a restart.",
    9: "A full disk or a locked database pauses the service with an alarm; with a database that it "
    "cannot use it refuses to start, and says why.",
    10: "A lost backend gives no result, and each hip is scored exactly once.",
    11: "Text from a file never becomes a path, a command, a log line, a label or part of a "
    "message.",
    12: "A film that is also an executable is marked, and never passed on.",
    13: "An outage delays notifications and loses none; the most urgent go first, and each takes "
    "effect once.",
    14: "One UID with two images is a conflict, and both are screened; one file under two names "
    "gives one result.",
    15: "A backup under load is consistent; pruning removes nothing that is not finished.",
    16: "The systemd units verify, and expose little.",
    17: "Nothing leaves the machine but the notifications and results that the site has set up: no "
    "telemetry, no name look-up, no connection, and no file outside the documented folders.",
    18: "A frame whose pixels are wrong is refused or marked, at the rate measured below; a sound "
    "one is neither.",
    19: "A film that `hipedge receive` has acknowledged is complete on the disk, and is screened "
    "and reported once, wherever the services are killed.",
    20: "No peer makes `hipedge receive` take memory, write outside its folder or end; it harms no "
    "association but its own.",
    21: "A result reaches PACS and takes effect once: no outage, refusal, lost answer or crash "
    "loses or repeats it, and the most urgent go first.",
    22: "No result of hipedge is ever screened, and no film is changed.",
}


def render(report: Path) -> str:
    """Return the table for a test report in JUnit's XML format."""
    tests: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.attrib["classname"].split(".")[-1] + ".py"
        spoken = case.attrib["name"].split("[")[0].removeprefix("test_").replace("_", " ")
        name = f"`{file}`: {spoken}"
        for marker in case.iter("property"):
            if marker.attrib["name"] == "promise":
                tests[int(marker.attrib["value"])][name].append(_verdict(case))
    rows = ["| | promise | tests, in the last full run |", "|---|---|---|"]
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
    return ", ".join(f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(verdicts))


if __name__ == "__main__":
    text = TARGET.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    TARGET.write_text(before + BEGIN + render(Path(sys.argv[1])) + END + after, encoding="utf-8")
