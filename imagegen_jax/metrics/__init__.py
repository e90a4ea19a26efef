"""Metrics of generated images: functions of arrays of features, never of a model."""
