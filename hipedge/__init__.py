"""hipedge: screen hip radiographs in batches, at the edge."""

from hipedge.telemetry import disable_telemetry

__version__ = "0.1.0"

# Before any module of hipedge can import a library that has telemetry.
disable_telemetry()
