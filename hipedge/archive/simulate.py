"""How long would it take? A discrete-event simulation of an archive job.

Shards pass through readers and backends as in `hipedge.archive.job`; nodes fail and come back, and
lose the shards that they were at work on. What a film costs is measured, not assumed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import numpy as np

from hipedge.archive.shape import workers_per_reader

HOUR_S = 3600.0
# Shards that were read and wait for a backend, for each backend: what Ray's back-pressure allows.
MOST_WAITING = 2
# Shards that were recorded and wait for the driver, for each node, before readers wait too.
MOST_UNREPORTED = 2


@dataclass(frozen=True)
class Plan:
    """A job, the nodes that are to do it, and what goes wrong.

    `read_core_s` is the processor time of reading, locating and preparing a film. `infer_s` is the
    time of the backend for a film: of a GPU where nodes have `gpus`, else processor time, for which
    it competes with the readers. `variation` is the standard deviation of a film's time over its
    mean. All films come through one storage of `storage_mb_per_s` (None: never the limit).
    The driver takes `driver_s` for each shard, one after another, however many nodes there are.
    A node fails every `node_mtbf_h` on average (None: never), which Ray notices after `notice_s`,
    and is there again after `repair_s`. `slow_nodes` of the nodes are `slowness` times slower.
    """

    films: int
    nodes: int
    cores: int
    read_core_s: float
    infer_s: float
    gpus: int = 0
    film_mb: float = 0.0
    storage_mb_per_s: float | None = None
    shard_films: int = 128
    variation: float = 0.5
    shard_overhead_s: float = 0.2
    driver_s: float = 0.017
    start_s: float = 60.0
    node_mtbf_h: float | None = None
    notice_s: float = 30.0
    repair_s: float = 600.0
    slow_nodes: int = 0
    slowness: float = 10.0


@dataclass(frozen=True)
class Forecast:
    """What a simulated job took, and how busy its parts were.

    `repeated` is the work that failures destroyed, as a fraction of all; `tail_s` the time after
    the last shard was given to a reader.
    """

    hours: float
    readers_busy: float
    backends_busy: float
    storage_busy: float
    driver_busy: float
    repeated: float
    tail_s: float
    failures: int

    @property
    def bottleneck(self) -> str:
        """The busiest part."""
        parts = {
            "reading": self.readers_busy,
            "inference": self.backends_busy,
            "storage": self.storage_busy,
            "driver": self.driver_busy,
        }
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class Outlook:
    """Several simulations of one plan, each with other failures."""

    forecasts: tuple[Forecast, ...]

    @property
    def hours(self) -> tuple[float, float, float]:
        """The shortest, the median and the longest duration."""
        hours = [one.hours for one in self.forecasts]
        return min(hours), median(hours), max(hours)


def simulate(plan: Plan, *, repeats: int = 5, seed: int = 0) -> Outlook:
    """Simulate a plan several times."""
    runs = (_Simulation(plan, np.random.default_rng([seed, k])) for k in range(repeats))
    return Outlook(tuple(run.forecast() for run in runs))


@dataclass(eq=False)
class _Shard:
    """A shard: its films, its work for each relative to the mean, and where it was read."""

    films: int
    work: float
    node: _Node | None = None


@dataclass(eq=False)
class _Node:
    """A node: its speed, its idle servers, and the shards at work with the times of their start."""

    speed: float
    readers: int
    backends: int
    is_up: bool = True
    at_work: dict[_Shard, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.idle_readers, self.idle_backends = self.readers, self.backends


class _Simulation:
    def __init__(self, plan: Plan, random: np.random.Generator) -> None:
        self._plan, self._random = plan, random
        self._workers = workers_per_reader([plan.cores])
        readers = max(1, plan.cores // self._workers)
        self._nodes = [
            _Node(1 / plan.slowness if k < plan.slow_nodes else 1.0, readers, plan.gpus)
            for k in range(plan.nodes)
        ]
        self._pending, self._read = deque(self._shards()), deque[_Shard]()
        self._left = len(self._pending)
        self._now, self._tail_since = plan.start_s, plan.start_s
        self._events = list[tuple[float, int, Callable[[], None]]]()
        self._order = 0
        self._busy = dict.fromkeys(("reading", "inference", "storage", "driver", "lost"), 0.0)
        self._storage_free = self._driver_free = 0.0
        self._are_readers_held_back = False
        self._failures = 0

    def forecast(self) -> Forecast:
        """Run to the last shard; return what it took."""
        for node in self._nodes:
            self._plan_failure(node)
        self._assign(self._nodes)
        while self._left:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        plan, seconds, busy = self._plan, self._now, self._busy
        backends = plan.nodes * plan.gpus
        return Forecast(
            hours=seconds / HOUR_S,
            readers_busy=busy["reading"] / (seconds * sum(node.readers for node in self._nodes)),
            backends_busy=busy["inference"] / (seconds * backends) if backends else 0.0,
            storage_busy=busy["storage"] / seconds,
            driver_busy=busy["driver"] / seconds,
            repeated=busy["lost"] / (busy["reading"] + busy["inference"]),
            tail_s=seconds - self._tail_since,
            failures=self._failures,
        )

    def _shards(self) -> Iterator[_Shard]:
        plan = self._plan
        count = -(-plan.films // plan.shard_films)
        spread = plan.variation / plan.shard_films**0.5
        works = np.maximum(0.1, self._random.normal(1.0, spread, count))
        for number, work in enumerate(works):
            films = min(plan.shard_films, plan.films - number * plan.shard_films)
            yield _Shard(films, float(work))

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self._now + seconds, self._order, happen))

    def _assign(self, nodes: list[_Node]) -> None:
        """Give work to idle servers; readers wait while too much that was read waits."""
        most_waiting = MOST_WAITING * self._plan.nodes * self._plan.gpus
        for node in nodes:
            while node.is_up and node.idle_backends and self._read:
                self._infer(node, self._read.popleft())
            while node.is_up and node.idle_readers and self._pending:
                if self._plan.gpus and len(self._read) >= most_waiting:
                    break
                if self._is_driver_behind:
                    self._are_readers_held_back = True
                    return
                self._tail_since = self._now
                self._start_reading(node, self._pending.popleft())

    def _start_reading(self, node: _Node, shard: _Shard) -> None:
        plan = self._plan
        film_s = plan.read_core_s + (0.0 if plan.gpus else plan.infer_s)
        took_s = shard.films * shard.work * film_s / self._workers + plan.shard_overhead_s
        node.idle_readers -= 1
        node.at_work[shard] = self._now
        duration_s = max(took_s / node.speed, self._delivery_s(shard))
        self._after(duration_s, partial(self._end_reading, node, shard))

    def _delivery_s(self, shard: _Shard) -> float:
        """Return when the storage has delivered a shard, after all that was asked for before."""
        if self._plan.storage_mb_per_s is None:
            return 0.0
        took_s = shard.films * self._plan.film_mb / self._plan.storage_mb_per_s
        self._storage_free = max(self._now, self._storage_free) + took_s
        self._busy["storage"] += took_s
        return self._storage_free - self._now

    def _end_reading(self, node: _Node, shard: _Shard) -> None:
        if shard not in node.at_work:  # the node has failed in the meantime
            return
        self._busy["reading"] += self._now - node.at_work.pop(shard)
        node.idle_readers += 1
        if self._plan.gpus:
            shard.node = node
            self._read.append(shard)
            self._assign(self._nodes)  # any backend may take it
        else:
            self._report()
            self._assign([node])

    def _infer(self, node: _Node, shard: _Shard) -> None:
        node.idle_backends -= 1
        node.at_work[shard] = self._now
        took_s = shard.films * shard.work * self._plan.infer_s / node.speed
        self._after(took_s, partial(self._end_inference, node, shard))

    def _end_inference(self, node: _Node, shard: _Shard) -> None:
        if shard not in node.at_work:
            return
        self._busy["inference"] += self._now - node.at_work.pop(shard)
        node.idle_backends += 1
        self._report()
        self._assign(self._nodes)  # readers that waited may go on

    @property
    def _is_driver_behind(self) -> bool:
        most = MOST_UNREPORTED * self._plan.nodes
        return self._driver_free - self._now > most * self._plan.driver_s

    def _report(self) -> None:
        """Tell the driver of a shard that was recorded; it is busy with those before."""
        self._busy["driver"] += self._plan.driver_s
        self._driver_free = max(self._now, self._driver_free) + self._plan.driver_s
        self._after(self._driver_free - self._now, self._end_report)

    def _end_report(self) -> None:
        self._left -= 1
        if self._are_readers_held_back and not self._is_driver_behind:
            self._are_readers_held_back = False
            self._assign(self._nodes)

    def _plan_failure(self, node: _Node) -> None:
        if self._plan.node_mtbf_h is not None:
            wait_s = float(self._random.exponential(self._plan.node_mtbf_h * HOUR_S))
            self._after(wait_s, partial(self._fail, node))

    def _fail(self, node: _Node) -> None:
        """Lose what a node was at work on, and what it had read that waits for a backend."""
        self._failures += 1
        node.is_up = False
        self._busy["lost"] += sum(self._now - since for since in node.at_work.values())
        lost = [*node.at_work, *(shard for shard in self._read if shard.node is node)]
        self._read = deque(shard for shard in self._read if shard.node is not node)
        node.at_work.clear()
        self._after(self._plan.notice_s, partial(self._give_again, lost))
        self._after(self._plan.repair_s, partial(self._repair, node))

    def _give_again(self, shards: list[_Shard]) -> None:
        self._pending.extend(shards)
        self._assign(self._nodes)

    def _repair(self, node: _Node) -> None:
        node.is_up = True
        node.idle_readers, node.idle_backends = node.readers, node.backends
        self._plan_failure(node)
        self._assign([node])
