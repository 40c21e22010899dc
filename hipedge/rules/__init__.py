"""How probabilities become findings: flag rule, priorities, operating points, site calibration."""
