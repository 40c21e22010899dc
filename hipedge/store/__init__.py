"""record: the SQLite database of a site: schema and migrations, claim, record, query."""

from hipedge.store.rows import Case
from hipedge.store.schema import PIPELINE_VERSION
from hipedge.store.store import Run, Store

__all__ = ["PIPELINE_VERSION", "Case", "Run", "Store"]
