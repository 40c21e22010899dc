"""The statistics of a validation and reader study: arrays in, tables out."""
