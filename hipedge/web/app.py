"""The application: its routes, and what each of them asks of who calls it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

import hipedge
from hipedge.errors import HipedgeError, InputError, StaleAnswer, StoreError
from hipedge.store.accounts import Accounts, Login, Role
from hipedge.web import answers, films, pages, reading
from hipedge.web.dashboard import dashboard
from hipedge.web.decoder import Busy
from hipedge.web.guard import SEND_TIMEOUT_S, Guard
from hipedge.web.passwords import hash_password
from hipedge.web.render import page
from hipedge.web.sessions import LoginFailed, has_form_token, is_from_here
from hipedge.web.site import Site
from hipedge.web.visit import InStudy, NotFound, Visit

STATIC = Path(__file__).with_name("static")
MAX_FIELDS = 30

Page = Callable[[Site, Visit], Response]
AsyncPage = Callable[[Site, Visit], Awaitable[Response]]


def create_app(
    site: Site,
    *,
    names: Iterable[str] | None,
    secure: bool,
    send_timeout_s: float = SEND_TIMEOUT_S,
) -> ASGIApp:
    """Return the application for a site, guarded as `Guard` says."""
    routes = _Routes(site)
    app = Starlette(
        routes=[
            Route("/login", routes.log_in, methods=["GET", "POST"]),
            Route("/logout", routes.log_out, methods=["POST"]),
            Route("/", routes.page(pages.worklist)),
            Route("/rows", routes.page(pages.rows)),
            Route("/search", routes.page(pages.search)),
            Route("/case/{file_id:int}", routes.page(pages.case)),
            Route("/case/{file_id:int}/answer", routes.form(answers.answer), methods=["POST"]),
            Route("/film/{file_id:int}/{halvings:int}", routes.asynchronous(films.level)),
            Route("/studies", routes.page(reading.studies, Role.READER)),
            Route("/study/{study_id:int}", routes.page(reading.study, Role.READER)),
            Route("/study/{study_id:int}/hip", routes.page(reading.hip, Role.READER)),
            Route(
                "/study/{study_id:int}/truth/{opening_id:int}",
                routes.page(reading.truth, Role.READER),
            ),
            Route(
                "/study/{study_id:int}/film/{opening_id:int}/{halvings:int}",
                routes.asynchronous(reading.level),
            ),
            Route("/study/{study_id:int}/event", routes.form(reading.event), methods=["POST"]),
            Route("/study/{study_id:int}/answer", routes.form(reading.answer), methods=["POST"]),
            Route("/dashboard", routes.page(dashboard)),
            Route("/agreement", routes.page(pages.agreement)),
            Route("/password", routes.page(pages.password)),
            Route("/password", routes.form(routes.new_password, Role.VIEWER), methods=["POST"]),
            Route("/log", routes.page(pages.log, Role.ADMIN)),
            Route("/healthz", lambda _: PlainTextResponse("ok\n")),
            Mount(f"/static/{hipedge.__version__}", _Static(directory=STATIC)),
        ],
        exception_handlers={404: _not_found, 405: _not_found},
    )
    return Guard(app, names=names, secure=secure, send_timeout_s=send_timeout_s)


class _Static(StaticFiles):
    """The scripts and styles, which hold nothing of a patient: a browser may keep them."""

    def file_response(self, *args: object, **values: object) -> Response:
        response = super().file_response(*args, **values)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "max-age=300"
        return response


def _not_found(request: Request, error: Exception) -> Response:
    return page("message.html", 404, login=None, title="Not found", text="There is no such page.")


@dataclass(frozen=True)
class _Routes:
    """Makes endpoints out of functions of a site and a visit."""

    site: Site

    def page(self, function: Page, role: Role = Role.VIEWER) -> Callable[..., Awaitable[Response]]:
        """Return an endpoint that shows something to users of a role."""

        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(self._visit, request, {}, role, function)

        return endpoint

    def form(self, function: Page, role: Role = Role.READER) -> Callable[..., Awaitable[Response]]:
        """Return an endpoint that takes a form from users of a role."""

        async def endpoint(request: Request) -> Response:
            fields = await _fields(request)
            return await run_in_threadpool(self._visit, request, fields, role, function)

        return endpoint

    def asynchronous(self, function: AsyncPage) -> Callable[..., Awaitable[Response]]:
        """Return an endpoint that waits without holding a thread."""

        async def endpoint(request: Request) -> Response:
            login = await run_in_threadpool(self._login, request)
            if login is None:
                return PlainTextResponse("log in first", 401)
            try:
                return await function(self.site, Visit(request, login, {}))
            except HipedgeError as error:
                return PlainTextResponse(str(error), _status(error))

        return endpoint

    async def log_in(self, request: Request) -> Response:
        """Show the login, or start a session."""
        fields = await _fields(request) if request.method == "POST" else {}
        return await run_in_threadpool(self._log_in, request, fields)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        fields = await _fields(request)

        def end(site: Site, visit: Visit) -> Response:
            response = RedirectResponse("/login", 303)
            with site.accounts() as accounts:
                accounts.log(visit.login.user, visit.address, "logout")
                site.sessions.log_out(accounts, request, response)
            return response

        return await run_in_threadpool(self._visit, request, fields, Role.VIEWER, end)

    def new_password(self, site: Site, visit: Visit) -> Response:
        """Replace a user's own password, and end the user's sessions."""
        user, fields = visit.login.user, visit.fields
        with site.accounts() as accounts:
            known = accounts.user(user)
            if known is None:
                raise InputError("You came by the link, and have no password.")
            old, new = fields.get("password", ""), fields.get("new_password", "")
            site.sessions.check_password(accounts, user, old, visit.address)
            if new != fields.get("again", ""):
                raise InputError("The new password was not repeated alike.")
            accounts.set_password(user, hash_password(new, user))
            accounts.log(user, visit.address, "password_changed", detail=user)
        return RedirectResponse("/login", 303)

    def _log_in(self, request: Request, fields: Mapping[str, str]) -> Response:
        sessions, address = self.site.sessions, client_address(request)
        try:
            with self.site.accounts() as accounts:
                if request.method == "POST":
                    token = self._by_password(accounts, request, fields, address)
                elif "token" in request.query_params and sessions.has_link:
                    token = sessions.follow_link(accounts, request.query_params["token"], address)
                else:
                    return page("login.html", login=None, by_link=sessions.has_link, error="")
        except LoginFailed as failed:
            return page("login.html", 401, login=None, by_link=sessions.has_link, error=str(failed))
        except StoreError as error:
            return _message(error, None)
        response = RedirectResponse("/", 303)
        sessions.set_cookie(response, token)
        return response

    def _by_password(
        self, accounts: Accounts, request: Request, fields: Mapping[str, str], address: str
    ) -> str:
        if self.site.sessions.has_link or not is_from_here(request):
            raise LoginFailed("This form was not sent by this server's page.")
        name, password = fields.get("user", ""), fields.get("password", "")
        return self.site.sessions.log_in(accounts, name, password, address)

    def _login(self, request: Request) -> Login | None:
        with self.site.accounts() as accounts:
            return self.site.sessions.of(accounts, request)

    def _visit(
        self, request: Request, fields: Mapping[str, str], role: Role, function: Page
    ) -> Response:
        login = None
        try:
            login = self._login(request)
            if login is None:
                return RedirectResponse("/login", 303)
            if not login.role.allows(role):
                return _refused(login, f"This page is for the role {role.value}.")
            if request.method == "POST" and not (
                is_from_here(request) and has_form_token(login, fields.get("form_token", ""))
            ):
                return _refused(login, "The form was not sent by a page of this session.")
            return function(self.site, Visit(request, login, fields))
        except HipedgeError as error:
            return _message(error, login)


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a form; of several of one name the last."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    text = bytes(body).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        return {}


def client_address(request: Request) -> str:
    """Return the address that a request comes from."""
    return request.client.host if request.client else ""


def _refused(login: Login, text: str) -> Response:
    return page("message.html", 403, login=login, title="Not allowed", text=text)


def _message(error: HipedgeError, login: Login | None) -> Response:
    status = _status(error)
    title = {
        403: "In a reader study",
        404: "Not found",
        409: "Answered meanwhile",
        503: "Not available now",
    }.get(status, "This cannot be done")
    response = page("message.html", status, login=login, title=title, text=str(error))
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response


def _status(error: HipedgeError) -> int:
    """Return the HTTP status (RFC 9110 15) of an error."""
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, LoginFailed):
        return 401
    if isinstance(error, InStudy):
        return 403
    if isinstance(error, StaleAnswer):
        return 409
    if isinstance(error, (StoreError, Busy)):
        return 503
    return 400 if isinstance(error, InputError) else 500
