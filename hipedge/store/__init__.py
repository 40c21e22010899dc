"""The SQLite database of a site: its schema and migrations, and how its rows are written and read.

It is the last stage of the pipeline (record), the queue of `hipedge watch`, and the source of
everything that the commands show.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hipedge.store.accounts import Accounts, AuditEntry, Login, Role, User
    from hipedge.store.deliveries import Deliveries, Delivery
    from hipedge.store.feedback import Answer, Feedback, Shown, Verdict
    from hipedge.store.outbox import Message, Outbox, ResultPolicy, is_reportable
    from hipedge.store.pages import CaseFilter, CaseList, CasePages, Cursor
    from hipedge.store.queue import Finished, Queue
    from hipedge.store.readings import Event, Opening, Reading, Readings, Standing
    from hipedge.store.rows import Case
    from hipedge.store.service import Heartbeat, Service, Totals, backup
    from hipedge.store.states import TERMINAL, TRANSITIONS, PathState
    from hipedge.store.store import Run, Store
    from hipedge.store.studies import Phase, Reserved, Studies, Study, StudyHip, StudyPlan

__all__ = [
    "TERMINAL",
    "TRANSITIONS",
    "Accounts",
    "Answer",
    "AuditEntry",
    "Case",
    "CaseFilter",
    "CaseList",
    "CasePages",
    "Cursor",
    "Deliveries",
    "Delivery",
    "Event",
    "Feedback",
    "Finished",
    "Heartbeat",
    "Login",
    "Message",
    "Opening",
    "Outbox",
    "PathState",
    "Phase",
    "Queue",
    "Reading",
    "Readings",
    "Reserved",
    "ResultPolicy",
    "Role",
    "Run",
    "Service",
    "Shown",
    "Standing",
    "Store",
    "Studies",
    "Study",
    "StudyHip",
    "StudyPlan",
    "Totals",
    "User",
    "Verdict",
    "backup",
    "is_reportable",
]

# Each module is imported when one of its names is first used, so that a command imports no more
# than it needs.
_HOMES = {
    "TERMINAL": "states",
    "TRANSITIONS": "states",
    "Accounts": "accounts",
    "Answer": "feedback",
    "AuditEntry": "accounts",
    "Case": "rows",
    "CaseFilter": "pages",
    "CaseList": "pages",
    "CasePages": "pages",
    "Cursor": "pages",
    "Deliveries": "deliveries",
    "Delivery": "deliveries",
    "Event": "readings",
    "Feedback": "feedback",
    "Finished": "queue",
    "Heartbeat": "service",
    "Login": "accounts",
    "Message": "outbox",
    "Opening": "readings",
    "Outbox": "outbox",
    "PathState": "states",
    "Phase": "studies",
    "Queue": "queue",
    "Reading": "readings",
    "Readings": "readings",
    "Reserved": "studies",
    "ResultPolicy": "outbox",
    "Role": "accounts",
    "Run": "store",
    "Service": "service",
    "Shown": "feedback",
    "Standing": "readings",
    "Store": "store",
    "Studies": "studies",
    "Study": "studies",
    "StudyHip": "studies",
    "StudyPlan": "studies",
    "Totals": "service",
    "User": "accounts",
    "Verdict": "feedback",
    "backup": "service",
    "is_reportable": "outbox",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
