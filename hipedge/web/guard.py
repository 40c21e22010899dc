"""What holds for every request and response, whatever page it is about.

A request must name this server, be small, and come at a bearable rate. A response forbids the
browser to run or load anything that is not this server's, to show it in another site's frame, and
to store it. A client that does not read what it asked for is cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hipedge.pipeline.preprocess import error_location
from hipedge.web.limits import RateLimit

MAX_BODY_BYTES = 16 << 10
# Of one part of a response.
SEND_TIMEOUT_S = 30.0
# By client address: a reader who turns pages quickly asks for about ten things a second.
REQUESTS = (300, 0.02)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With "no-referrer" a browser sends the forms of our own pages with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# Films and findings must not stay on a shared workstation.
NOT_STORED = "no-store"
_LOG = logging.getLogger("hipedge")


class Guard:
    """Wraps the application; an ASGI middleware.

    `names` are the host names and addresses by which the server may be addressed; None for any.
    Requests under another name come from a page that a name server has pointed here (DNS
    rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Iterable[str] | None,
        secure: bool,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._app = app
        self._names = None if names is None else frozenset(names)
        self._secure = secure
        self._send_timeout_s = send_timeout_s
        self._requests = RateLimit(*REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and pass it on or answer it."""
        if scope["type"] != "http":
            return
        has_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                self._add_headers(MutableHeaders(scope=message))
            await asyncio.wait_for(send(message), self._send_timeout_s)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send_guarded)
            else:
                await self._app(scope, receive, send_guarded)
        except TimeoutError:
            _LOG.warning("a client did not read the response to its request: connection closed")
            raise ConnectionAbortedError from None
        except Exception as error:
            # An error's message may hold patient data: only its place is logged.
            _LOG.error("error while answering a request: %s", error_location(error))
            if has_begun:
                raise ConnectionAbortedError from None
            failed = PlainTextResponse("An error in hipedge: please report it.", 500)
            await failed(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if self._names is not None and host_name(headers.get("host", "")) not in self._names:
            return PlainTextResponse("This server is not reached under this name.", 421)
        length = headers.get("content-length", "0")
        chunked = "transfer-encoding" in headers
        if chunked or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return PlainTextResponse("The request is too large.", 413)
        client = scope.get("client")
        if not self._requests.take(client[0] if client else ""):
            return PlainTextResponse("Too many requests: wait a moment.", 429)
        return None

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault("Cache-Control", NOT_STORED)
        if self._secure:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def host_name(host: str) -> str:
    """Return the name of a Host header (RFC 9110 7.2), without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
