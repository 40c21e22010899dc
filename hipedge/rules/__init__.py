"""From probabilities to findings: flag rule, priorities, operating points, site calibration."""
