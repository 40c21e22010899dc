"""The results of a case, as DICOM objects that can be sent."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from hipedge.config import Settings
from hipedge.errors import State
from hipedge.results.attributes import finish
from hipedge.results.codes import Codes, load_codes
from hipedge.results.key_objects import key_objects
from hipedge.results.kinds import Kind
from hipedge.results.presentation_state import presentation_state
from hipedge.results.secondary_capture import secondary_capture
from hipedge.results.source import Source
from hipedge.results.structured_report import structured_report
from hipedge.store.rows import Case
from hipedge.types import Priority


@dataclass(frozen=True)
class Builder:
    """Builds the kinds of results that a site wants."""

    kinds: tuple[Kind, ...]
    heat_maps: bool
    codes: Codes

    @classmethod
    def of(cls, settings: Settings) -> Builder:
        """Return the builder of a site's settings. Raises `ConfigError` for its table of codes."""
        kinds = tuple(Kind(name) for name in settings.results)
        return cls(kinds, settings.results_heat_maps, load_codes(settings.results_codes))

    def kinds_for(self, case: Case) -> tuple[Kind, ...]:
        """Return the kinds of results that a case has, in the order in which they are sent.

        A film that was not read has a report alone; key objects are urgent films.
        """
        if case.state is not State.SCREENED:
            return tuple(kind for kind in self.kinds if kind is Kind.STRUCTURED_REPORT)
        left_out = () if is_urgent(case) else (Kind.KEY_OBJECTS,)
        return tuple(kind for kind in Kind if kind in self.kinds and kind not in left_out)

    def build(self, kind: Kind, sop_class: str, case: Case, source: Source) -> Dataset:
        """Return one result; `sop_class` is one of `kind.classes`.

        Call it within `tolerant`. Raises `InputError` where the film can no longer be read.
        """
        if kind is Kind.SECONDARY_CAPTURE:
            result = secondary_capture(case, source, heat_maps=self.heat_maps)
        elif kind is Kind.STRUCTURED_REPORT:
            result = structured_report(case, source, self.codes, sop_class)
        elif kind is Kind.PRESENTATION_STATE:
            result = presentation_state(case, source)
        else:
            result = key_objects(case, source)
        return finish(result, kind, case, source)


def file_bytes(result: Dataset) -> bytes:
    """Return a result as a DICOM file (PS3.10)."""
    with BytesIO() as file:
        dcmwrite(file, result, enforce_file_format=True)
        return file.getvalue()


def is_urgent(case: Case) -> bool:
    """Return whether a hip of a case is flagged as urgent."""
    return any(f.flagged and f.priority is Priority.URGENT for f in case.findings)
