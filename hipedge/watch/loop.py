"""The pipeline, for ever: look → take → read → judge → commit, round after round."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hipedge.errors import (
    BackendError,
    Code,
    HipedgeError,
    InstallationError,
    StoreUnavailable,
)
from hipedge.pipeline.preprocess import Prepared
from hipedge.pipeline.results import ResultPipeline
from hipedge.pipeline.workers import WorkerCrash, Workers
from hipedge.rules.decide import Rule
from hipedge.store import Outbox, Queue, Service
from hipedge.types import Outcome, Refusal, Screened
from hipedge.watch.alarms import Alarm, Alarms
from hipedge.watch.done import DoneDir
from hipedge.watch.folders import Folders, Scan
from hipedge.watch.logging import event, tell_systemd
from hipedge.watch.metrics import ServiceCounters
from hipedge.watch.settle import LOOKS, Settled, Settling, Unsettled

TRIES = 3
ROUND_S = 0.05
# How long to wait where the database or the backend fails, before it is tried again.
PAUSE_S = 1.0
# A scan that was hinted at waits so many times as long as the last one took.
SCAN_SHARE = 10

Pool = Workers[Settled, Prepared | Refusal | Unsettled]


@dataclass(frozen=True)
class Pace:
    """How often, how long, how much: the site's settings for the loop."""

    settle_s: float
    rescan_s: float
    drain_s: float
    reserve_bytes: int


def free_bytes(db: Path) -> int:
    """Return the free space where a database lies."""
    return shutil.disk_usage(db.absolute().parent).free


class Watch:
    """One round after the other, until `end`.

    A thing leaves our hands only after its commit: what the database or the backend refuses for
    now is held, and nothing new is taken until it has gone through.
    """

    def __init__(
        self,
        pipeline: ResultPipeline,
        pool: Pool,
        folders: Folders,
        settling: Settling,
        pace: Pace,
        *,
        alarms: Alarms,
        counters: ServiceCounters,
        done_dir: DoneDir | None = None,
        hinted: Callable[[], bool] = lambda: False,
        announce: Callable[[], None] = lambda: None,
        new_rule: Callable[[], Rule] | None = None,
        fall_back: Callable[[ResultPipeline], ResultPipeline] | None = None,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._pipeline, self._pool, self._folders, self._settling = (
            pipeline,
            pool,
            folders,
            settling,
        )
        self._pace, self._alarms, self._tally, self._done_dir = pace, alarms, counters, done_dir
        self._hinted, self._announce, self._new_rule = hinted, announce, new_rule
        self._fall_back, self._free = fall_back, free
        self._queue, self._service = Queue(pipeline.store), Service(pipeline.store)
        self._reading = dict[Path, Settled]()
        self._results = list[Prepared | Refusal]()
        self._outcomes = list[Outcome]()
        self._unready = list[Path]()
        self._tried = {path: tries for path, tries in self._queue.unfinished().items() if tries}
        self._died = set[Path]()
        self._new = list[Path]()
        self._next_scan = self._next_hinted_scan = self._next_look = 0.0
        self._known_alarms: frozenset[str] | None = None
        self._refused = set[Path]()
        self._ending = self._reload_due = False

    def run(self) -> None:
        """Go round until told to end, then bring to its end what is being read.

        Raises `InstallationError` where no film could be read; what was taken is given back.
        """
        event(logging.INFO, "started", unfinished=len(self._tried))
        tell_systemd(READY=1)
        try:
            while not self._ending:
                self._round()
            self._drain()
        except InstallationError:  # no film's fault: none is to be given up for it
            with suppress(StoreUnavailable):
                self._queue.release(self._reading)
            raise

    def end(self) -> None:
        """Take nothing more, and stop when all that was taken is finished. Safe in a signal."""
        self._ending = True

    def reload(self) -> None:
        """Apply the site's thresholds anew before the next round. Safe in a signal."""
        self._reload_due = True

    def _round(self) -> None:
        try:
            if self._known_alarms is not None:  # else those of before the start stand, for now
                self._tell()
            self._reload()
            self._look()
            self._take()
            self._finish(ROUND_S)
        except StoreUnavailable:
            self._alarms.set(Alarm.DATABASE_UNAVAILABLE, True)
            time.sleep(PAUSE_S)
        except BackendError:
            self._lose_backend()
        # Also in a pause, which is one of our own and an alarm: a new start would not help.
        tell_systemd(WATCHDOG=1)

    # look: what is there, and what has settled

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._next_scan or (now >= self._next_hinted_scan and self._hinted()):
            self._scan(self._folders.scan())
            took_s = time.monotonic() - now
            self._next_scan = now + took_s + self._pace.rescan_s
            self._next_hinted_scan = now + took_s * (1 + SCAN_SHARE)
        if now >= self._next_look:
            self._next_look = now + self._pace.settle_s / LOOKS
            self._notice_gone(self._settling.look())
            self._queue.settle(self._new)
            self._new.clear()
            self._guard_disk()

    def _scan(self, scan: Scan) -> None:
        self._alarms.set(Alarm.FOLDER_GONE, bool(scan.missing), folders=len(scan.missing))
        found = {path: look.signature for path, look in scan.found.items()}
        self._queue.see(found)
        unfinished = self._queue.unfinished()
        self._new.extend(path for path in unfinished if path not in self._settling)
        self._settling.add(unfinished)
        if self._new:
            self._next_look = 0.0  # their time begins now
        self._refuse(scan.refusals)
        if self._done_dir is not None:
            moved = self._done_dir.move(self._queue.finished(found), self._queue)
            self._alarms.set(Alarm.DONE_DIR, not moved)
        self._tell()
        self._service.beat(self._pipeline.run.run_id)
        self._tally.scanned = time.monotonic()
        self._tally.paths = self._queue.counts()
        self._tally.waiting = sum(Outbox(self._pipeline.store).waiting().values())

    def _refuse(self, refusals: Iterable[Refusal]) -> None:
        """Record, once, what lies in the folders and can never be read."""
        known = self._refused | self._reading.keys()
        fresh = {one.source: one for one in refusals if one.source not in known}
        if fresh:
            self._pipeline.store.claim(fresh)
            self._tally.add(self._pipeline.record(list(fresh.values())))
            self._refused.update(fresh)
            self._settling.forget(fresh)

    def _notice_gone(self, gone: list[Path]) -> None:
        """Write off files that were taken away, but not those whose whole folder is gone."""
        if not gone or self._folders.missing():
            return
        vanished = [path for path in gone if path not in self._reading]
        self._queue.vanish(vanished)
        self._settling.forget(vanished)

    def _guard_disk(self) -> None:
        reserve = self._pace.reserve_bytes
        paused = Alarm.DISK_RESERVE.value in self._alarms.names
        limit = reserve * 1.05 if paused else reserve
        self._alarms.set(Alarm.DISK_RESERVE, self._free(self._pipeline.store.path) < limit)

    # take: from settled to being read

    def _take(self) -> None:
        if self._outcomes or self._results or self._is_paused():
            return
        self._give_up()
        last = self._settling.take(1, lambda path: self._is_free(path, TRIES - 1, TRIES))
        if last or any(self._tried.get(path) == TRIES - 1 for path in self._reading):
            # What twice was being read when the service died is read alone: whatever else were
            # with it would share the blame.
            if last and not self._reading:
                self._start(last)
            return
        room = self._pool.room
        if room:
            self._start(self._settling.take(room, lambda path: self._is_free(path, 0, TRIES - 1)))

    def _is_free(self, path: Path, at_least: int, below: float) -> bool:
        return path not in self._reading and at_least <= self._tried.get(path, 0) < below

    def _give_up(self) -> None:
        """Quarantine what has been tried often enough."""
        for item in self._settling.take(1, lambda path: self._is_free(path, TRIES, float("inf"))):
            self._reading[item.path] = item
            self._outcomes.append(Refusal(item.path, Code.WORKER_DIED, f"tried {TRIES} times"))

    def _start(self, items: list[Settled]) -> None:
        if items:
            signatures = {item.path: item.look.signature for item in items}
            self._pipeline.store.claim(signatures, signatures)
            self._reading.update((item.path, item) for item in items)
            self._pool.submit(items)

    def _is_paused(self) -> bool:
        pauses = {Alarm.DISK_RESERVE.value, Alarm.BACKEND_LOST.value}
        return bool(pauses & self._alarms.names) or self._pipeline.batches.is_full

    # finish: from what the workers return to rows

    def _finish(self, wait_s: float) -> None:
        for item, result in self._pool.collect(wait_s, self._pipeline.batches):
            if isinstance(result, WorkerCrash):
                self._handle_crash(item.path)
            elif isinstance(result, Unsettled):
                self._unready.append(item.path)
            else:
                self._results.append(result)
        self._put_back()
        if self._results:
            self._outcomes.extend(self._pipeline.submit(self._results))
            self._results.clear()
        try:
            if scored := self._pipeline.collect():
                self._outcomes.extend(scored)
                self._alarms.set(Alarm.BACKEND_LOST, False)
        finally:  # what needs no backend is recorded without one
            self._record()

    def _record(self) -> None:
        if self._outcomes:
            self._forget(self._pipeline.record(self._outcomes))
            self._outcomes = []
            self._announce()
        self._alarms.set(Alarm.DATABASE_UNAVAILABLE, False)

    def _handle_crash(self, path: Path) -> None:
        """Let a file that its process died of be tried again, a second time and no third one."""
        self._tally.worker_deaths += 1
        event(logging.WARNING, "worker_died", tries=self._tried.get(path, 0) + 1)
        self._tried[path] = self._tried.get(path, 0) + 1
        if path in self._died:
            self._results.append(Refusal(path, Code.WORKER_DIED))
        else:
            self._died.add(path)
            self._reading.pop(path)

    def _put_back(self) -> None:
        self._queue.release(self._unready)
        for path in self._unready:
            self._settling.put_back(path)
            self._reading.pop(path, None)
        self._unready.clear()

    def _forget(self, outcomes: Iterable[Outcome]) -> None:
        """Let go of what is committed."""
        self._tally.add(outcomes)
        for outcome in outcomes:
            path = outcome.film.source if isinstance(outcome, Screened) else outcome.source
            self._settling.forget([path])
            self._reading.pop(path, None)
            self._tried.pop(path, None)
            self._died.discard(path)
            code = outcome.code if isinstance(outcome, Refusal) else None
            event(logging.DEBUG, "recorded", refused=code)

    # beside the line

    def _lose_backend(self) -> None:
        """Go on with the backend that the site has named for this, or wait for the old one."""
        self._alarms.set(Alarm.BACKEND_LOST, True)
        if self._fall_back is None:
            time.sleep(PAUSE_S)
        else:
            with suppress(BackendError, StoreUnavailable):  # then the next round tries again
                self._pipeline, self._fall_back = self._fall_back(self._pipeline), None
                self._alarms.set(Alarm.BACKEND_FALLBACK, True)
        self._pipeline.batches.retry()

    def _reload(self) -> None:
        # What is held was judged by the old rule, and is recorded under it first.
        if not self._reload_due or self._new_rule is None or self._outcomes:
            return
        try:
            rule = self._new_rule()
            pipeline = self._pipeline
            decided = pipeline.store.apply_rule(pipeline.run.model_id, rule, pipeline.channels)
        except StoreUnavailable:
            raise
        except HipedgeError:
            self._alarms.set(Alarm.RELOAD_FAILED, True)
        else:
            self._pipeline = replace(pipeline, rule=rule)
            self._alarms.set(Alarm.RELOAD_FAILED, False)
            event(logging.INFO, "reloaded", decisions=decided)
            self._announce()
        self._reload_due = False

    def _tell(self) -> None:
        if self._alarms.names != self._known_alarms:
            self._known_alarms = self._alarms.names
            self._service.set_alarms(self._known_alarms)

    def _drain(self) -> None:
        """Finish what is being read, within the limit, and give back the rest untried."""
        tell_systemd(STOPPING=1)
        deadline = time.monotonic() + self._pace.drain_s
        while self._reading and time.monotonic() < deadline:
            try:
                self._finish(ROUND_S)
            except (StoreUnavailable, BackendError):
                time.sleep(PAUSE_S)
                self._pipeline.batches.retry()
        with suppress(StoreUnavailable):  # then they stay claimed, and are tried again
            self._queue.release(self._reading)
            self._pipeline.store.finish_run(self._pipeline.run)
        event(logging.INFO, "stopped", unfinished=len(self._reading))
