"""DICOM over the network: films that arrive, and results that leave (extra `clinic`).

Nothing here decodes pixels or knows the database of results. `hipedge receive` and `hipedge fetch`
write complete files into a folder, which `hipedge watch` or `hipedge screen` reads like any other.
"""
