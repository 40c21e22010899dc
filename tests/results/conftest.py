from tests.pacs import on_loopback, orthanc
from tests.watch.conftest import clinic, clinic_with_done_dir, new_clinic

__all__ = ["clinic", "clinic_with_done_dir", "new_clinic", "on_loopback", "orthanc"]
