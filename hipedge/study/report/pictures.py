"""Pictures of the hips on which model and reference standard disagree."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from hipedge.study.estimates import Table
from hipedge.study.report.html import gallery_html, note_html
from hipedge.types import Side

_MAX_PICTURES = 24


class Pictures(Protocol):
    """A source of pictures of hips, with heat maps if there are any."""

    def picture(self, film: str, side: Side) -> bytes | None:
        """Return a picture as PNG, or `None` if there is none.

        `film` identifies the film as the labels do: by hash, UID, path or case.
        """


class NoPictures:
    """No pictures: the predictions came without images."""

    def picture(self, film: str, side: Side) -> bytes | None:
        """Return `None`."""
        return None


class FolderPictures:
    """Pictures from a folder: `<film>-<side>.png`, or `<film>.png`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def picture(self, film: str, side: Side) -> bytes | None:
        """Read the file, if it exists. Only the last component of the film's name is used."""
        name = Path(film).name
        for path in (self._folder / f"{name}-{side.value}.png", self._folder / f"{name}.png"):
            if path.is_file():
                return path.read_bytes()
        return None


def disagreement_gallery(disagreements: Table, pictures: Pictures) -> Markup:
    """Render the pictures of the first disagreements, or state that there are none."""
    if not disagreements.rows:
        return note_html("Model and truth agree on every hip.")
    shown: list[tuple[str, str]] = []
    for film, side, truth, answer, *_ in disagreements.rows:
        png = pictures.picture(str(film), Side(side))
        if png is not None:
            caption = f"{film}, {side}: {answer}, in truth {truth}"
            shown.append((caption, b64encode(png).decode("ascii")))
        if len(shown) == _MAX_PICTURES:
            break
    if not shown:
        return note_html("No images: the predictions came without any.")
    return gallery_html(shown)
