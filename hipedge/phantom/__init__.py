"""Simulated radiographs of known truth."""
