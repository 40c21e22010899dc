"""The report of a study: one HTML file that needs no network, and its numbers as JSON and CSV."""
