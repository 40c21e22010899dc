"""What all tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real radiographs, which lies beside a checkout and never inside it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HIPEDGE_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no shared radiographs at {folder}: set HIPEDGE_SHARED_DATA")
    return folder
