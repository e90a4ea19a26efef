"""Scores that metrics compute from features."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)  # this was a module once
