"""Runs as files that others read: weights by name, folders of diffusers, samplers as StableHLO."""
