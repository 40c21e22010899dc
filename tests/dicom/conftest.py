from pathlib import Path

import numpy as np
import pytest

from hipedge.dicom.read import Payload, read


@pytest.fixture
def read_bytes():
    """Read a file's bytes as `read` does after loading them."""

    def call(data):
        return read(Path("film.dcm"), Payload(data))

    return call


@pytest.fixture
def noise():
    """Make noise of a number of bits: nothing is harder to encode, and no error hides in it."""

    def make(bits, *, signed=False, shape=(33, 47)):
        rng = np.random.default_rng(bits)
        low = -(1 << (bits - 1)) if signed else 0
        dtype = ("i" if signed else "u") + ("1" if bits <= 8 else "2")
        return rng.integers(low, low + (1 << bits), shape).astype(dtype)

    return make
