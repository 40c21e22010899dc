"""An archive of millions of films: the screening pipeline, run by Ray on many machines.

    list → read, locate, prepare → infer, decide → record → merge

The stages are those of `hipedge.pipeline`; this package only schedules them. Its results are
Parquet files, one for each shard of films, and `merge` brings them into one SQLite database.
"""

from __future__ import annotations

from importlib.util import find_spec

from hipedge.errors import InstallationError


def check_installed() -> None:
    """Raise `InstallationError` where the extra `ray` is not installed."""
    missing = [name for name in ("ray", "pyarrow") if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"{', '.join(missing)} not installed: run `pip install 'hipedge[ray]'`"
        )
