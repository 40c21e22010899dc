"""Assembly of the service: what is opened, in which order, and closed at the end."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from hipedge import backends
from hipedge.config import Settings, patient_key_of
from hipedge.errors import StoreError
from hipedge.files import private_opener
from hipedge.locate.given import GivenHips
from hipedge.model import ModelFolder, open_model, require_model
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.cpu_allocation import tuned_allocation
from hipedge.pipeline.fork_server import start_fork_server
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.pipeline.results import ResultPipeline, start_run
from hipedge.pipeline.workers import Limits, Workers
from hipedge.rules.site_rule import site_rule
from hipedge.store.service import Service
from hipedge.store.store import Store
from hipedge.watch.alarms import Alarm, Alarms
from hipedge.watch.done import DoneDir
from hipedge.watch.events import FileEvents
from hipedge.watch.folders import Folders, refuse_network
from hipedge.watch.inference import Inference, Opener
from hipedge.watch.loop import WatchLimits, WatchLoop
from hipedge.watch.metrics import ServiceCounters, metrics_server
from hipedge.watch.notify import Notifier, channels_of
from hipedge.watch.results import check_results, result_policy
from hipedge.watch.sender import ResultSender
from hipedge.watch.settle import SettledPreprocessor, Settling

# The service is stale when no scan was completed for this many scan intervals.
STALE_AFTER_SCANS = 4
# The longest interval between scans where no events are available.
POLL_S = 5.0


def watch(
    roots: Sequence[Path],
    settings: Settings,
    *,
    given_hips: GivenHips,
    reload_settings: Callable[[], Settings],
) -> None:
    """Screen all files that arrive in some folders, until SIGTERM or SIGINT.

    SIGHUP applies the thresholds of `reload_settings()`. Raises `HipedgeError` if the service
    cannot start; no file has been read or moved then.
    """
    start_fork_server(*SettledPreprocessor.imports)  # it imports while this process does
    refuse_network(settings.db)
    channels = channels_of(settings)
    results = result_policy(settings)
    if results.channels:
        check_results(settings)
    patient_key = patient_key_of(settings)
    model = open_model(require_model(settings.model))
    rule = site_rule(model.card, settings)
    name, reason = backends.choose(settings.backend)
    reason = backends.why(name, reason, model)
    cpu = tuned_allocation(model, name, settings.workers)
    with ExitStack() as opened:
        opened.enter_context(instance_lock(settings.db))
        store = opened.enter_context(Store(settings.db))
        folders = Folders(roots, Service(store).mount_point)
        done_dir = DoneDir(settings.done_dir, folders.roots) if settings.done_dir else None
        alarms = Alarms()
        counters = ServiceCounters(alarms, stale_after_s=STALE_AFTER_SCANS * settings.rescan_s)
        if settings.metrics_port:
            opened.enter_context(metrics_server(counters, settings.metrics_port))
        opener = Opener(name, model, cpu.threads)
        batches = opened.enter_context(BatchScheduler(partial(Inference, opener)))
        run = start_run(store, model, batches.fingerprint, reason)
        pipeline = ResultPipeline(
            model, batches, store, run, rule, tuple(channel.name for channel in channels), results
        )
        store.apply_rule(run.model_id, rule, pipeline.channels, results)
        preprocessor = SettledPreprocessor(
            Preprocessor.for_model(
                model,
                given_hips,
                patient_key=patient_key,
                with_sha256=store.knows_by_sha256(),
            )
        )
        limits = Limits.of(settings.worker_memory_mb, settings.worker_timeout_s)
        pool = opened.enter_context(Workers(preprocessor, cpu.workers, limits))
        polls = settings.poll or folders.are_remote
        events_pending = (
            (lambda: False) if polls else opened.enter_context(file_events(folders.roots, alarms))
        )
        rescan_s = min(settings.rescan_s, POLL_S) if polls else settings.rescan_s
        notifier = Notifier(
            settings.db,
            channels,
            patient_data=settings.notify_patient_data,
            on_change=lambda failing: alarms.set(Alarm.NOTIFICATION, failing),
        )
        if channels:
            notifier.start()
            opened.callback(notifier.stop)
        if results.channels:
            sender = ResultSender(
                settings, on_change=lambda failing: alarms.set(Alarm.RESULTS, failing)
            )
            sender.start()
            opened.callback(sender.stop)
        loop = WatchLoop(
            pipeline,
            pool,
            folders,
            Settling(settings.settle_s, settings.patience_s),
            WatchLimits(settings.settle_s, rescan_s, settings.drain_s, settings.reserve_mb << 20),
            alarms=alarms,
            counters=counters,
            done_dir=done_dir,
            events_pending=events_pending,
            on_commit=notifier.wake,
            load_rule=lambda: site_rule(model.card, reload_settings()),
            fall_back=_fall_back(settings.fallback_backend, model, opened),
        )
        with signal_handlers(loop):
            loop.run()


def _fall_back(
    name: str | None, model: ModelFolder, opened: ExitStack
) -> Callable[[ResultPipeline], ResultPipeline] | None:
    """Return the function that replaces a lost backend by the configured one, if there is one."""
    if name is None:
        return None
    backends.choose(name)

    def fall_back(pipeline: ResultPipeline) -> ResultPipeline:
        reason = "fallback: the configured backend was lost"
        with ExitStack() as attempt:
            batches = attempt.enter_context(BatchScheduler(partial(Inference, Opener(name, model))))
            run = start_run(pipeline.store, model, batches.fingerprint, reason)
            batches.submit(pipeline.batches.films)
            pipeline.batches.close()
            opened.enter_context(attempt.pop_all())
        return replace(pipeline, batches=batches, run=run)

    return fall_back


@contextmanager
def instance_lock(db: Path) -> Iterator[None]:
    """Hold a lock beside the database, which ends with this process.

    Raises `StoreError` if another process holds it.
    """
    lock = db.with_name(db.name + ".lock")
    try:
        file = private_opener(str(lock), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{lock} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise StoreError(f"another `hipedge watch` is running on {db}") from error
    try:
        yield
    finally:
        os.close(file)


@contextmanager
def file_events(roots: Sequence[Path], alarms: Alarms) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether there was an event since its last call."""
    thread = FileEvents(roots, lambda failing: alarms.set(Alarm.EVENTS_UNAVAILABLE, failing))
    thread.start()

    def pending() -> bool:
        if not thread.pending.is_set():
            return False
        thread.pending.clear()  # only where it was set: an event may come between these lines
        return True

    try:
        yield pending
    finally:
        thread.stop()


@contextmanager
def signal_handlers(loop: WatchLoop) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the loop, and SIGHUP reload the thresholds."""
    handlers = {
        signal.SIGTERM: lambda *_: loop.stop(),
        signal.SIGINT: lambda *_: loop.stop(),
        signal.SIGHUP: lambda *_: loop.reload(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
