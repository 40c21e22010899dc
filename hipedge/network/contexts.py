"""What `hipedge receive` and `hipedge fetch` accept: that which `hipedge.dicom` reads."""

from __future__ import annotations

from hipedge.dicom.codecs import CODECS, RLE
from hipedge.dicom.dataset import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from hipedge.dicom.gate import RADIOGRAPH_CLASSES, SECONDARY_CAPTURE_CLASSES

VERIFICATION = "1.2.840.10008.1.1"
# Film digitisers write secondary captures; the gate decides which of them are radiographs.
STORAGE_CLASSES = tuple(sorted(RADIOGRAPH_CLASSES | SECONDARY_CAPTURE_CLASSES))
UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
TRANSFER_SYNTAXES = (*UNCOMPRESSED, DEFLATED_LITTLE, RLE, *CODECS)
