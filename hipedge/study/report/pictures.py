"""The pictures of a worklist, and where they come from."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Protocol

from hipedge.study.estimates import Table
from hipedge.study.report.html import paragraph
from hipedge.types import Side

_MOST_PICTURES = 24


class Pictures(Protocol):
    """Gives a hip's picture, with its heat map if there is one, as PNG bytes."""

    def picture(self, film: str, side: Side) -> bytes | None:
        """Return the picture, or `None` where there is none.

        `film` is what names the film in the labels: a SHA-256, a UID, a path or a case.
        """


class NoPictures:
    """Has no pictures: the predictions came without images."""

    def picture(self, film: str, side: Side) -> bytes | None:
        """Return nothing."""
        return None


class FolderPictures:
    """Finds `<film>-<side>.png` in a folder, or `<film>.png`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def picture(self, film: str, side: Side) -> bytes | None:
        """Read the file, if it is there. Only the film's own name is used, never its folders."""
        name = Path(film).name
        for path in (self._folder / f"{name}-{side.value}.png", self._folder / f"{name}.png"):
            if path.is_file():
                return path.read_bytes()
        return None


def worklist(disagreements: Table, pictures: Pictures) -> str:
    """Return the pictures of the first disagreements, or say that there are none."""
    if not disagreements.rows:
        return paragraph("Model and truth agree on every hip.", "note")
    shown = []
    for film, side, truth, answer, *_ in disagreements.rows:
        png = pictures.picture(str(film), Side(side))
        if png is not None:
            caption = f"{film}, {side}: {answer}, in truth {truth}"
            image = b64encode(png).decode("ascii")
            shown.append(
                f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{image}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
        if len(shown) == _MOST_PICTURES:
            break
    if not shown:
        return paragraph("No images: the predictions came without any.", "note")
    return f'<div class="worklist">{"".join(shown)}</div>'
