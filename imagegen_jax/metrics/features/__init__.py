"""Features of images: extractors, their weights, their statistics."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)  # this was a module once
