"""What receivers of results have in common: sessions, and the three ways in which sending fails."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from hipedge.errors import HipedgeError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class Unreachable(HipedgeError):
    """The receiver takes nothing at all now. The text names the reason, never what was sent."""


class Interrupted(HipedgeError):
    """The connection ended, or no answer came, while an object was sent: it may have arrived."""


class Rejected(HipedgeError):
    """The receiver does not take this object, whatever it does with others."""


class Session(Protocol):
    """A connection to a receiver."""

    def accepts(self, sop_class_uid: str) -> bool:
        """Return whether objects of a class may be sent."""

    def store(self, dataset: Dataset) -> int:
        """Send an object; return the status once the receiver has accepted it, 0 or a warning.

        An object that the receiver has already is accepted. Raises `Unreachable`, `Interrupted`
        or `Rejected`.
        """


class Receiver(Protocol):
    """A receiver of results: the name of its channel, and sessions with it."""

    @property
    def name(self) -> str:
        """The channel in the outbox."""

    def session(self) -> AbstractContextManager[Session]:
        """Open a session. Raises `Unreachable`."""


class ReadBack(Protocol):
    """A query for whether a receiver still has what it has accepted."""

    def has(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Return whether an object is there. Raises `Unreachable`."""
