"""The Ray cluster of a job: connecting to it, or starting one on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from hipedge.archive.shape import Cluster
from hipedge.errors import InstallationError

# Prepared films wait here between the stages. Ray's default is a third of the memory.
LOCAL_OBJECT_STORE_BYTES = 1 << 30


@contextmanager
def connected(address: str | None, *, cores: int | None = None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one of `cores` on this machine, as long as the block runs.

    Raises `InstallationError` where there is no cluster at that address.
    """
    # Without an address `ray.init` would join a cluster that it finds on this machine.
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address is None:
        options |= {
            "num_cpus": cores or len(os.sched_getaffinity(0)),
            "object_store_memory": LOCAL_OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        context = ray.init(address or "local", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InstallationError(
            f"no Ray cluster can be used at {address or 'this machine'}: {error}"
        ) from error
    try:
        yield _offer(context.dashboard_url)
    finally:
        ray.shutdown()


def _offer(dashboard_url: str | None) -> Cluster:
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in alive]
    workers = [node for node in nodes if node.get("CPU", 0) >= 1]
    if not workers:
        raise InstallationError("no node of this Ray cluster has a core for work")
    return Cluster(
        cores=tuple(int(node["CPU"]) for node in workers),
        memory_bytes=tuple(int(node.get("memory", 0)) for node in workers),
        gpus=int(sum(node.get("GPU", 0) for node in nodes)),
        dashboard=dashboard_url or None,
    )
