"""Read DICOM, PNG, JPEG and TIFF files."""

from hipedge.dicom.codecs import decoder_versions
from hipedge.dicom.display import DisplayFilm, read_for_display
from hipedge.dicom.gate import gate
from hipedge.dicom.read import Payload, load, read
from hipedge.dicom.whole import ends_in_zeros, is_whole

__all__ = [
    "DisplayFilm",
    "Payload",
    "decoder_versions",
    "ends_in_zeros",
    "gate",
    "is_whole",
    "load",
    "read",
    "read_for_display",
]
