"""The kinds of results, and the SOP Classes that hold them."""

from __future__ import annotations

from enum import Enum


class Kind(str, Enum):
    """A kind of result.

    `label` is part of its series' description. `classes` are the SOP Classes (PS3.4 B.5) that can
    hold it, the preferred one first. `dated` are the attributes with the date and the time of its
    content.
    """

    _value_: str
    label: str
    classes: tuple[str, ...]
    dated: tuple[str, str]

    def __new__(  # noqa: D102
        cls,
        value: str,
        label: str = "",
        classes: tuple[str, ...] = (),
        dated: tuple[str, str] = ("ContentDate", "ContentTime"),
    ) -> Kind:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.label = label
        kind.classes = classes
        kind.dated = dated
        return kind

    SECONDARY_CAPTURE = (
        "sc",
        "picture",
        ("1.2.840.10008.5.1.4.1.1.7",),
        ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
    )
    # Comprehensive 3D SR, and Comprehensive SR for those who do not take it.
    STRUCTURED_REPORT = (
        "sr",
        "report",
        ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33"),
    )
    # Grayscale Softcopy Presentation State
    PRESENTATION_STATE = (
        "gsps",
        "overlay",
        ("1.2.840.10008.5.1.4.1.1.11.1",),
        ("PresentationCreationDate", "PresentationCreationTime"),
    )
    # Key Object Selection Document
    KEY_OBJECTS = "kos", "urgent films", ("1.2.840.10008.5.1.4.1.1.88.59",)
