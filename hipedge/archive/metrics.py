"""What Prometheus is told of a job, by the driver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hipedge.archive.job import Progress
from hipedge.errors import CODES
from hipedge.metrics_server import MetricsServer, outcome_metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# Without a finished shard for so long the health check fails.
STALLED_S = 1800.0


@dataclass
class JobMetrics:
    """The progress of a job, as metrics. Labels are codes of hipedge, never text from files."""

    progress: Progress | None = None
    changed: float = field(default_factory=time.monotonic)

    def update(self, progress: Progress) -> None:
        """Note the progress after each shard."""
        self.progress, self.changed = progress, time.monotonic()

    def server(self, port: int) -> MetricsServer:
        """Return the server of these metrics; it runs within a `with` block."""
        return MetricsServer(self.collect, self.problems, port)

    def problems(self) -> list[str]:
        """Return `stalled` where no shard was finished for long."""
        return ["stalled"] * (time.monotonic() - self.changed > STALLED_S)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        progress = self.progress
        if progress is None:
            return
        summary = progress.summary
        yield GaugeMetricFamily("hipedge_archive_films", "Films in the list", progress.films)
        yield GaugeMetricFamily(
            "hipedge_archive_films_done",
            "Films with an outcome, of all drivers",
            progress.films_done,
        )
        # Copies: the job goes on counting while they are read.
        refused = {
            (CODES[code].state.value, code.value): n for code, n in list(summary.refused.items())
        }
        yield from outcome_metrics(
            {("screened", ""): summary.screened} | refused,
            {priority.value: n for priority, n in list(summary.flagged.items())},
            dict(progress.seconds),
        )
        yield CounterMetricFamily(
            "hipedge_worker_deaths", "Worker processes that crashed", progress.deaths
        )
        yield GaugeMetricFamily(
            "hipedge_archive_shard_age_seconds", "Time since a shard was finished",
            time.monotonic() - self.changed,
        )  # fmt: skip
