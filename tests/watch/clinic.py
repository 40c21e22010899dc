"""A site in a temporary folder, and its watch service as a process for fault injection."""

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from hipedge.config import Settings
from hipedge.locate.given import read_hips_csv
from hipedge.service_log import configure_logging
from hipedge.types import CATEGORIES, Category
from hipedge.watch import watch
from tests.dicom.dicom_films import EXPLICIT, film

SIZE_PX = 64
ROOT_UID = "1.2.826.0.1.3680043.9999"
TERMINAL = ("screened", "not_applicable", "duplicate", "quarantined", "vanished")


def paint(category, noise=0):
    """Return pixels that the fake backend puts into a category; `noise` makes them unique."""
    pixels = np.zeros((SIZE_PX, SIZE_PX), np.uint16)
    row = SIZE_PX // len(CATEGORIES) * CATEGORIES.index(category)
    pixels[row : row + SIZE_PX // len(CATEGORIES)] = 4000
    pixels.ravel()[:4] = [noise % 90, noise // 90 % 90, noise // 8100, 0]
    return pixels


def dicom(number, category=Category.NORMAL, syntax=EXPLICIT, noise=None, **elements):
    """Return a film whose hip is given in the clinic's CSV; each number gives another film."""
    pixels = paint(category, number if noise is None else noise)
    uid = f"{ROOT_UID}.{number}"
    return film(pixels, syntax, bits=12, **{"SOPInstanceUID": uid, **elements})


class Clinic:
    def __init__(self, folder, model, films=64, **settings):
        self.folder = folder
        self.incoming, self.spool = folder / "incoming", folder / "spool"
        for made in (self.incoming, self.spool):
            made.mkdir()
        self.db, self.log = folder / "cases.db", folder / "log"
        self.log.touch()
        rows = (f"{ROOT_UID}.{n},right,0,0,{SIZE_PX},{SIZE_PX}\n" for n in range(films))
        self.hips = folder / "hips.csv"
        self.hips.write_text("sop_instance_uid,side,x0,y0,x1,y1\n" + "".join(rows))
        self.settings = Settings(
            db=self.db,
            model=model,
            backend="fake",
            workers=1,
            settle_s=0.1,
            rescan_s=0.3,
            metrics_port=0,
            reserve_mb=0,
            drain_s=20.0,
            worker_timeout_s=10.0,
            worker_memory_mb=1024,
            spool_dir=self.spool,
        )
        self.settings = replace(self.settings, **settings)

    def drop(self, name, data):
        """Put a complete file in place by renaming it."""
        path = self.incoming / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = self.folder / "arriving"
        hidden.write_bytes(data)
        hidden.rename(path)
        return path

    def drop_by_copy(self, name, data):
        """Write a file in place, as a copy from another file system does."""
        (self.incoming / name).write_bytes(data)

    @contextlib.contextmanager
    def service(self, fault=None, *arguments, ends=True):
        """Run the service, with a fault injected before it starts, and end it by SIGTERM."""
        process = self.start(fault, *arguments)
        try:
            yield process
            if ends:
                os.kill(process.pid, signal.SIGTERM)
                process.join(60)
                assert process.exitcode == 0, self.log.read_text()
        finally:
            process.kill()
            process.join()

    def start(self, fault=None, *arguments):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["hipedge.pipeline.screen"])
        target = (self.settings, [self.incoming], self.hips, self.log, fault, arguments)
        process = context.Process(target=serve, args=target)
        process.start()
        return process

    def rows(self, sql, *parameters):
        with contextlib.closing(sqlite3.connect(self.db, timeout=30)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def states(self):
        return dict(self.rows("select state, count(*) from paths group by state"))

    def outcomes(self):
        """Return the code or state of each file by its name."""
        rows = self.rows(
            "select paths.path, paths.state, code from paths left join files on file_id = files.id"
        )
        return {Path(path).name: code or state for path, state, code in rows}

    def messages(self):
        return [json.loads(path.read_text()) for path in sorted(self.spool.glob("*.json"))]

    def wait(self, condition, timeout_s=60):
        """Wait until a condition holds; fail with the outcomes and the log if it does not."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(sqlite3.OperationalError):
                if condition():
                    return
            assert time.monotonic() < deadline, (self.outcomes(), self.log.read_text()[-3000:])
            time.sleep(0.02)

    def wait_until_up(self, process):
        """Wait until a process has completed its first scan."""
        self.wait(lambda: self.rows("select 1 from service where pid = ?", process.pid))

    def wait_for(self, count, timeout_s=60):
        """Wait until there are `count` paths, all in a terminal state."""

        def done():
            states = self.states()
            at_end = sum(states.get(state, 0) for state in TERMINAL)
            return at_end == sum(states.values()) == count

        self.wait(done, timeout_s)

    def is_sound(self):
        (found,) = self.rows("pragma integrity_check")
        return found == ("ok",)


def serve(settings, roots, hips, log, fault, arguments):
    """Run the service in this process, with its output in a file."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    configure_logging(10)
    if fault is not None:
        fault(*arguments)
    watch(
        roots,
        settings,
        given_hips=read_hips_csv(hips),
        reload_settings=lambda: replace(settings, **read_changes(settings.db)),
    )


def read_changes(db):
    """Return the settings that a test has written beside the database, valid or not."""
    file = db.with_name("thresholds.json")
    values = json.loads(file.read_text()) if file.exists() else {}
    if "operating_point" in values:
        return values
    return {"thresholds": {Category(name): value for name, value in values.items()}}
