"""What Prometheus and a health check are told of the service."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hipedge.metrics_server import MetricsServer, outcome_metrics
from hipedge.review.agreement import Agreement
from hipedge.store.states import PathState
from hipedge.types import Outcome, Priority, Refusal
from hipedge.watch.alarms import Alarm, Alarms

if TYPE_CHECKING:
    from prometheus_client.core import Metric


@dataclass
class ServiceCounters:
    """Counts since the start of the service. Labels are codes of hipedge, never text from files."""

    alarms: Alarms
    stale_after_s: float
    files: Counter[tuple[str, str]] = field(default_factory=Counter)
    flagged: Counter[Priority] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    paths: dict[PathState, int] = field(default_factory=dict)
    undelivered: int = 0
    agreement: Agreement | None = None
    worker_crashes: int = 0
    last_screened: float = 0.0
    scanned: float = field(default_factory=time.monotonic)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes that were committed."""
        for outcome in outcomes:
            for stage, milliseconds in outcome.timings_ms.items():
                self.seconds[stage] += milliseconds / 1e3
            if isinstance(outcome, Refusal):
                self.files[outcome.state.value, outcome.code.value] += 1
            else:
                self.files[PathState.SCREENED.value, ""] += 1
                self.flagged.update(f.priority for f in outcome.findings if f.flagged)
                self.last_screened = time.time()

    @property
    def problems(self) -> list[str]:
        """The alarms, and `stale` if no scan was completed for `stale_after_s`."""
        stale = time.monotonic() - self.scanned > self.stale_after_s
        return sorted(self.alarms.names) + ["stale"] * stale


def metrics_server(counters: ServiceCounters, port: int) -> MetricsServer:
    """Return the server of the service's counters; it runs within a `with` block."""
    return MetricsServer(_Collector(counters).collect, lambda: counters.problems, port)


class _Collector:
    """Converts the counters into metrics at each request."""

    def __init__(self, counters: ServiceCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counters = self._counters
        # Copies: the service goes on counting while they are read.
        flagged = {priority.value: n for priority, n in list(counters.flagged.items())}
        yield from outcome_metrics(dict(counters.files), flagged, dict(counters.seconds))
        paths = GaugeMetricFamily("hipedge_paths", "Paths, by state", labels=["state"])
        for path_state in PathState:
            paths.add_metric([path_state.value], counters.paths.get(path_state, 0))
        yield paths
        alarms = GaugeMetricFamily("hipedge_alarm", "1 where an alarm is on", labels=["alarm"])
        for alarm in Alarm:
            alarms.add_metric([alarm.value], alarm.value in counters.alarms.names)
        yield alarms
        yield CounterMetricFamily(
            "hipedge_worker_deaths", "Worker processes that crashed", counters.worker_crashes
        )
        yield GaugeMetricFamily(
            "hipedge_notifications_waiting", "Undelivered messages", counters.undelivered
        )
        agreement = counters.agreement
        if agreement is not None and agreement.judged:
            share = agreement.agreed / agreement.judged
            text = "Share of the newest judged hips on which readers agree with the finding"
            yield GaugeMetricFamily("hipedge_reader_agreement", text, share)
            text = "1 where readers disagree more often than at first (CUSUM)"
            yield GaugeMetricFamily("hipedge_reader_drift", text, agreement.alarm)
        yield GaugeMetricFamily(
            "hipedge_last_screened_timestamp_seconds", "Time of the last screened film",
            counters.last_screened,
        )  # fmt: skip
        yield GaugeMetricFamily(
            "hipedge_scan_age_seconds", "Time since the last completed scan",
            time.monotonic() - counters.scanned,
        )  # fmt: skip
