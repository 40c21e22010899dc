"""A study's report as a whole: the page, and the same numbers beside it as JSON and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hipedge import __version__
from hipedge.errors import InputError
from hipedge.study.estimates import Table
from hipedge.study.report.export import write_json, write_tables
from hipedge.study.report.html import Section, page

REPORT, NUMBERS, TABLES = "report.html", "results.json", "tables"
RESEARCH_ONLY = (
    "Research use only: not a medical device. The figures hold for cases like those labelled here, "
    "and for the model, thresholds and software that made these predictions."
)


@dataclass(frozen=True)
class Provenance:
    """What made the numbers: the bootstrap, and the input files with their SHA-256."""

    replicates: int
    seed: int
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Document:
    """A report's title, lead and sections, and all its tables by what they describe."""

    title: str
    lead: str
    sections: Sequence[Section]
    tables: Mapping[str, Sequence[Table]]
    provenance: Provenance

    def write(self, folder: Path) -> Path:
        """Write report.html, results.json and tables/ into a folder; return the report's path.

        Raises `InputError` where it cannot be written.
        """
        made, report = self.provenance, folder / REPORT
        about = {
            "hipedge": __version__,
            "title": self.title,
            "replicates": made.replicates,
            "seed": made.seed,
            "sources": dict(made.sources),
        }
        text = page(self.title, self.lead, self.sections, _footer(made))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / NUMBERS, about, self.tables)
            write_tables(folder / TABLES, self.tables)
            report.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error.strerror}") from error
        return report


def banner(note: str) -> str:
    """Return what must be read first: the user's note, and that this is for research only."""
    first = f"<b>{escape(note)}</b> " if note else ""
    return f'<div class="banner">{first}{escape(RESEARCH_ONLY)}</div>'


def _footer(made: Provenance) -> str:
    """Return the report's last lines: what made it, and from which files."""
    files = "".join(
        f"<br>{escape(name)}: SHA-256 {escape(digest)}" for name, digest in made.sources.items()
    )
    return (
        f"Made by hipedge {__version__} with {made.replicates:,} bootstrap replicates, seed "
        f"{made.seed}. All intervals are 95 %.{files}"
    )
