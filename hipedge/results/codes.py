"""The codes in structured reports: the table that ships, and a site's changes to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from hipedge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = "codes.toml"
# For what has no code elsewhere. Designators of private schemes begin with 99 (PS3.3 8.2).
PRIVATE_SCHEME = "99HIPEDGE"
MAX_MEANING = 64  # Code Meaning (0008,0104) has VR LO, PS3.5 6.2.


class Concept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Code Value, Coding Scheme Designator and Code Meaning (PS3.3 8), and where it is defined."""

    value: str
    scheme: str
    meaning: str
    source: str = ""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a code that DICOM cannot hold."""
        for text, longest in ((self.scheme, 16), (self.meaning, MAX_MEANING), (self.value, 64)):
            if not text or len(text) > longest or "\\" in text:
                raise ValueError(f"{text!r} must have 1 to {longest} characters and no backslash")


@dataclass(frozen=True)
class Codes:
    """Codes by section (`category`, `priority`, …) and name."""

    sections: Mapping[str, Mapping[str, Concept]]

    def __call__(self, section: str, name: str) -> Concept:
        """Return the code of a name in a section."""
        return self.sections[section][name]


def private(name: str, meaning: str) -> Concept:
    """Return a code of hipedge's own scheme; a meaning that is too long is cut."""
    return Concept(name, PRIVATE_SCHEME, meaning[:MAX_MEANING])


def load_codes(site_file: Path | None = None) -> Codes:
    """Return the table that ships, with the entries that a site's file replaces.

    Raises `ConfigError` for a file that cannot be read, an unknown entry or an invalid code.
    """
    shipped = _parse(files("hipedge.results").joinpath(SHIPPED).read_text("utf-8"), SHIPPED)
    if site_file is None:
        return Codes(shipped)
    try:
        own = _parse(site_file.read_text("utf-8-sig"), str(site_file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{site_file} cannot be read: {type(error).__name__}") from error
    for section, concepts in own.items():
        unknown = concepts.keys() - shipped.get(section, {}).keys()
        if unknown:
            raise ConfigError(f"{site_file}: there is no code {section}.{min(unknown)}")
    return Codes({name: {**known, **own.get(name, {})} for name, known in shipped.items()})


def _parse(text: str, source: str) -> dict[str, dict[str, Concept]]:
    try:
        return msgspec.convert(tomllib.loads(text), dict[str, dict[str, Concept]])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{source} is no table of codes: {error}") from error
