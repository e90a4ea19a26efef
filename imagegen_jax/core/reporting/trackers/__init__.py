"""Where a run's metrics go beside its own files: a table, W&B, trackio; each a value with `open`."""
