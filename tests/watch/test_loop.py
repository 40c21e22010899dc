"""The loop of the service, iteration by iteration, with workers and a backend under control."""

import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hipedge.backends.fake import FakeBackend
from hipedge.errors import (
    BackendError,
    BackendLost,
    Code,
    ConfigError,
    InstallationError,
    StoreUnavailable,
)
from hipedge.pipeline.batching import Scored
from hipedge.pipeline.results import ResultPipeline
from hipedge.pipeline.workers import WorkerCrash
from hipedge.store.outbox import Outbox
from hipedge.store.queue import Queue
from hipedge.store.service import Service
from hipedge.store.store import Store
from hipedge.types import Category, Refusal
from hipedge.watch import loop as loop_module
from hipedge.watch.alarms import Alarm, Alarms
from hipedge.watch.folders import Folders
from hipedge.watch.loop import WatchLimits, WatchLoop
from hipedge.watch.metrics import ServiceCounters
from hipedge.watch.settle import FileStat, Settling, Unsettled
from tests.builders import RULE, content, film, scored_hip, screened
from tests.pipeline.test_batching import prepared
from tests.store.test_store import start

URGENT = Category.FEMORAL_NECK_FRACTURE
STEPS = 8  # iterations within which a film settles and is read


def refuse(item, code=Code.DECODE_FAILED):
    return Refusal(item.path, code, content_hash=content(item.path.name))


class Pool:
    """Workers that answer at once, as a test says. It ends the loop after some iterations."""

    def __init__(self):
        self.room, self.submitted, self.waiting = 9, [], []
        self.answer = refuse
        self.steps, self.each, self.loop = STEPS, lambda step: None, None
        self.step = 0

    @property
    def in_flight(self):
        return len(self.waiting)

    def submit(self, items):
        self.submitted.append([item.path.name for item in items])
        self.waiting += items

    def collect(self, wait_s, sink):
        self.each(self.step)
        self.step += 1
        if self.step >= self.steps:
            self.loop.stop()
        answers = [(item, self.answer(item)) for item in self.waiting]
        self.waiting = [item for item, answer in answers if answer is None]
        return [pair for pair in answers if pair[1] is not None]


class Batches:
    """A backend that is asked for nothing, and fails when a test says so."""

    def __init__(self):
        self.is_full, self.error, self.retries, self.films = False, None, 0, []
        self.scored, self.flushes = [], 0

    def submit(self, films):
        assert list(films) == []

    def flush(self):
        self.flushes += 1

    def collect(self):
        if self.error is not None:
            raise self.error
        scored, self.scored = self.scored, []
        return scored

    def retry(self):
        self.retries += 1


class Site:
    """A watched folder, a database, and the loop between."""

    def __init__(self, folder, store):
        self.incoming, self.store = folder / "incoming", store
        self.incoming.mkdir()
        self.pool, self.batches, self.alarms = Pool(), Batches(), Alarms()
        self.counters = ServiceCounters(self.alarms, 60.0)
        self.history, self.commits = [], 0
        self.limits = WatchLimits(settle_s=0.0, rescan_s=3600.0, drain_s=5.0, reserve_bytes=0)
        self.options = {}

    def add(self, *names):
        for name in names:
            (self.incoming / name).write_bytes(name.encode())

    def interrupt(self, name, times):
        """Claim a film as a service does that crashes then."""
        path = self.incoming / name
        for _ in range(times):
            self.store.claim([path], {path: FileStat.at(path).signature})

    def run(self, steps=STEPS, each=lambda step: None):
        def note(step):
            each(step)
            self.history.append(self.alarms.names)

        card = SimpleNamespace(age_range_years=None)
        pipeline = ResultPipeline(
            SimpleNamespace(card=card),
            self.batches,
            self.store,
            start(self.store),
            RULE,
            ("spool",),
        )
        self.pool.step, self.pool.steps, self.pool.each = 0, steps, note
        self.pool.loop = WatchLoop(
            pipeline,
            self.pool,
            Folders([self.incoming], lambda root, present: present),
            Settling(0.0, 60.0),
            self.limits,
            alarms=self.alarms,
            counters=self.counters,
            on_commit=self.count_commit,
            **{"events_pending": lambda: True} | self.options,
        )
        self.pool.loop.run()

    def count_commit(self):
        self.commits += 1

    def states(self):
        rows = self.store.query("select path, state from paths order by path")
        return {row["path"].rpartition("/")[2]: row["state"] for row in rows}

    def codes(self):
        rows = self.store.query("select path, code, detail from files order by id")
        return {row["path"].rpartition("/")[2]: (row["code"], row["detail"]) for row in rows}


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "PAUSE_S", 0.0)
    monkeypatch.setattr(loop_module, "SCAN_BACKOFF", 0)
    with Store(tmp_path / "cases.db") as store:
        yield Site(tmp_path, store)


def test_a_film_is_read_once_after_three_checks(site):
    site.add("a", "b")
    site.run()
    assert site.pool.submitted == [["a", "b"]]
    assert site.states() == {"a": "quarantined", "b": "quarantined"}
    assert site.commits == 1
    assert site.counters.files == {("quarantined", "decode_failed"): 2}
    assert site.counters.worker_crashes == 0
    run = site.store.query("select finished_at from runs")
    assert run[0]["finished_at"] is not None
    assert site.alarms.names == frozenset()


def test_no_more_is_read_than_the_workers_have_room_for(site):
    site.add("a", "b", "c")
    site.pool.room = 2
    site.pool.answer = lambda item: None
    site.limits = replace(site.limits, drain_s=0.0)
    site.run()
    assert site.pool.submitted[0] == ["a", "b"]
    site.pool.submitted.clear()
    site.pool.waiting.clear()
    site.pool.room = 0
    site.run()
    assert site.pool.submitted == []


def test_hips_wait_for_others_only_while_films_are_read(site):
    site.add("a")
    site.pool.answer = lambda item: None
    site.limits = replace(site.limits, drain_s=0.0)
    seen = []
    site.run(each=lambda step: seen.append((site.pool.in_flight, site.batches.flushes)))
    idle = [flushes for in_flight, flushes in seen if not in_flight]
    busy = [flushes for in_flight, flushes in seen if in_flight]
    assert idle == list(range(len(idle)))
    assert len(set(busy)) == 1 < len(busy)


def test_no_film_is_read_while_the_backend_has_enough(site):
    site.add("a")
    site.batches.is_full = True
    site.run()
    assert site.pool.submitted == []
    assert site.states() == {"a": "settling"}


def test_a_worker_crash_is_retried_once_and_then_costs_its_film_alone(site):
    site.add("a", "b")
    site.pool.answer = lambda item: (
        WorkerCrash() if item.path.name == "a" else refuse(item, Code.TRUNCATED)
    )
    site.run(steps=14)
    assert site.codes() == {"b": ("truncated", ""), "a": ("worker_died", "")}
    assert site.pool.submitted == [["a", "b"], ["a"]]
    assert site.counters.worker_crashes == 2


def test_new_content_is_tried_as_often_as_if_no_film_of_that_name_had_crashed(site):
    site.add("a")
    contents, crashed = [b"the second", b"and the third film"], set()

    def answer(item):
        if item.stat.signature in crashed:
            return Refusal(item.path, Code.TRUNCATED, content_hash=content(item.stat.signature))
        crashed.add(item.stat.signature)
        return WorkerCrash()

    def recorded():
        return [row["code"] for row in site.store.query("select code from files order by id")]

    def renew(step):
        if contents and len(recorded()) == 3 - len(contents):
            (site.incoming / "a").write_bytes(contents.pop(0))

    site.pool.answer = answer
    site.run(60, renew)
    assert recorded() == ["truncated"] * 3
    assert site.counters.worker_crashes == 3


def test_a_film_that_was_not_ready_counts_no_attempt_and_is_read_later(site):
    site.add("a")
    site.pool.answer = lambda item: Unsettled(item.path)
    site.run()
    assert site.states() == {"a": "settling"}
    assert site.store.query("select attempts from paths") == [{"attempts": 0}]
    assert site.codes() == {}


def test_a_film_that_was_not_ready_once_is_claimed_for_as_long_as_it_is_read(site):
    site.add("a")
    site.pool.answer = lambda item: Unsettled(item.path) if len(site.pool.submitted) == 1 else None
    site.limits = replace(site.limits, drain_s=0.0)
    states = []
    site.run(20, lambda step: len(site.pool.submitted) == 2 and states.append(site.states()["a"]))
    assert len(states) > 2
    assert set(states) == {"claimed"}


def test_a_film_that_was_in_progress_at_two_crashes_of_the_service_is_read_alone(site):
    site.add("a", "b", "c")
    site.interrupt("b", 2)
    site.run(steps=14)
    assert site.pool.submitted == [["b"], ["a", "c"]]
    assert set(site.states().values()) == {"quarantined"}


def test_of_two_such_films_each_is_read_alone(site):
    site.add("a", "b", "c")
    site.interrupt("a", 2)
    site.interrupt("c", 2)
    site.run(steps=16)
    assert site.pool.submitted == [["a"], ["c"], ["b"]]


def test_while_a_film_is_read_alone_no_other_is_claimed(site):
    site.add("a", "b")
    site.interrupt("b", 2)
    site.pool.answer = lambda item: None
    site.limits = replace(site.limits, drain_s=0.0)
    site.run()
    assert site.pool.submitted == [["b"]]


def test_a_film_that_was_in_progress_at_three_crashes_is_quarantined_unread(site):
    site.add("a", "b")
    site.interrupt("b", 3)
    site.run(steps=14)
    assert site.pool.submitted == [["a"]]
    assert site.codes()["b"] == ("worker_died", "tried 3 times")


def test_a_film_whose_service_crashed_once_is_read_with_the_others(site):
    site.add("a", "b")
    site.interrupt("b", 1)
    site.run()
    assert [sorted(names) for names in site.pool.submitted] == [["a", "b"]]


@pytest.fixture
def disk(monkeypatch):
    usage = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    return usage


def test_a_nearly_full_disk_is_a_pause_until_there_is_more_than_the_reserve(site, disk):
    site.add("a")
    site.limits = replace(site.limits, reserve_bytes=1000)
    free = [999, 1000, 1049, 1050, 1050]
    paused = []

    def each(step):
        paused.append((disk.free, site.alarms.is_on(Alarm.DISK_RESERVE), bool(site.pool.submitted)))
        disk.free = free[min(step, 4)]

    site.run(12, each)
    seen = dict.fromkeys((free, on) for free, on, _ in paused)
    assert list(seen) == [(0, True), (999, True), (1000, True), (1049, True), (1050, False)]
    assert not any(submitted for free, _, submitted in paused if free < 1050)
    assert site.pool.submitted == [["a"]]


def test_a_disk_with_just_the_reserve_is_no_pause(site, disk):
    site.add("a")
    disk.free = 1000
    site.limits = replace(site.limits, reserve_bytes=1000)
    site.run()
    assert frozenset().union(*site.history) == frozenset()


def test_results_are_kept_until_the_database_takes_them_and_nothing_is_claimed_meanwhile(
    site, monkeypatch
):
    site.add("a")
    failures = [StoreUnavailable("database is locked")] * 3
    record = site.store.record

    def faulty(*arguments):
        if failures:
            site.add("b")
            raise failures.pop()
        return record(*arguments)

    monkeypatch.setattr(site.store, "record", faulty)
    site.run(steps=20)
    assert site.pool.submitted == [["a"], ["b"]]
    assert set(site.states().values()) == {"quarantined"}
    assert frozenset({"database_unavailable"}) in site.history
    assert site.alarms.names == frozenset()
    assert site.store.query("select count(*) as n from files") == [{"n": 2}]
    assert site.commits == 2


def test_what_needs_no_backend_is_recorded_although_it_fails(site):
    site.add("a")

    def each(step):
        if site.pool.submitted:
            site.batches.error = BackendLost("device removed")

    site.run(each=each)
    assert site.codes() == {"a": ("decode_failed", "")}
    assert site.alarms.names == {"backend_lost"}
    assert site.batches.retries > 0


def test_no_film_is_claimed_while_the_backend_is_lost(site):
    site.add("a")
    site.batches.error = BackendLost("device removed")
    site.run()
    assert site.pool.submitted == []


def test_a_backend_that_works_again_ends_its_alarm(site):
    backend, waiting = FakeBackend(64), prepared("scored", hips=1)
    pixels = np.stack([sample.pixels for _, views in waiting.hips for sample in views])
    site.batches.error = BackendLost("device removed")

    def each(step):
        if step == 4:
            site.batches.error = None
        if step == 5:
            assert site.alarms.names == {"backend_lost"}  # it has not shown yet that it works
            site.batches.scored = [Scored(waiting, backend.infer(pixels), {})]
            site.store.claim([waiting.film.source])

    site.run(each=each)
    assert site.alarms.names == frozenset()
    assert site.store.query("select state from files") == [{"state": "screened"}]
    assert site.commits == 1


def test_a_fallback_is_used_once_it_can_be_opened(site):
    attempts, spare = [], Batches()

    def fall_back(pipeline):
        attempts.append(pipeline)
        if len(attempts) == 1:
            raise BackendError("no such device")
        return replace(pipeline, batches=spare)

    site.options["fall_back"] = fall_back
    site.batches.error = BackendLost("device removed")
    site.run()
    assert len(attempts) == 2
    assert "backend_fallback" in site.alarms.names
    assert site.batches.retries == spare.retries == 1


def settle_and_reload(site, rules):
    """Reload at each iteration, and note which alarms there are."""
    site.options["load_rule"] = lambda: rules.pop(0)()
    site.run(len(rules) + 1, lambda step: site.pool.loop.reload())


def fail():
    raise ConfigError("no such threshold")


def test_a_reload_decides_under_the_new_thresholds_and_reports_them(site):
    calm = replace(RULE, thresholds=dict.fromkeys(RULE.thresholds, 1.0))
    run = start(site.store)
    site.store.record(run, [screened(film(), scored_hip(URGENT), rule=calm)], calm)
    settle_and_reload(site, [lambda: RULE])
    assert Outbox(site.store).waiting() == {"spool": 1}
    assert site.commits == 1
    assert site.alarms.names == frozenset()


def test_a_reload_that_fails_is_an_alarm_until_one_succeeds(site):
    settle_and_reload(site, [fail, lambda: RULE])
    assert {"reload_failed"} in [set(names) for names in site.history]
    assert site.alarms.names == frozenset()
    assert site.commits == 1
    settle_and_reload(site, [lambda: RULE, fail])
    assert site.alarms.names == {"reload_failed"}


def test_a_reload_happens_once(site):
    loads = []
    site.options["load_rule"] = lambda: loads.append(1) or RULE
    site.run(each=lambda step: step == 1 and site.pool.loop.reload())
    assert len(loads) == 1


def test_a_reload_that_is_asked_for_during_another_one_follows_it(site):
    loads = []

    def load():
        loads.append(1)
        if len(loads) == 1:
            site.pool.loop.reload()
        return RULE

    site.options["load_rule"] = load
    site.run(each=lambda step: step == 1 and site.pool.loop.reload())
    assert len(loads) == 2


def test_a_reload_that_finds_the_database_unavailable_is_tried_again(site):
    loads = []

    def load():
        loads.append(1)
        if len(loads) == 1:
            raise StoreUnavailable("locked")
        return RULE

    site.options["load_rule"] = load
    site.run(each=lambda step: step == 1 and site.pool.loop.reload())
    assert len(loads) == 2


def test_a_new_rule_decides_on_the_films_that_follow(site):
    site.options["load_rule"] = lambda: replace(RULE, temperature=2.0)
    site.add("a")
    site.run(each=lambda step: step == 0 and site.pool.loop.reload())
    assert site.store.query("select count(*) as n from rules") == [{"n": 1}]
    rule = site.store.query("select rule from rules")[0]["rule"]
    assert '"temperature":2.0' in rule.replace(" ", "")


def test_a_file_that_is_removed_has_vanished(site):
    site.add("a", "b")
    site.pool.room = 0
    site.run(each=lambda step: step == 3 and (site.incoming / "a").unlink())
    assert site.states() == {"a": "vanished", "b": "settling"}


def test_a_film_in_progress_has_not_vanished(site):
    site.add("a")

    def answer(item):
        item.path.unlink(missing_ok=True)
        return refuse(item) if site.pool.step > STEPS - 2 else None

    site.pool.answer = answer
    site.run(STEPS + 2)
    assert site.states() == {"a": "quarantined"}


def test_no_file_has_vanished_whose_whole_folder_is_missing(site):
    site.add("a")
    site.pool.room = 0
    away = site.incoming.with_name("away")
    site.run(each=lambda step: step == 3 and site.incoming.rename(away))
    assert site.states() == {"a": "settling"}
    assert site.alarms.names == {"folder_gone"}
    assert Service(site.store).alarms().keys() == {"folder_gone"}


def test_what_is_no_file_is_refused_once(site):
    os.mkfifo(site.incoming / "pipe")
    site.run()
    assert site.codes() == {"pipe": ("unreadable", "not a regular file")}
    assert site.counters.files == {("quarantined", "unreadable"): 1}
    assert site.pool.submitted == []


def test_a_folder_is_refused_each_time_that_it_cannot_be_listed_any_more(site, monkeypatch):
    folder = site.incoming / "folder"
    folder.mkdir()
    scandir, locked, states = os.scandir, [], []

    def faulty(path):
        if locked and str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def each(step):
        states.append(site.states())
        locked[:] = [True] if step in (0, 1, 4, 5) else []

    monkeypatch.setattr(os, "scandir", faulty)
    site.run(each=each)
    assert [state == {"folder": "quarantined"} for state in states] == [
        False, True, True, False, False, True, True, False,
    ]  # fmt: skip
    assert site.counters.files == {("quarantined", "unreadable"): 2}


def test_without_events_the_next_scan_waits_for_its_time(site):
    site.options["events_pending"] = lambda: False
    site.run(each=lambda step: step == 1 and site.add("a"))
    assert site.states() == {}
    site.limits = replace(site.limits, rescan_s=0.0)
    site.run(each=lambda step: step == 1 and site.add("b"))
    assert set(site.states()) == {"a", "b"}


def test_scans_that_events_ask_for_leave_time_between(site, monkeypatch):
    monkeypatch.setattr(loop_module, "SCAN_BACKOFF", 1e9)
    site.run(each=lambda step: step == 1 and site.add("a"))
    assert site.states() == {}


def test_a_scan_is_a_heartbeat_and_updates_the_counters(site):
    site.add("a")
    site.pool.room = 0
    before = site.counters.scanned
    site.store.record(
        start(site.store), [screened(film("told"), scored_hip(URGENT))], RULE, ["spool", "webhook"]
    )
    site.run()
    assert Service(site.store).heartbeat().pid == os.getpid()
    assert site.counters.scanned > before
    assert site.counters.paths == Queue(site.store).counts()
    assert site.counters.undelivered == 2


def test_the_alarms_of_the_last_run_stand_until_the_first_scan(site, monkeypatch):
    service = Service(site.store)
    service.set_alarms(frozenset({"folder_gone"}))
    seen = []
    scan = Folders.scan
    monkeypatch.setattr(
        Folders, "scan", lambda folders: seen.append(service.alarms()) or scan(folders)
    )
    site.run(1)
    assert [set(alarms) for alarms in seen] == [{"folder_gone"}]
    assert service.alarms() == {}


def test_at_the_end_films_in_progress_are_finished_within_their_time(site):
    site.add("a")
    site.pool.answer = lambda item: refuse(item) if site.pool.step > STEPS + 3 else None
    site.run()
    assert site.states() == {"a": "quarantined"}


def test_after_that_time_they_are_released_untried(site):
    site.add("a")
    site.pool.answer = lambda item: None
    site.limits = replace(site.limits, drain_s=0.05)
    site.run()
    assert site.pool.submitted == [["a"]]
    assert site.states() == {"a": "settling"}
    assert site.store.query("select attempts from paths") == [{"attempts": 0}]


def test_a_backend_that_fails_at_the_end_is_tried_again(site):
    site.add("a")

    def answer(item):
        if site.pool.step == STEPS + 1:
            site.batches.error = BackendLost("device removed")
        elif site.pool.step == STEPS + 3:
            site.batches.error = None
        return refuse(item) if site.pool.step > STEPS + 3 else None

    site.pool.answer = answer
    site.run()
    assert site.states() == {"a": "quarantined"}
    assert site.batches.retries == 2


def test_a_broken_installation_ends_the_loop_and_counts_no_attempt(site):
    site.add("a")

    def answer(item):
        raise InstallationError("no locator")

    site.pool.answer = answer
    with pytest.raises(InstallationError, match="no locator"):
        site.run()
    assert site.states() == {"a": "settling"}
    assert site.store.query("select attempts from paths") == [{"attempts": 0}]
