"""What all tests share."""

import os
from pathlib import Path

import pytest

from hipedge.model import open_model, packaged_model
from hipedge.train.new_model import new_model
from hipedge.types import CropGeometry


@pytest.hookimpl(optionalhook=True)  # the core's tests run without pytest-xdist
def pytest_xdist_auto_num_workers():
    """Run one process more than there are cores: tests of the service mostly wait for it."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # the plugin takes that number
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session", autouse=True)
def a_cache_of_its_own(tmp_path_factory):
    """Keep tests out of the user's cache, where engines and verdicts are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real radiographs, which lies beside a checkout and never inside it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HIPEDGE_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no shared radiographs at {folder}: set HIPEDGE_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def reference_model():
    """The model that ships in the package."""
    folder = packaged_model()
    assert folder is not None, "hipedge/model/reference is not there"
    return open_model(folder)


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory):
    """A model folder from seed 0 with crops of 64 pixels, so that it is quick to make and run.

    The processes of a run (`pytest -n`) share one. Without torch it cannot be made:
    HIPEDGE_TEST_MODEL then names one made before.
    """
    if "HIPEDGE_TEST_MODEL" in os.environ:
        return open_model(Path(os.environ["HIPEDGE_TEST_MODEL"]))
    pytest.importorskip("torch", reason="no torch to make a model with: set HIPEDGE_TEST_MODEL")
    of_run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_run = of_run.parent
    from filelock import FileLock  # torch needs it too

    with FileLock(of_run / "untrained.lock"):
        if not (of_run / "untrained").exists():
            new_model(of_run / "untrained", seed=0, geometry=CropGeometry(64, 160.0, 10.0, 20.0))
    return open_model(of_run / "untrained")


@pytest.fixture(autouse=True)
def promises(request):
    """Leave in the report of a run (`--junitxml`) which promises of docs/safety.md a test shows."""
    for marker in request.node.iter_markers("promise"):
        request.node.user_properties.append(("promise", marker.args[0]))
