"""Checkpoints and frozen networks: written whole, known by their fingerprints, verified when read."""
