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
def clinic_with_done_dir(tmp_path, new_clinic):
    """For a clinic that has finished films moved, and the folder to which they go."""
    done = tmp_path / "done"
    done.mkdir()
    return lambda **settings: (new_clinic(done_dir=done, **settings), done)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
