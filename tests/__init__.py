"""The tests. Run in several processes (pytest-xdist), each uses one core for torch."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Set before torch is imported, which reads it only then: processes with threads for all cores
    # mostly wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
