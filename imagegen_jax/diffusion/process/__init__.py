"""How an image becomes noise, when that is trained, and what a network may say of it."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)  # this was a module once
