"""The SQLite database of a site: its schema and migrations, and how its rows are written and read.

It is the last stage of the pipeline (record), the queue of `hipedge watch`, and the source of
everything that the commands show.
"""

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
