"""The fork server: the process that imports what worker processes need, once, and forks them.

A fork of the main process would copy locks that threads of the runtime hold; the fork server has no
threads but numpy's (OpenBLAS), which end before each fork. Its imports take as long as those of the
main process, so it is started before them: this module imports nothing else of hipedge but the
errors.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from tempfile import gettempdir

from hipedge.errors import InstallationError

# What reads films, finds their hips and crops them.
SCREENING = ("hipedge.pipeline.preprocess", "hipedge.locate.session")


def start_fork_server(*modules: str) -> None:
    """Start the fork server, which imports `modules` once for all workers, in the background.

    A fork server that runs already is not changed. Raises `InstallationError` if it cannot be
    started; the path of its socket, in the temporary folder, has at most 107 bytes.
    """
    multiprocessing.set_forkserver_preload(["hipedge.pipeline.workers", *modules])
    try:
        forkserver.ensure_running()
    except OSError as error:
        raise InstallationError(
            f"no worker processes can be started from the temporary folder {gettempdir()}"
            f" ({error}): set TMPDIR to a folder with a short path that can be written to"
        ) from error
