"""Keep servers of other programs on the loopback address."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.network.node import need

SOURCE = Path(__file__).with_suffix(".c")


def on_loopback():
    """Return the environment in which a program listens on the loopback address only."""
    return {**os.environ, "LD_PRELOAD": str(_library())}


@cache
def _library():
    folder = tempfile.TemporaryDirectory(prefix="hipedge-loopback-")
    _library.folder = folder  # kept until this process ends
    library = Path(folder.name, "loopback.so")
    subprocess.run([need("cc"), "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library
