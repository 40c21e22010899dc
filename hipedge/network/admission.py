"""How many connections are open, and how fast new ones may come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Peer:
    connections: int
    tokens: float
    at: float


class Admission:
    """Caps on the connections, in all and of each address, and on the rate of new ones.

    A token bucket for each address holds the tokens of one second. Safe to use in threads.
    """

    def __init__(
        self,
        most: int,
        most_of_an_address: int,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._most_of_an_address = most, most_of_an_address
        self._per_second, self._burst = per_second, max(per_second, 1.0)
        self._clock = clock
        self._lock = threading.Lock()
        self._peers = dict[str, _Peer]()
        self._connections = 0

    def enter(self, address: str) -> bool:
        """Count a connection from an address; return whether it is admitted. If so, it `leave`s."""
        with self._lock:
            self._forget_idle()
            peer = self._peers.setdefault(address, _Peer(0, self._burst, self._clock()))
            self._refill(peer)
            admitted = (
                self._connections < self._most
                and peer.connections < self._most_of_an_address
                and peer.tokens >= 1
            )
            if admitted:
                peer.tokens -= 1
                peer.connections += 1
                self._connections += 1
            return admitted

    def leave(self, address: str) -> None:
        """End a connection that was admitted."""
        with self._lock:
            self._peers[address].connections -= 1
            self._connections -= 1

    def _refill(self, peer: _Peer) -> None:
        now = self._clock()
        peer.tokens = min(self._burst, peer.tokens + (now - peer.at) * self._per_second)
        peer.at = now

    def _forget_idle(self) -> None:
        """Forget addresses without connections whose buckets are full again."""
        for address, peer in tuple(self._peers.items()):
            self._refill(peer)
            if not peer.connections and peer.tokens == self._burst:
                del self._peers[address]
