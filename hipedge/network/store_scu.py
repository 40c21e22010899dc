"""Sending results by C-STORE (PS3.4 B): one association for many objects (extra `clinic`)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from hipedge.network.library import MAX_PDU_BYTES
from hipedge.network.sending import Interrupted, Rejected, Unreachable

# The two that every receiver of results knows (PS3.5 10.1 and A.2).
TRANSFER_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
CONNECT_TIMEOUT_S = 10.0
# A receiver may check and index an object before it answers.
ANSWER_TIMEOUT_S = 60.0

SUCCESS = 0x0000
DUPLICATE_INSTANCE = 0x0111  # PS3.7 C.5.6: the receiver has it already
# PS3.4 B.2.3 and PS3.7 C.4: stored, but coerced, with elements left out, or suspect.
WARNINGS = (0x0001, 0x0107, 0x0116)
_WARNING_CLASS = 0xB000
# PS3.4 B.2.3 (A7xx), PS3.7 C.5.22: nothing else would be taken either.
_OUT_OF_RESOURCES_CLASS, _RESOURCE_LIMITATION = 0xA700, 0x0213


@dataclass(frozen=True)
class StoreScp:
    """A PACS that takes objects by C-STORE; `tls` is the context of a client, or None."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    classes: tuple[str, ...]
    tls: ssl.SSLContext | None = None
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    name: str = "pacs"

    @contextmanager
    def session(self) -> Iterator[_Association]:
        """Open an association, and release it at the end. Raises `Unreachable`."""
        association = self._entity().associate(
            self.host,
            self.port,
            ae_title=self.called_ae_title,
            max_pdu=MAX_PDU_BYTES,
            tls_args=None if self.tls is None else (self.tls, self.host),
        )
        if not association.is_established:
            raise Unreachable(_refusal(association))
        try:
            yield _Association(association)
        finally:
            if association.is_established:
                association.release()

    def _entity(self) -> AE:
        entity = AE(self.calling_ae_title)
        entity.connection_timeout = self.connect_timeout_s
        entity.acse_timeout = self.answer_timeout_s
        entity.dimse_timeout = self.answer_timeout_s
        entity.network_timeout = self.answer_timeout_s
        for sop_class in self.classes:
            entity.add_requested_context(sop_class, list(TRANSFER_SYNTAXES))
        return entity


class _Association:
    """An association with a receiver, as a session."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._classes = {str(c.abstract_syntax) for c in association.accepted_contexts}

    def accepts(self, sop_class_uid: str) -> bool:
        """Return whether the receiver has accepted a class in the negotiation (PS3.8 7.1.1.13)."""
        return sop_class_uid in self._classes

    def store(self, dataset: Dataset) -> int:
        """Send an object; return its status, as `Session` says."""
        if not self._association.is_established:
            raise Interrupted("the receiver has ended the association")
        try:
            answer = self._association.send_c_store(dataset)
        except (RuntimeError, OSError) as error:
            raise Interrupted("the association ended") from error
        if "Status" not in answer:
            raise Interrupted("the association ended, or no answer came in time")
        status = int(answer.Status)
        if is_accepted(status):
            return status
        if status & 0xFF00 == _OUT_OF_RESOURCES_CLASS or status == _RESOURCE_LIMITATION:
            raise Unreachable(f"out of resources (status {status:04X})")
        raise Rejected(f"status {status:04X}")


def is_accepted(status: int) -> bool:
    """Return whether a status of C-STORE says that the receiver has the object."""
    has_it = status in (SUCCESS, DUPLICATE_INSTANCE, *WARNINGS)
    return has_it or status & 0xF000 == _WARNING_CLASS


def _refusal(association: Association) -> str:
    if association.is_rejected:
        return "the receiver has rejected the association: see the AE titles that it knows"
    if association.acceptor.primitive is not None:  # its answer, A-ASSOCIATE-AC (PS3.8 7.1.1)
        return "the receiver accepts none of the results' classes"
    return "no connection to the receiver"
