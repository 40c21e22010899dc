"""From DICOM, PNG, JPEG and TIFF files to pixels; the only importer of pydicom in the line."""

from hipedge.dicom.codecs import decoder_versions
from hipedge.dicom.gate import gate
from hipedge.dicom.read import Payload, load, read

__all__ = ["Payload", "decoder_versions", "gate", "load", "read"]
