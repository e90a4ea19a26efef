"""Checkpoints of the authors' own code: a file a kind."""
