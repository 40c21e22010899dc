"""The double of TensorRT has no class, no call and no attribute that TensorRT has not."""

import inspect

import pytest

from hipedge.backends.tensorrt.flavours import FLAVOURS, load
from hipedge.errors import InstallationError
from tests.backends import tensorrt_double
from tests.backends.tensorrt_double import Held, IRuntimeConfig, TensorRt


@pytest.fixture(scope="module")
def rtx():
    """The bindings of TensorRT for RTX; `tests/export` compares their names with TensorRT's."""
    try:
        return load(FLAVOURS["rtx"])
    except InstallationError as error:
        pytest.skip(str(error))


def doubles():
    """The classes that stand for one of TensorRT."""
    classes = inspect.getmembers(tensorrt_double, inspect.isclass)
    here = [(name, one) for name, one in classes if one.__module__ == tensorrt_double.__name__]
    return [(name, one) for name, one in here if one not in (Held, TensorRt)]


def test_each_member_of_the_double_is_one_of_the_bindings(rtx):
    named = {(name, member) for name, one in doubles() for member in vars(one)}
    named |= {("IRuntimeConfig", member) for member in vars(IRuntimeConfig(None))}
    public = sorted((owner, member) for owner, member in named if not member.startswith("_"))
    assert len(public) > 10
    assert [one for one in public if not hasattr(getattr(rtx, one[0], None), one[1])] == []


def test_each_name_of_its_module_is_one_of_the_bindings(rtx, driver):
    module = TensorRt(driver).module
    names = {name: vars(value) for name, value in vars(module).items() if not name.startswith("_")}
    for name, members in names.items():
        assert hasattr(rtx, name)
        for member in members:
            assert member.startswith("_") or hasattr(getattr(rtx, name), member)
