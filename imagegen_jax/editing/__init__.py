"""Edits: of photos by denoisers, and of latents and styles."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)
