"""The versions of the decoders, which the main process records and does not otherwise use."""

from __future__ import annotations

import imagecodecs

from hipedge.dicom import openjpeg


def decoder_versions() -> dict[str, str]:
    """Return the library and version behind each imagecodecs codec in use, and that for areas."""
    versions = {
        name: str(getattr(imagecodecs, f"{name}_version")())
        for name in ("packbits", "jpeg8", "jpegls", "jpeg2k")
    }
    return versions | {"areas of jpeg2k": f"openjpeg {openjpeg.version() or 'not found'}"}
