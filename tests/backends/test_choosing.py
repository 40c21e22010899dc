"""Which backend runs, and why."""

import sys

import pytest

from hipedge.backends import BACKENDS, choose, missing, open_backend
from hipedge.backends.fake import FakeBackend
from hipedge.backends.ort import OnnxRuntimeBackend
from hipedge.errors import ConfigError, InstallationError


def test_auto_takes_the_first_that_is_installed_and_says_so():
    assert choose() == ("onnxruntime", "first in order that is installed")


def test_a_backend_that_is_asked_for_is_taken():
    assert choose("fake") == ("fake", "asked for")


def test_an_unknown_backend_is_an_error_that_lists_those_there_are():
    with pytest.raises(ConfigError, match=f"'tpu' is unknown: choose auto, {', '.join(BACKENDS)}"):
        choose("tpu")


def test_a_backend_whose_runtime_is_missing_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert missing("onnxruntime") == ("onnxruntime",)
    with pytest.raises(InstallationError, match="needs onnxruntime: pip install onnxruntime"):
        choose("onnxruntime")


def test_auto_never_falls_back_to_the_double(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InstallationError, match="no backend is installed: onnxruntime needs"):
        choose()


@pytest.mark.parametrize(
    ("name", "backend_class"),
    [("auto", OnnxRuntimeBackend), ("onnxruntime", OnnxRuntimeBackend), ("fake", FakeBackend)],
)
def test_a_backend_is_opened_by_name(name, backend_class, untrained_model):
    with open_backend(name, untrained_model) as backend:
        assert type(backend) is backend_class


@pytest.mark.parametrize("name", BACKENDS)
def test_every_row_of_the_table_leads_to_a_backend(name, untrained_model):
    with open_backend(name, untrained_model, threads=1) as backend:
        assert backend.infer(untrained_model.golden().samples[:1])
