"""Who is asking: logins, the cookie of a session, and the token that its forms carry."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from hipedge.errors import HipedgeError
from hipedge.store.accounts import Accounts, Login, Role, User
from hipedge.web.limits import RateLimit
from hipedge.web.passwords import is_password

LONGEST = timedelta(hours=12)
# Failed logins for a user from an address, for an address, and for a user from anywhere.
FAILURES = (5, 180.0)
FAILURES_OF_ADDRESS = (20, 30.0)
FAILURES_OF_USER = (50, 60.0)


class LoginFailed(HipedgeError):
    """No session was started. The text does not tell whether there is such a user."""


class Sessions:
    """Starts, finds and ends sessions. A cookie holds a random token, the database its hash.

    `link_token` starts a session for the person who started the server, without an account;
    None where there are accounts.
    """

    def __init__(self, *, secure: bool, idle: timedelta, link_token: str | None, owner: str):
        # A browser sends a cookie of the prefix __Host- only where it was set: to this host, by
        # TLS (RFC 6265bis 4.1.3).
        self._cookie = "__Host-hipedge" if secure else "hipedge"
        self._secure, self._idle = secure, idle
        self._link_token, self._owner = link_token, owner
        self._failures = RateLimit(*FAILURES)
        self._failures_of_address = RateLimit(*FAILURES_OF_ADDRESS)
        self._failures_of_user = RateLimit(*FAILURES_OF_USER)

    def log_in(self, accounts: Accounts, name: str, password: str, address: str) -> str:
        """Check a password, and return the token of a new session. Raises `LoginFailed`."""
        user = self.check_password(accounts, name, password, address)
        return self._start(accounts, user.name, user.role, address)

    def check_password(self, accounts: Accounts, name: str, password: str, address: str) -> User:
        """Return the user of a name and a password. Raises `LoginFailed`."""
        pair = f"{address} {name}"
        limits = (
            (self._failures, pair),
            (self._failures_of_address, address),
            (self._failures_of_user, name),
        )
        user = accounts.user(name)
        # Of an unknown name nothing is logged: it may be a password in the wrong field.
        known = user.name if user else "(unknown)"
        if not all(limit.allows(key) for limit, key in limits):
            accounts.log(known, address, "login_refused")
            raise LoginFailed("Too many attempts: wait a few minutes.")
        active = user is not None and not user.disabled
        correct = is_password(user.password_hash if user and active else None, password)
        if user is None or not correct:
            for limit, key in limits:
                limit.take(key)
            accounts.log(known, address, "login_failed")
            raise LoginFailed("User name or password is wrong.")
        return user

    def follow_link(self, accounts: Accounts, token: str, address: str) -> str:
        """Return the token of a new session for the link's owner. Raises `LoginFailed`."""
        expected = self._link_token
        if expected is None or not hmac.compare_digest(token.encode(), expected.encode()):
            raise LoginFailed("This link is not valid: open the one that hipedge serve printed.")
        return self._start(accounts, self._owner, Role.ADMIN, address)

    @property
    def has_link(self) -> bool:
        """Whether people come by the link, and not by user name and password."""
        return self._link_token is not None

    def _start(self, accounts: Accounts, user: str, role: Role, address: str) -> str:
        token = secrets.token_urlsafe(32)
        form_token = secrets.token_urlsafe(32)
        accounts.start_session(
            _hash(token), user, form_token, role, address=address, longest=LONGEST
        )
        return token

    def set_cookie(self, response: Response, token: str) -> None:
        """Give the browser the token of its session."""
        response.set_cookie(
            self._cookie,
            token,
            max_age=int(LONGEST.total_seconds()),
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )

    def of(self, accounts: Accounts, request: Request) -> Login | None:
        """Return the session of a request; None where it has none."""
        token = request.cookies.get(self._cookie)
        return accounts.session(_hash(token), self._idle, LONGEST) if token else None

    def log_out(self, accounts: Accounts, request: Request, response: Response) -> None:
        """End the session of a request."""
        token = request.cookies.get(self._cookie)
        if token:
            accounts.end_session(_hash(token))
        response.delete_cookie(self._cookie, secure=self._secure, httponly=True, samesite="strict")


def has_form_token(login: Login, token: str) -> bool:
    """Return whether a form comes from a page that this session was shown."""
    return hmac.compare_digest(token.encode("utf-8", "replace"), login.form_token.encode())


def is_from_here(request: Request) -> bool:
    """Return whether a form was sent by a page of this server, as far as the browser says."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
