"""The one part of a multipart response, as it arrives (RFC 2046 5.1, PS3.18 8.6.1.2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

_MAX_HEADER_BYTES = 16_384


def only_part(content_type: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of the first part, in pieces. Raises `ValueError` where it does not end.

    A body of the type application/dicom itself, which some servers send, is the content.
    """
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() == "application/dicom":
        yield from chunks
        return
    boundary = header.get_boundary()
    if header.get_content_maintype() != "multipart" or not boundary:
        raise ValueError("the response has no part")
    end = b"\r\n--" + boundary.encode("latin-1")
    rest = iter(chunks)
    data = _after_header(rest, end[2:])
    while (at := data.find(end)) < 0:
        # The end may be divided between two chunks.
        keep = len(end) - 1
        yield data[:-keep]
        chunk = next(rest, None)
        if chunk is None:
            raise ValueError("the response ends early")
        data = data[-keep:] + chunk
    yield data[:at]


def _after_header(chunks: Iterator[bytes], boundary: bytes) -> bytes:
    """Return what has arrived after the part's header."""
    data = b""
    while True:
        start = data.find(boundary)
        at = data.find(b"\r\n\r\n", start) if start >= 0 else -1
        if at >= 0:
            return data[at + 4 :]
        chunk = next(chunks, None)
        if chunk is None or len(data) > _MAX_HEADER_BYTES:
            raise ValueError("the response has no part")
        data += chunk
