"""Distributions of a pixel's channels, as autoregressive models and VAEs put them out."""
