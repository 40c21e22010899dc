import socket

import pytest

from tests.watch.clinic import Clinic


@pytest.fixture
def clinic(tmp_path, untrained_model):
    return Clinic(tmp_path, untrained_model.path)


@pytest.fixture
def new_clinic(tmp_path, untrained_model):
    """For a clinic with other settings."""

    def make(**settings):
        return Clinic(tmp_path, untrained_model.path, **settings)

    return make


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
