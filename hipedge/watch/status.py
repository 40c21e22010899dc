"""The status of the unattended service, read from its database alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hipedge.errors import StoreError
from hipedge.review.agreement import Agreement, agreement_of
from hipedge.store.connection import utc_moment, utc_now
from hipedge.store.feedback import Feedback
from hipedge.store.outbox import Outbox
from hipedge.store.queue import Queue
from hipedge.store.service import Heartbeat, Service, Totals
from hipedge.store.states import TERMINAL, PathState
from hipedge.store.store import Store

# Longer than any healthy pause between scans: `rescan_s`, and 30 s of a locked database.
STALE_AFTER = timedelta(minutes=5)
READER_DRIFT = "reader_drift"


@dataclass(frozen=True)
class Status:
    """What `hipedge status` shows. `heartbeat` and `scan_age_s` are None before the first scan."""

    heartbeat: Heartbeat | None
    scan_age_s: float | None
    paths: dict[PathState, int]
    totals: Totals
    alarms: dict[str, str]
    undelivered: dict[str, int]
    agreement: Agreement

    @property
    def waiting(self) -> int:
        """The number of unfinished files."""
        return sum(count for state, count in self.paths.items() if state not in TERMINAL)

    @property
    def problems(self) -> list[str]:
        """The alarms, and what the service itself cannot say; empty if all is well.

        These are `stale`, if no scan was completed recently, and `reader_drift`, if readers have
        come to disagree with the findings more often than at first.
        """
        stale = self.scan_age_s is None or self.scan_age_s > STALE_AFTER.total_seconds()
        drift = [READER_DRIFT] if self.agreement.alarm else []
        return [*self.alarms, *(["stale"] if stale else []), *drift]


def read_status(db: Path, now: datetime | None = None) -> Status:
    """Read the status from a database. Raises `StoreError` if there is none."""
    if not db.exists():
        raise StoreError(f"there is no database {db}: `hipedge watch` creates it")
    now = now or utc_now()
    with Store(db, read_only=True) as store:
        service = Service(store)
        heartbeat = service.heartbeat()
        age_s = None
        if heartbeat is not None:
            scanned_at = utc_moment(heartbeat.scanned_at)
            age_s = (now - scanned_at).total_seconds()
        return Status(
            heartbeat=heartbeat,
            scan_age_s=age_s,
            paths=Queue(store).counts(),
            totals=service.totals(now - timedelta(hours=1), now - timedelta(days=1)),
            alarms=service.alarms(),
            undelivered=Outbox(store).waiting(),
            agreement=agreement_of(Feedback(store).present()),
        )
