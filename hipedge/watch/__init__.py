"""`screen`, for ever: a service that loses nothing. `docs/safety.md` says what it promises."""

from hipedge.watch.service import watch

__all__ = ["watch"]
