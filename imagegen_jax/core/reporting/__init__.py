"""What a run says while it goes on: lines, metrics, health."""
