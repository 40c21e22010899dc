"""The complete report of a study: an HTML page, and the same numbers as JSON and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hipedge import __version__
from hipedge.errors import InputError
from hipedge.study.estimates import Table
from hipedge.study.report.export import write_json, write_tables
from hipedge.study.report.html import Section, page_html

REPORT, NUMBERS, TABLES = "report.html", "results.json", "tables"
RESEARCH_ONLY = (
    "Research use only: not a medical device. The results apply to cases like those labelled here, "
    "and to the model, thresholds and software that made these predictions."
)


@dataclass(frozen=True)
class Provenance:
    """The settings of the bootstrap, and the SHA-256 of each input file by name."""

    replicates: int
    seed: int
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Document:
    """A report: title, lead and sections, and its tables by what they describe."""

    title: str
    lead: str
    sections: Sequence[Section]
    tables: Mapping[str, Sequence[Table]]
    provenance: Provenance

    def write(self, folder: Path) -> Path:
        """Write report.html, results.json and tables/ into a folder; return the report's path.

        Raises `InputError` if a file cannot be written.
        """
        made, report = self.provenance, folder / REPORT
        about = {
            "hipedge": __version__,
            "title": self.title,
            "replicates": made.replicates,
            "seed": made.seed,
            "sources": dict(made.sources),
        }
        page = page_html(self.title, self.lead, self.sections, version=__version__, provenance=made)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / NUMBERS, about, self.tables)
            write_tables(folder / TABLES, self.tables)
            report.write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error.strerror}") from error
        return report
