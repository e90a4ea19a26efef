"""Models that make images of noise, a step at a time."""
