"""The SQLite database of a site: its schema and migrations, and how its rows are written and read.

It is the last stage of the pipeline (record), the queue of `hipedge watch`, and the source of
everything that the commands show.
"""

from hipedge.store.deliveries import Deliveries, Delivery
from hipedge.store.outbox import Message, Outbox, ResultPolicy, is_reportable
from hipedge.store.queue import Finished, Queue
from hipedge.store.rows import Case
from hipedge.store.service import Heartbeat, Service, Totals, backup
from hipedge.store.states import TERMINAL, TRANSITIONS, PathState
from hipedge.store.store import Run, Store

__all__ = [
    "TERMINAL",
    "TRANSITIONS",
    "Case",
    "Deliveries",
    "Delivery",
    "Finished",
    "Heartbeat",
    "Message",
    "Outbox",
    "PathState",
    "Queue",
    "ResultPolicy",
    "Run",
    "Service",
    "Store",
    "Totals",
    "backup",
    "is_reportable",
]
