"""The film of a case, at the resolution that the viewer asks for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from hipedge.web.levels import Level, LevelRequest, finest_halvings, first_halvings, level_request
from hipedge.web.site import Site
from hipedge.web.visit import NotFound, Visit

# A client that stops reading holds no more than this.
PART_BYTES = 256 << 10


async def level(site: Site, visit: Visit) -> Response:
    """Answer with one level of a film as raw values; the header X-Level describes them."""
    request = await run_in_threadpool(_request, site, visit)
    # Other visitors may wait for the same level: this one's going away must not cancel it.
    decoding = asyncio.shield(asyncio.wrap_future(site.decoder.submit(request)))
    # Whoever asks for a film without its page has seen it too. The disk is waited for meanwhile.
    user, detail = visit.login.user, f"halved {request.halvings} times"
    await run_in_threadpool(site.log, user, visit.address, "film", request.content_hash, detail)
    decoded = await decoding
    if not isinstance(decoded, Level):
        return PlainTextResponse(decoded.reason, 410)
    return level_response(decoded)


def level_response(decoded: Level) -> Response:
    """Return a level as the viewer takes it."""
    described = {
        "rows": decoded.shape[0],
        "columns": decoded.shape[1],
        "curve": decoded.curve_points,
        "origin": decoded.origin_px,
        "step": decoded.step_px,
    }
    return StreamingResponse(
        _parts(decoded.data),
        media_type="application/octet-stream",
        headers={
            "X-Level": json.dumps(described),
            "Content-Length": str(len(decoded.data)),
            # Opened as a page it is saved, and not shown.
            "Content-Disposition": "attachment",
        },
    )


def _request(site: Site, visit: Visit) -> LevelRequest:
    """Return which level of which film is asked for. Raises `NotFound`."""
    halvings = int(visit.request.path_params["halvings"])
    with site.review() as review:
        case = visit.case(review, site.reserved(visit.login.user))
    if case.content_hash is None or case.shape is None:
        raise NotFound("This file has no film that could be read.")
    check_halvings(case.shape, halvings)
    return level_request(case.path, case.content_hash, case.marks, halvings)


def check_halvings(shape: tuple[int, int], halvings: int) -> None:
    """Raise `NotFound` for a resolution of a film (H, W) that is not sent."""
    if not finest_halvings(shape) <= halvings <= first_halvings(shape):
        raise NotFound("There is no such resolution of this film.")


async def _parts(data: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), PART_BYTES):
        yield view[start : start + PART_BYTES]
