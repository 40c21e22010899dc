from tests.pacs import on_loopback, orthanc
from tests.watch.conftest import clinic, new_clinic

__all__ = ["clinic", "new_clinic", "on_loopback", "orthanc"]
