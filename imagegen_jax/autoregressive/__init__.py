"""Models that draw an image part by part, each from those before it."""
