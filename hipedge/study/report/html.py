"""From tables to HTML: a few functions that escape what they are given, and one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from math import isfinite

from hipedge.study.estimates import PLAIN, Cell, Estimate, Table

_LONGEST = 44


@dataclass(frozen=True)
class Section:
    """A part of the report: its anchor, its heading, and its content as HTML."""

    key: str
    title: str
    content: str


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """Return the whole document, style included; it refers to nothing outside itself."""
    style = (files("hipedge.study.report") / "style.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{s.key}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{s.key}"><h2>{escape(s.title)}</h2>{s.content}</section>' for s in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<div class="page"><nav aria-label="Sections"><ol>{links}</ol></nav>\n<main>'
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>\n'
        f'{body}\n<footer class="quiet">{footer}</footer></main></div>\n</body>\n</html>\n'
    )


def table_html(table: Table, *, most_rows: int | None = None, style: str = "") -> str:
    """Return a table; beyond `most_rows` it says how many more the CSV file has."""
    rows = table.rows if most_rows is None else table.rows[:most_rows]
    words = [_are_words([row[i] for row in table.rows]) for i in range(len(table.columns))]
    head = "".join(
        f"<th{_words_class(is_words)}>{escape(name)}</th>"
        for name, is_words in zip(table.columns, words, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_words_class(is_words)}>{cell_html(cell)}</td>"
            for cell, is_words in zip(row, words, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    left = len(table.rows) - len(rows)
    notes = [table.note] if table.note else []
    if left > 0:
        notes.append(f"{left:,} more rows are in the CSV file.")
    note = f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""
    return (
        f'<div class="scroll"><table{f" class={style}" if style else ""}>'
        f"<caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def figure_html(svg: str, caption: str) -> str:
    """Return a figure with its caption, which is its description for screen readers too."""
    labelled = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
    return f"<figure>{labelled}<figcaption>{escape(caption)}</figcaption></figure>"


def folded(summary: str, content: str) -> str:
    """Return content that is folded away until asked for."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def bullets(sentences: Sequence[str]) -> str:
    """Return sentences as a list."""
    return '<ul class="plain">' + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def cards(items: Sequence[tuple[str, Estimate]]) -> str:
    """Return the headline figures."""
    return (
        '<div class="figures">'
        + "".join(
            f'<div class="figure-card"><b>{escape(number(estimate.value, estimate.unit))}</b>'
            f"<span>{escape(name)}</span><span>{escape(interval_text(estimate))}</span></div>"
            for name, estimate in items
        )
        + "</div>"
    )


def cell_html(cell: Cell) -> str:
    """Return a cell: an estimate with its interval beneath, a number, or words."""
    if cell is None:
        return ""
    if isinstance(cell, Estimate):
        if not cell.defined:
            return '<span class="undefined">undefined</span>'
        interval = interval_text(cell)
        below = f'<span class="interval">{interval}</span>' if interval else ""
        return number(cell.value, cell.unit) + below
    if isinstance(cell, int):
        return f"{cell:,}"
    return _short(str(cell))


def _short(text: str) -> str:
    """Return words; of a film's long name, the start of a hash or UID, or the end of a path."""
    if len(text) <= _LONGEST or " " in text:
        return escape(text)
    kept = "…" + text[-_LONGEST:] if "/" in text or "\\" in text else text[: _LONGEST // 2] + "…"
    return f'<span title="{escape(text)}">{escape(kept)}</span>'


def number(value: float, unit: str) -> str:
    """Write a proportion in per cent or points, or another figure with three digits."""
    if not isfinite(value):
        return "undefined"
    text = f"{value:.3f}" if unit == PLAIN else f"{100 * value:.1f}"
    is_zero = not text.strip("-0.")
    return (text.lstrip("-") if is_zero else text.replace("-", "−")) + unit


def interval_text(estimate: Estimate) -> str:
    """Write the interval that tables show, without its unit; nothing where there is none."""
    interval = estimate.shown
    if interval is None:
        return ""
    low, high = (
        number(end, estimate.unit).removesuffix(estimate.unit)
        for end in (interval.low, interval.high)
    )
    return f"{low} to {high}"


def sentence(estimate: Estimate) -> str:
    """Write an estimate as a manuscript does: value, interval, denominator."""
    if not estimate.defined:
        return "undefined"
    interval = interval_text(estimate)
    parts = [f"95 % CI {interval}{estimate.unit}"] if interval else []
    if estimate.n is not None:
        parts.append(f"n = {estimate.n:,}")
    within = f" ({'; '.join(parts)})" if parts else ""
    return number(estimate.value, estimate.unit) + within


def _are_words(cells: Sequence[Cell]) -> bool:
    """Say whether a column holds words, which are set to the left."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell]
    return bool(texts) and not all(text[0].isdigit() or text[0] in "<∞−u" for text in texts)


def _words_class(is_words: bool) -> str:
    return ' class="words"' if is_words else ""
