"""Pipelines of the library diffusers whose networks see latents: their parts as one model of this package."""
