"""The main loop of the service: scan → settle → claim → preprocess → infer → commit."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hipedge.errors import (
    BackendError,
    Code,
    HipedgeError,
    InstallationError,
    StoreUnavailable,
)
from hipedge.pipeline.discover import listable_again
from hipedge.pipeline.preprocessor import Prepared
from hipedge.pipeline.results import ResultPipeline
from hipedge.pipeline.workers import WorkerCrash, Workers
from hipedge.review.agreement import agreement_of
from hipedge.rules.decide import Rule
from hipedge.service_log import event, notify_systemd
from hipedge.store.feedback import Feedback
from hipedge.store.outbox import Outbox
from hipedge.store.queue import Queue
from hipedge.store.service import Service
from hipedge.types import Outcome, Refusal, Screened
from hipedge.watch.alarms import Alarm, Alarms
from hipedge.watch.done import DoneDir
from hipedge.watch.folders import Folders, Scan
from hipedge.watch.metrics import ServiceCounters
from hipedge.watch.settle import MIN_CHECKS, Settled, Settling, Unsettled

MAX_ATTEMPTS = 3
# The longest wait for the workers in one iteration.
WAIT_S = 0.05
# The pause before the next attempt when the database or the backend fails.
PAUSE_S = 1.0
# After a scan, the next one that an event asks for waits this many times as long as the scan took.
SCAN_BACKOFF = 10
# After a full disk, this much more than the reserve must be free.
RESERVE_HYSTERESIS = 1.05

WorkerPool = Workers[Settled, Prepared | Refusal | Unsettled]


@dataclass(frozen=True)
class WatchLimits:
    """The site's limits for the loop: times in seconds, and the disk space to keep free."""

    settle_s: float
    rescan_s: float
    drain_s: float
    reserve_bytes: int


class WatchLoop:
    """The loop of the service, until `stop`.

    Nothing is released before its commit: while the database or the backend is unavailable,
    results are kept in memory and no new file is claimed.
    """

    def __init__(
        self,
        pipeline: ResultPipeline,
        pool: WorkerPool,
        folders: Folders,
        settling: Settling,
        limits: WatchLimits,
        *,
        alarms: Alarms,
        counters: ServiceCounters,
        done_dir: DoneDir | None = None,
        events_pending: Callable[[], bool] = lambda: False,
        on_commit: Callable[[], None] = lambda: None,
        load_rule: Callable[[], Rule] | None = None,
        fall_back: Callable[[ResultPipeline], ResultPipeline] | None = None,
    ) -> None:
        self._pipeline, self._pool, self._folders = pipeline, pool, folders
        self._settling, self._limits = settling, limits
        self._alarms, self._counters, self._done_dir = alarms, counters, done_dir
        self._events_pending, self._on_commit = events_pending, on_commit
        self._load_rule, self._fall_back = load_rule, fall_back
        self._queue, self._service = Queue(pipeline.store), Service(pipeline.store)
        self._in_progress = dict[Path, Settled]()
        self._results = list[Prepared | Refusal]()
        self._outcomes = list[Outcome]()
        self._unsettled = list[Path]()
        self._attempts = {path: n for path, n in self._queue.unfinished().items() if n}
        self._crashed = set[Path]()
        self._discovered = list[Path]()
        self._next_scan = self._next_event_scan = self._next_check = 0.0
        self._published_alarms: frozenset[str] | None = None
        self._refused = set[Path]()
        self._stopping = self._reload_due = False

    def run(self) -> None:
        """Loop until `stop`, then drain in-flight work.

        Raises `InstallationError` for a fault that concerns every film; claims are released then.
        """
        event(logging.INFO, "started", unfinished=len(self._attempts))
        notify_systemd(READY=1)
        try:
            while not self._stopping:
                self._iterate()
            self._drain()
        except InstallationError:  # not the fault of any film, so none may count an attempt
            with suppress(StoreUnavailable):
                self._queue.release(self._in_progress)
            raise

    def stop(self) -> None:
        """Claim no more files, and end when those in progress are finished. Signal-safe."""
        self._stopping = True

    def reload(self) -> None:
        """Load the site's thresholds again before the next iteration. Signal-safe."""
        self._reload_due = True

    def _iterate(self) -> None:
        try:
            if self._published_alarms is not None:  # before the first scan the old alarms stand
                self._publish_alarms()
            self._reload()
            self._discover()
            self._claim()
            self._collect(WAIT_S)
        except StoreUnavailable:
            self._alarms.set(Alarm.DATABASE_UNAVAILABLE, True)
            time.sleep(PAUSE_S)
        except BackendError:
            self._handle_lost_backend()
        # Also in a pause, which is deliberate and has an alarm: a restart would not help.
        notify_systemd(WATCHDOG=1)

    # Discovery: which files there are, and which of them have settled.

    def _discover(self) -> None:
        now = time.monotonic()
        if now >= self._next_scan or (now >= self._next_event_scan and self._events_pending()):
            self._process_scan(self._folders.scan())
            took_s = time.monotonic() - now
            self._next_scan = now + took_s + self._limits.rescan_s
            self._next_event_scan = now + took_s * (1 + SCAN_BACKOFF)
        if now >= self._next_check:
            self._next_check = now + self._limits.settle_s / MIN_CHECKS
            self._handle_missing(self._settling.check())
            self._queue.mark_settling(self._discovered)
            self._discovered.clear()
            self._check_disk()

    def _process_scan(self, scan: Scan) -> None:
        self._alarms.set(Alarm.FOLDER_GONE, bool(scan.missing), folders=len(scan.missing))
        signatures = {path: stat.signature for path, stat in scan.found.items()}
        self._queue.observe(signatures)
        unfinished = self._queue.unfinished()
        self._discovered.extend(path for path in unfinished if path not in self._settling)
        self._settling.add(unfinished)
        if self._discovered:
            self._next_check = 0.0  # they start to settle now
        self._refuse(scan.refusals)
        self._withdraw(scan.refusals)
        if self._done_dir is not None:
            moved = self._done_dir.move(self._queue.finished(signatures), self._queue)
            self._alarms.set(Alarm.DONE_DIR, not moved)
        self._publish_alarms()
        self._service.beat(self._pipeline.run.run_id)
        self._counters.scanned = time.monotonic()
        self._counters.paths = self._queue.counts()
        self._counters.undelivered = sum(Outbox(self._pipeline.store).waiting().values())
        self._counters.agreement = agreement_of(Feedback(self._pipeline.store).present())

    def _refuse(self, refusals: Iterable[Refusal]) -> None:
        """Record, once, the paths that cannot be read."""
        known = self._refused | self._in_progress.keys()
        new = {refusal.source: refusal for refusal in refusals if refusal.source not in known}
        if new:
            self._pipeline.store.claim(new)
            self._counters.add(self._pipeline.record(list(new.values())))
            self._refused.update(new)
            self._settling.forget(new)

    def _withdraw(self, refusals: Iterable[Refusal]) -> None:
        """Remove the refusals of folders that can be listed by now."""
        listable = listable_again(self._queue.unread(), self._folders.roots, refusals)
        if listable:
            self._queue.withdraw(listable)
            self._refused.difference_update(listable)

    def _handle_missing(self, missing: list[Path]) -> None:
        """Record files as vanished, unless a whole watched folder is missing."""
        if not missing or self._folders.missing():
            return
        vanished = [path for path in missing if path not in self._in_progress]
        self._queue.mark_vanished(vanished)
        self._settling.forget(vanished)

    def _check_disk(self) -> None:
        """Pause when the disk of the database is nearly full."""
        db = self._pipeline.store.path
        limit = self._limits.reserve_bytes
        if self._alarms.is_on(Alarm.DISK_RESERVE):
            limit = int(limit * RESERVE_HYSTERESIS)
        free = shutil.disk_usage(db.absolute().parent).free
        self._alarms.set(Alarm.DISK_RESERVE, free < limit)

    # Claims: which settled files are preprocessed next.

    def _claim(self) -> None:
        if self._outcomes or self._results or self._is_paused():
            return
        self._give_up()
        last = self._settling.settled(
            1, lambda path: self._has_attempts(path, MAX_ATTEMPTS - 1, MAX_ATTEMPTS)
        )
        if last or any(self._attempts.get(path) == MAX_ATTEMPTS - 1 for path in self._in_progress):
            # The service died twice with this file in progress. It is read alone, since a third
            # death would count against every other file in progress too.
            if last and not self._in_progress:
                self._submit(last)
            return
        if room := self._pool.room:
            self._submit(
                self._settling.settled(
                    room, lambda path: self._has_attempts(path, 0, MAX_ATTEMPTS - 1)
                )
            )

    def _has_attempts(self, path: Path, at_least: int, below: float) -> bool:
        return path not in self._in_progress and at_least <= self._attempts.get(path, 0) < below

    def _give_up(self) -> None:
        """Quarantine a file after the last attempt."""
        for item in self._settling.settled(
            1, lambda path: self._has_attempts(path, MAX_ATTEMPTS, float("inf"))
        ):
            self._in_progress[item.path] = item
            detail = f"tried {MAX_ATTEMPTS} times"
            self._outcomes.append(Refusal(item.path, Code.WORKER_DIED, detail))

    def _submit(self, items: list[Settled]) -> None:
        if items:
            signatures = {item.path: item.stat.signature for item in items}
            self._pipeline.store.claim(signatures, signatures)
            self._in_progress.update((item.path, item) for item in items)
            self._pool.submit(items)

    def _is_paused(self) -> bool:
        return (
            self._alarms.is_on(Alarm.DISK_RESERVE)
            or self._alarms.is_on(Alarm.BACKEND_LOST)
            or self._pipeline.batches.is_full
        )

    # Results: from the workers to the database.

    def _collect(self, wait_s: float) -> None:
        for item, result in self._pool.collect(wait_s, self._pipeline.batches):
            if isinstance(result, WorkerCrash):
                self._handle_crash(item.path)
            elif isinstance(result, Unsettled):
                self._unsettled.append(item.path)
            else:
                self._results.append(result)
        self._postpone_unsettled()
        if self._results:
            self._outcomes.extend(self._pipeline.submit(self._results))
            self._results.clear()
        if not self._pool.in_flight:
            self._pipeline.batches.flush()
        try:
            if scored := self._pipeline.collect():
                self._outcomes.extend(scored)
                self._alarms.set(Alarm.BACKEND_LOST, False)
        finally:  # outcomes that need no backend are recorded although it has failed
            self._record()

    def _record(self) -> None:
        if self._outcomes:
            self._release(self._pipeline.record(self._outcomes))
            self._outcomes = []
            self._on_commit()
        self._alarms.set(Alarm.DATABASE_UNAVAILABLE, False)

    def _handle_crash(self, path: Path) -> None:
        """Retry a file whose worker crashed once; quarantine it after the second crash."""
        self._counters.worker_crashes += 1
        attempts = self._attempts.get(path, 0) + 1
        event(logging.WARNING, "worker_crashed", attempts=attempts)
        self._attempts[path] = attempts
        if path in self._crashed:
            self._results.append(Refusal(path, Code.WORKER_DIED))
        else:
            self._crashed.add(path)
            self._in_progress.pop(path)

    def _postpone_unsettled(self) -> None:
        self._queue.release(self._unsettled)
        for path in self._unsettled:
            self._settling.postpone(path)
            self._in_progress.pop(path, None)
        self._unsettled.clear()

    def _release(self, outcomes: Iterable[Outcome]) -> None:
        """Forget the files whose outcomes are committed."""
        self._counters.add(outcomes)
        for outcome in outcomes:
            path = outcome.film.source if isinstance(outcome, Screened) else outcome.source
            self._settling.forget([path])
            self._in_progress.pop(path, None)
            self._attempts.pop(path, None)
            self._crashed.discard(path)
            code = outcome.code if isinstance(outcome, Refusal) else None
            event(logging.DEBUG, "recorded", refused=code)

    # Failures, reloads and the end.

    def _handle_lost_backend(self) -> None:
        """Switch to the configured fallback backend, or wait before the next attempt."""
        self._alarms.set(Alarm.BACKEND_LOST, True)
        if self._fall_back is None:
            time.sleep(PAUSE_S)
        else:
            with suppress(BackendError, StoreUnavailable):  # the next iteration tries again
                self._pipeline, self._fall_back = self._fall_back(self._pipeline), None
                self._alarms.set(Alarm.BACKEND_FALLBACK, True)
        self._pipeline.batches.retry()

    def _reload(self) -> None:
        # Outcomes that were decided by the old rule are recorded under it first.
        if not self._reload_due or self._load_rule is None or self._outcomes:
            return
        self._reload_due = False  # first, since a request during this reload asks for another one
        try:
            rule = self._load_rule()
            pipeline, decided = self._pipeline.apply(rule)
        except StoreUnavailable:
            self._reload_due = True
            raise
        except HipedgeError:
            self._alarms.set(Alarm.RELOAD_FAILED, True)
        else:
            self._pipeline = pipeline
            self._alarms.set(Alarm.RELOAD_FAILED, False)
            event(logging.INFO, "reloaded", decisions=decided)
            self._on_commit()

    def _publish_alarms(self) -> None:
        """Write the alarms to the database if they have changed."""
        names = self._alarms.names
        if names != self._published_alarms:
            self._service.set_alarms(names)
            self._published_alarms = names

    def _drain(self) -> None:
        """Finish the files in progress within `drain_s`, and release the others."""
        notify_systemd(STOPPING=1)
        deadline = time.monotonic() + self._limits.drain_s
        while self._in_progress and time.monotonic() < deadline:
            try:
                self._collect(WAIT_S)
            except (StoreUnavailable, BackendError):
                time.sleep(PAUSE_S)
                self._pipeline.batches.retry()
        with suppress(StoreUnavailable):  # they stay claimed and are tried again at the next start
            self._queue.release(self._in_progress)
            self._pipeline.store.finish_run(self._pipeline.run)
        event(logging.INFO, "stopped", unfinished=len(self._in_progress))
