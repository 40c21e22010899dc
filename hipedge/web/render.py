"""Rendering of the pages: templates that escape everything, and the words that they use."""

from __future__ import annotations

from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

import hipedge
from hipedge.errors import CODES, Code
from hipedge.store.connection import utc_moment, utc_now
from hipedge.store.feedback import Verdict
from hipedge.store.studies import Phase
from hipedge.text import printable
from hipedge.types import CATEGORIES, Finding, Mark
from hipedge.web.charts import duration

MARKS = {
    Mark.CONFLICT: "another film under the same UID",
    Mark.DAMAGED_PIXELS: "damaged pixels",
    Mark.HEADER_DISAGREES: "header and pixels disagree",
    Mark.HIPS_MAY_BE_MISSING: "hips may be missing",
    Mark.MORE_PICTURES: "the file has more pictures",
    Mark.ONE_HIP_FOUND: "one hip found",
    Mark.OUTSIDE_POPULATION: "age outside the model's population",
    Mark.POLARITY_DOUBTFUL: "may be inverted",
    Mark.POLYGLOT: "file of two formats",
    Mark.SIDE_UNCLEAR: "side unclear",
    Mark.SPACING_DOUBTFUL: "spacing doubtful",
    Mark.TURNED_90: "turned by 90°",
    Mark.TURNED_180: "turned by 180°",
    Mark.TURNED_270: "turned by 270°",
    Mark.WINDOW_UNUSABLE: "window in header unusable",
}
VERDICTS = {
    Verdict.RIGHT: "right",
    Verdict.WRONG: "wrong",
    Verdict.NOT_JUDGED: "not judged",
    Verdict.IMAGE_UNFIT: "image unfit",
    Verdict.WRONG_SIDE: "wrong side",
    Verdict.HIP_MISSED: "hip missed",
}

PHASES = {
    Phase.TRAINING: "training",
    Phase.ALONE: "alone",
    Phase.ASSISTED: "with hipedge",
}


def words(name: str) -> str:
    """Return a name from the code as words."""
    return name.replace("_", " ")


def local_time(text: str) -> str:
    """Return a time of the database (UTC, ISO 8601) in the server's time zone, to the minute."""
    return local_moment(utc_moment(text))


def local_moment(moment: datetime) -> str:
    """Return a time in the server's time zone, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def age(text: str) -> str:
    """Return how long ago a time of the database was, in one unit."""
    moment = utc_moment(text)
    minutes = int((utc_now() - moment).total_seconds() // 60)
    if minutes < 60:
        return f"{max(0, minutes)} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"


def _meaning(code: Code) -> str:
    return CODES[code].meaning


def _probability(finding: Finding) -> float:
    """Return the probability of the category that was found."""
    return finding.probabilities[CATEGORIES.index(finding.category)]


_ENVIRONMENT = Environment(
    loader=PackageLoader("hipedge.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "words": words,
    "printable": printable,
    "local_time": local_time,
    "local_moment": local_moment,
    "phase": PHASES.__getitem__,
    "age": age,
    "duration": duration,
    "meaning": _meaning,
    "mark": MARKS.__getitem__,
    "verdict": VERDICTS.__getitem__,
    "probability": _probability,
}
_ENVIRONMENT.globals["version"] = hipedge.__version__


def page(template: str, status: int = 200, **values: object) -> HTMLResponse:
    """Render a template as a response."""
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(**values), status)
