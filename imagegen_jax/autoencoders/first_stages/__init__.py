"""Autoencoders for the space of a model of latents that no run here has trained: published ones, small ones."""
