"""How often a server is asked, and at which hours of the day."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hipedge.errors import InputError


@dataclass(frozen=True)
class Hours:
    """The hours of the day, local time, from `start` until before `end`; over midnight as well."""

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Return the hours that text such as 20-6 means. Raises `InputError`."""
        start, _, end = text.partition("-")
        if not (start.isdecimal() and end.isdecimal() and int(start) < 24 and int(end) <= 24):
            raise InputError(f"hours are written as 20-6 (from 20:00 until 6:00), not {text!r}")
        if int(start) == int(end) % 24:
            raise InputError(f"hours {text!r} begin when they end: leave them out for all day")
        return cls(int(start), int(end) % 24)

    def wait_s(self, now: datetime) -> float:
        """Return the time in seconds until the hours begin; zero within them."""
        inside = (now.hour - self.start) % 24 < (self.end - self.start) % 24
        if inside:
            return 0.0
        begin = now.replace(hour=self.start, minute=0, second=0, microsecond=0)
        return (begin + timedelta(days=begin <= now) - now).total_seconds()


@dataclass
class Pace:
    """A limit of requests for each minute, within `hours` only, if there are any."""

    per_minute: float
    hours: Hours | None = None
    now: Callable[[], datetime] = datetime.now
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _next: float = field(default=0.0, init=False)

    def wait(self) -> None:
        """Wait until the next request may be made."""
        while self.hours is not None and (wait_s := self.hours.wait_s(self.now())) > 0:
            self.sleep(min(wait_s, 60.0))  # the clock of the day may be set meanwhile
        delay = self._next - self.clock()
        if delay > 0:
            self.sleep(delay)
        self._next = max(self._next, self.clock()) + 60.0 / self.per_minute
