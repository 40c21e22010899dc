"""How the unattended service is doing, read from its database alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hipedge.errors import StoreError
from hipedge.store import TERMINAL, Heartbeat, Outbox, Queue, Service, Store, Totals
from hipedge.store.states import PathState

# A scan comes every `rescan_s`, the database may be locked for 30 s.
STALE_AFTER = timedelta(minutes=5)


@dataclass(frozen=True)
class Status:
    """What `hipedge status` shows. `scan_age_s` is None where no service ever ran."""

    pulse: Heartbeat | None
    scan_age_s: float | None
    paths: dict[PathState, int]
    totals: Totals
    alarms: dict[str, str]
    undelivered: dict[str, int]

    @property
    def waiting(self) -> int:
        """How many files have no end yet."""
        return sum(count for state, count in self.paths.items() if state not in TERMINAL)

    @property
    def problems(self) -> list[str]:
        """What a person must see to; empty where all is well."""
        stale = self.scan_age_s is None or self.scan_age_s > STALE_AFTER.total_seconds()
        return [*self.alarms, *(["stale"] if stale else [])]


def read_status(db: Path, now: datetime | None = None) -> Status:
    """Read how things stand. Raises `StoreError` if there is no database."""
    if not db.exists():
        raise StoreError(f"there is no database {db}: `hipedge watch` makes it")
    now = now or datetime.now(timezone.utc)
    with Store(db, read_only=True) as store:
        service = Service(store)
        pulse = service.pulse()
        age_s = None
        if pulse is not None:
            scanned_at = datetime.fromisoformat(pulse.scanned_at.replace("Z", "+00:00"))
            age_s = (now - scanned_at).total_seconds()
        return Status(
            pulse=pulse,
            scan_age_s=age_s,
            paths=Queue(store).counts(),
            totals=service.totals(now - timedelta(hours=1), now - timedelta(days=1)),
            alarms=service.alarms(),
            undelivered=Outbox(store).waiting(),
        )
