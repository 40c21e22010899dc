"""Rate limits, in memory: a bucket of tokens for each key (a client's address, a user's name)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

# More keys than users of a hospital; the least recently used ones are forgotten beyond it.
MAX_KEYS = 10_000


class RateLimit:
    """Allows `burst` events at once for each key, and one more every `interval_s`."""

    def __init__(
        self, burst: int, interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._interval_s, self._clock = burst, interval_s, clock
        self._lock = threading.Lock()
        # When the bucket of each key will be full again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Return whether an event is allowed, without counting it."""
        with self._lock:
            return self._wait_s(key) <= 0

    def take(self, key: str) -> bool:
        """Count an event, if it is allowed; return whether it is."""
        with self._lock:
            if self._wait_s(key) > 0:
                return False
            now = self._clock()
            self._full_at[key] = max(now, self._full_at.get(key, now)) + self._interval_s
            self._full_at.move_to_end(key)
            while len(self._full_at) > MAX_KEYS:
                self._full_at.popitem(last=False)
            return True

    def _wait_s(self, key: str) -> float:
        missing_s = self._full_at.get(key, 0.0) - self._clock()
        return missing_s - (self._burst - 1) * self._interval_s
