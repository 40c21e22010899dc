"""From DICOM, PNG, JPEG and TIFF files to pixels; the only importer of pydicom in the line."""
