"""Entry point of `hipedge` and `python -m hipedge`.

The processes of some commands import this module too, so it imports next to nothing.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress

from hipedge.interrupts import ended_by_ctrl_c, kept_from_children

HELP = frozenset({"-h", "--help"})


def main() -> None:
    """Prepare what must be ready before the first import of a library, and run the command line."""
    _let_blas_sleep()
    _collect_no_modules()
    with ended_by_ctrl_c():
        if sys.argv[1:2] == ["screen"] and not HELP.intersection(sys.argv):
            _start_fork_server()
        from hipedge.cli import main as run

    run()


def _let_blas_sleep() -> None:
    """Let threads of OpenBLAS sleep while they have no work, in this process and its children.

    By default each spins first for 2^26 cycles (30 ms) after every call, and after it has been
    started: by `import numpy`, in every process. What they compute is the same.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles, the least


def _collect_no_modules() -> None:
    """Let the garbage collector not look for garbage in what is imported and stays to the end.

    It would after every 700 new objects, until `hipedge.cli` has imported the command, and several
    times over all objects when the interpreter ends: a tenth of the time of a short command.
    """
    gc.disable()
    atexit.register(gc.freeze)


def _start_fork_server() -> None:
    """Let the fork server import the readers of films while this process imports the rest."""
    from hipedge.errors import InstallationError
    from hipedge.pipeline.fork_server import SCREENING, start_fork_server

    # Where it cannot be started, the command will fail in the same way, and say so.
    with suppress(InstallationError), kept_from_children():
        start_fork_server(*SCREENING)


if __name__ == "__main__":
    main()
