"""A machine with a GPU for the tests of the TensorRT backend."""

import sys

import pytest

from tests.backends.cuda_driver import load_driver
from tests.backends.tensorrt_double import TensorRt


@pytest.fixture(scope="session")
def loaded_driver(tmp_path_factory):
    return load_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(loaded_driver, monkeypatch):
    """A GPU as it is when the process starts, and the real pycuda."""
    for name, module in loaded_driver.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    loaded_driver.start()
    yield loaded_driver
    loaded_driver.start(init=100)  # other tests have no GPU


@pytest.fixture
def tensorrt(driver):
    """TensorRT with an engine, which is not installed under any name."""
    return TensorRt(driver)


@pytest.fixture
def installed(tensorrt, monkeypatch):
    """A machine on which TensorRT is installed too."""
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt.module)
    return tensorrt
