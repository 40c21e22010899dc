"""Read DICOM, PNG, JPEG and TIFF files."""
