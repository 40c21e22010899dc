"""Verification: does a DICOM node answer (PS3.4 A, C-ECHO)? Needs the extra `clinic`."""

from __future__ import annotations

import socket
import ssl

from hipedge.errors import HipedgeError
from hipedge.network.contexts import VERIFICATION
from hipedge.network.library import quiet_libraries, require_pynetdicom

TIMEOUT_S = 10.0
_SUCCESS = 0x0000


class NoAnswer(HipedgeError):
    """A node did not answer a C-ECHO. The text says why."""


def echo(
    host: str, port: int, called: str, calling: str, tls: ssl.SSLContext | None = None
) -> None:
    """Ask the node with the AE title `called` for an answer. Raises `NoAnswer`."""
    require_pynetdicom()
    from pynetdicom import AE

    entity = AE(calling)
    entity.connection_timeout = entity.acse_timeout = TIMEOUT_S
    entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
    entity.add_requested_context(VERIFICATION)
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()  # pynetdicom does not tell errors
    except OSError as error:
        raise NoAnswer(f"no connection: {error.strerror or 'timed out'}") from error
    with quiet_libraries():
        association = entity.associate(
            host, port, ae_title=called, tls_args=None if tls is None else (tls, host)
        )
        if not association.is_established:
            if association.is_rejected:
                raise NoAnswer(f"rejects {calling} calling {called}: check both AE titles")
            raise NoAnswer("connected, and there is no association: is TLS set on both sides?")
        try:
            answer = association.send_c_echo()
        finally:
            association.release()
    if "Status" not in answer or int(answer.Status) != _SUCCESS:
        raise NoAnswer("connected, and does not answer a C-ECHO")
