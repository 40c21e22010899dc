"""From DICOM, PNG, JPEG and TIFF files to pixels; the only importer of pydicom in the line."""

from hipedge.dicom.gate import gate
from hipedge.dicom.read import Payload, load, read

__all__ = ["Payload", "gate", "load", "read"]
