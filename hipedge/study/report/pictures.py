"""Where the pictures of a worklist come from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hipedge.types import Side


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
