"""Whether films can be shown, before a study counts on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from hipedge.config import Settings
from hipedge.store.rows import Case
from hipedge.web.decoder import MAX_WAITING, Decoder
from hipedge.web.levels import Unavailable, first_halvings, level_request
from hipedge.web.server import decoder_of


def films_not_shown(settings: Settings, cases: Sequence[Case]) -> dict[str, str]:
    """Return why films cannot be shown, by content: those that are gone, changed, or not decoded.

    Each is decoded as the viewer asks for it first.
    """
    found: dict[str, str] = {}
    with decoder_of(settings, cache_bytes=0) as decoder:
        waiting = iter(cases)
        while part := list(islice(waiting, MAX_WAITING // 2)):
            found.update(_not_shown(decoder, part))
    return found


def _not_shown(decoder: Decoder, cases: Sequence[Case]) -> Iterator[tuple[str, str]]:
    futures = []
    for case in cases:
        if case.content_hash is not None and case.shape is not None:
            halvings = first_halvings(case.shape)
            request = level_request(case.path, case.content_hash, case.marks, halvings)
            futures.append((case.content_hash, decoder.submit(request)))
    for content_hash, future in futures:
        decoded = future.result()
        if isinstance(decoded, Unavailable):
            yield content_hash, decoded.reason
