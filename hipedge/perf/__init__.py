"""Measurements of an installation: speed, tuning of the core allocation, self-checks."""
