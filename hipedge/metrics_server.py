"""Metrics for Prometheus and a health check over HTTP, on the loopback interface only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

from hipedge.errors import InstallationError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LOOPBACK = "127.0.0.1"


def outcome_metrics(
    files: Mapping[tuple[str, str], int],
    flagged: Mapping[str, int],
    seconds: Mapping[str, float],
) -> Iterator[Metric]:
    """Yield what every engine of the pipeline counts.

    Files are counted by state and code, flagged hips by priority, seconds by stage.
    """
    from prometheus_client.core import CounterMetricFamily

    labels = ["state", "code"]
    by_code = CounterMetricFamily(
        "hipedge_files", "Files recorded, by state and code", labels=labels
    )
    for (state, code), count in files.items():
        by_code.add_metric([state, code], count)
    yield by_code
    hips = CounterMetricFamily(
        "hipedge_flagged_hips", "Flagged hips, by priority", labels=["priority"]
    )
    for priority, count in flagged.items():
        hips.add_metric([priority], count)
    yield hips
    spent = CounterMetricFamily(
        "hipedge_stage_seconds", "Time spent in each stage", labels=["stage"]
    )
    for stage, stage_s in seconds.items():
        spent.add_metric([stage], stage_s)
    yield spent


class MetricsServer:
    """Serves /metrics and /healthz on the loopback interface, within a `with` block.

    `collect` returns the metrics at each request; `problems` what is wrong, nothing if all is well.
    Port 0 takes a free one. Raises `InstallationError` without the package `prometheus-client`.
    """

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        problems: Callable[[], Sequence[str]],
        port: int,
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry, generate_latest
            from prometheus_client.registry import Collector
        except ImportError as error:
            raise InstallationError(
                "metrics need prometheus-client: pip install 'hipedge[service]', "
                "or set metrics_port = 0"
            ) from error

        class Metrics(Collector):
            def collect(self) -> Iterable[Metric]:
                """Return the metrics of this moment."""
                return collect()

        registry = CollectorRegistry()
        registry.register(Metrics())

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # named by the base class
                """Serve the two pages."""
                if self.path == "/metrics":
                    self._answer(200, generate_latest(registry))
                elif self.path == "/healthz":
                    found = problems()
                    self._answer(503 if found else 200, "\n".join(found or ["ok"]).encode())
                else:
                    self._answer(404, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Log no request."""

        self._server = _LoopbackServer((LOOPBACK, port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _LoopbackServer(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Bind without the name look-up of `HTTPServer.server_bind`, which may ask a DNS server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]
