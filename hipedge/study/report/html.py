"""Rendering to HTML: the macros of `templates/blocks.html.jinja` as functions, and the page.

The functions return `Markup`; anything else that reaches a template is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hipedge.study.estimates import PLAIN, Cell, Estimate, Table

_MAX_NAME_LENGTH = 44


@dataclass(frozen=True)
class Section:
    """A section of the report: its anchor, heading and content."""

    key: str
    title: str
    content: Markup


def number(value: float, unit: str) -> str:
    """Format a proportion as a percentage or in points, and any other value with three digits."""
    if not isfinite(value):
        return "undefined"
    text = f"{value:.3f}" if unit == PLAIN else f"{100 * value:.1f}"
    is_zero = not text.strip("-0.")
    return (text.lstrip("-") if is_zero else text.replace("-", "−")) + unit


def interval_text(estimate: Estimate) -> str:
    """Format the interval that tables show, without its unit; "" if there is none."""
    interval = estimate.shown
    if interval is None:
        return ""
    low, high = (
        number(end, estimate.unit).removesuffix(estimate.unit)
        for end in (interval.low, interval.high)
    )
    return f"{low} to {high}"


def sentence(estimate: Estimate) -> str:
    """Format an estimate for a manuscript: value, interval and denominator."""
    if not estimate.defined:
        return "undefined"
    interval = interval_text(estimate)
    parts = [f"95 % CI {interval}{estimate.unit}"] if interval else []
    if estimate.n is not None:
        parts.append(f"n = {estimate.n:,}")
    within = f" ({'; '.join(parts)})" if parts else ""
    return number(estimate.value, estimate.unit) + within


def _shortened(text: str) -> str:
    """Shorten a long film name: keep the start of a hash or UID, or the end of a path."""
    if len(text) <= _MAX_NAME_LENGTH or " " in text:
        return text
    if "/" in text or "\\" in text:
        return "…" + text[-_MAX_NAME_LENGTH:]
    return text[: _MAX_NAME_LENGTH // 2] + "…"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hipedge.study.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "number": number,
        "interval": interval_text,
        "shortened": _shortened,
    }
    environment.tests["estimate"] = lambda value: isinstance(value, Estimate)
    return environment


_ENVIRONMENT = _environment()
_BLOCKS: Any = _ENVIRONMENT.get_template("blocks.html.jinja").module


def page_html(title: str, lead: str, sections: Sequence[Section], **footer: object) -> str:
    """Render the whole page, styles included; it refers to nothing outside itself.

    `footer` holds the `version` and the `provenance` that the page ends with.
    """
    template = _ENVIRONMENT.get_template("page.html.jinja")
    return template.render(title=title, lead=lead, sections=sections, **footer) + "\n"


def join(parts: Iterable[Markup]) -> Markup:
    """Concatenate rendered parts."""
    return Markup("").join(parts)


def table_html(table: Table, *, max_rows: int | None = None) -> Markup:
    """Render a table; beyond `max_rows`, state how many more rows the CSV file has."""
    rows = table.rows if max_rows is None else table.rows[:max_rows]
    is_text = [_is_text([row[i] for row in table.rows]) for i in range(len(table.columns))]
    omitted = len(table.rows) - len(rows)
    notes = [table.note, f"{omitted:,} more rows are in the CSV file." if omitted else ""]
    note = " ".join(filter(None, notes))
    return Markup(_BLOCKS.table(table.title, table.columns, is_text, rows, note))


def cell_html(cell: Cell) -> Markup:
    """Render a cell: an estimate with its interval beneath, a number, or text."""
    return Markup(_BLOCKS.cell(cell))


def figure_html(svg: str, caption: str) -> Markup:
    """Render an SVG figure with its caption, which also describes it to screen readers."""
    attributes = f'<svg role="img" aria-label="{escape(caption)}" '
    return Markup(_BLOCKS.figure(Markup(svg.replace("<svg ", attributes, 1)), caption))


def details_html(summary: str, content: Markup) -> Markup:
    """Render content that is collapsed on screen, and printed in full."""
    return Markup(_BLOCKS.details(summary, content))


def bullets_html(sentences: Sequence[str]) -> Markup:
    """Render sentences as a list."""
    return Markup(_BLOCKS.bullets(sentences))


def heading_html(text: str) -> Markup:
    """Render a heading within a section."""
    return Markup(_BLOCKS.heading(text))


def note_html(text: str) -> Markup:
    """Render a remark."""
    return Markup(_BLOCKS.paragraph(text, "note"))


def side_by_side_html(parts: Iterable[Markup]) -> Markup:
    """Render figures beside each other as far as the page is wide enough."""
    return Markup(_BLOCKS.side_by_side(join(parts)))


def cards_html(items: Sequence[tuple[str, Estimate]]) -> Markup:
    """Render headline figures, each with its name and interval."""
    return Markup(_BLOCKS.cards(items))


def banner_html(note: str, warning: str) -> Markup:
    """Render the first lines of the report: the user's note, and a warning."""
    return Markup(_BLOCKS.banner(note, warning))


def gallery_html(pictures: Sequence[tuple[str, str]]) -> Markup:
    """Render pictures, given as (caption, PNG in base64)."""
    return Markup(_BLOCKS.gallery(pictures))


def checklist_html(
    name: str, items: Sequence[tuple[str, str, str]], answers: Mapping[str, str]
) -> Markup:
    """Render a checklist of (number, text, topic); `answers` are the data's, by topic."""
    answered = sum(bool(answers.get(topic)) for _, _, topic in items)
    return Markup(_BLOCKS.checklist(name, items, answers, answered))


def _is_text(cells: Sequence[Cell]) -> bool:
    """Whether a column holds text, which is aligned to the left."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell]
    return bool(texts) and not all(text[0].isdigit() or text[0] in "<∞−u" for text in texts)
