"""Promise 1: killed at any point, and started again, every file comes to exactly one end."""

import signal
from pathlib import Path

import pytest

from hipedge.pipeline.results import ResultPipeline
from hipedge.pipeline.workers import Workers
from hipedge.store.outbox import Outbox
from hipedge.store.queue import Queue
from hipedge.store.service import Service
from hipedge.store.store import Store
from hipedge.types import Category
from hipedge.watch.done import DoneDir
from hipedge.watch.inference import Inference
from hipedge.watch.notify import Spool
from tests.watch import faults
from tests.watch.clinic import dicom

# Only in a slow run: each of these is close to another point.
NIGHTLY = {
    "before what was seen is committed",
    "before it is noted that files settle",
    "when the workers have read",
    "before the transaction's end",
    "before a message is delivered",
    "before it is committed where a film goes",
    "before the heartbeat is committed",
    "before the run is closed",
    "before a claim",
    "while the workers read",
    "during inference",
    "before the results are committed",
    "before the film goes there",
}
POINTS = {
    "before what was seen is committed": (faults.before, Queue, "observe"),
    "after what was seen is committed": (faults.after, Queue, "observe"),
    "before it is noted that files settle": (faults.before, Queue, "mark_settling"),
    "before a claim": (faults.before, Store, "claim"),
    "between a claim and the workers": (faults.after, Store, "claim"),
    "while the workers read": (faults.after, Workers, "submit"),
    "when the workers have read": (faults.before, ResultPipeline, "submit"),
    "during inference": (faults.before, Inference, "infer"),
    "after inference": (faults.after, Inference, "infer"),
    "before the results are committed": (faults.before, Store, "record"),
    "within the transaction of the results": (faults.after, Store, "insert"),
    "before the transaction's end": (faults.after, Store, "execute"),
    "after the results are committed": (faults.after, Store, "record"),
    "before a message is delivered": (faults.before, Spool, "deliver"),
    "before a message is marked as delivered": (faults.before, Outbox, "mark_delivered"),
    "before it is committed where a film goes": (faults.before, Queue, "record_moves"),
    "before the film goes there": (faults.after, Queue, "record_moves"),
    "after the film went there": (faults.after, DoneDir, "move"),
    "before the heartbeat is committed": (faults.before, Service, "beat"),
    "before the run is closed": (faults.before, Store, "finish_run"),
}


def kill_at(point):
    put, owner, name = POINTS[point]
    if name == "move" and owner is DoneDir:  # each scan moves, mostly nothing
        faults.replace(Path, "rename", lambda rename: lambda *a: (rename(*a), faults.die()))
    elif name == "record_moves":
        faults.replace(Queue, name, lambda move: lambda self, to: move_and_die(put, move, self, to))
    elif name in ("insert", "execute"):
        table = "decisions" if name == "insert" else "insert into outbox"
        faults.replace(Store, name, lambda write: lambda *a: write_and_die(write, table, *a))
    else:
        put(owner, name, faults.die)


def write_and_die(write, table, store, sql_or_table, *arguments):
    """Die after the statement that writes into one table, before its transaction is committed."""
    result = write(store, sql_or_table, *arguments)
    if sql_or_table.startswith(table):
        faults.die()
    return result


def move_and_die(put, move, queue, targets):
    if put is faults.after:
        move(queue, targets)
    faults.die()


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "point",
    [pytest.param(point, marks=[pytest.mark.slow] if point in NIGHTLY else []) for point in POINTS],
)
def test_killed_at_any_point_every_file_has_one_end(new_clinic, point):
    clinic = new_clinic()
    done = clinic.folder / "done"
    done.mkdir()
    object.__setattr__(clinic.settings, "done_dir", done)
    names = ["normal.dcm", "fracture.dcm", "chest.dcm"]
    clinic.drop(names[0], dicom(1))
    clinic.drop(names[1], dicom(2, Category.INTERTROCHANTERIC_FRACTURE))
    clinic.drop(names[2], dicom(3, BodyPartExamined="CHEST"))
    process = clinic.start(kill_at, point)
    if point == "before the run is closed":
        clinic.wait(lambda: len(list(done.iterdir())) == 3)
        process.terminate()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, clinic.log.read_text()
    assert not clinic.db.exists() or clinic.is_sound()

    with clinic.service() as service:
        clinic.wait_until_up(service)
        clinic.wait(lambda: len(list(done.iterdir())) == 3)
        clinic.wait(lambda: clinic.rows("select 1 from outbox where delivered_at is not null"))
    assert clinic.is_sound()
    assert clinic.rows("select state, count(*) from files group by state") == [
        ("not_applicable", 1),
        ("screened", 2),
    ]
    assert clinic.rows("select count(*) from hips") == [(2,)]
    assert {Path(path).name for (path,) in clinic.rows("select path from files")} == set(names)
    assert all(Path(path).exists() for (path,) in clinic.rows("select path from files"))
    assert clinic.rows("select count(*) from paths where state = 'claimed'") == [(0,)]
    (message,) = clinic.messages()
    assert message["priority"] == "urgent"
