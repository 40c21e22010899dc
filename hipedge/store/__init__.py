"""record: the SQLite database of a site: schema and migrations, claim, record, query."""

from hipedge.store.outbox import Message, Outbox
from hipedge.store.queue import Finished, Queue
from hipedge.store.rows import Case
from hipedge.store.service import Heartbeat, Service, Totals, backup
from hipedge.store.states import TERMINAL, TRANSITIONS, PathState
from hipedge.store.store import Run, Store

__all__ = [
    "TERMINAL",
    "TRANSITIONS",
    "Case",
    "Finished",
    "Heartbeat",
    "Message",
    "Outbox",
    "PathState",
    "Queue",
    "Run",
    "Service",
    "Store",
    "Totals",
    "backup",
]
