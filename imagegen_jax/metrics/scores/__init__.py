"""Scores of features: what each metric computes."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)  # this was a module once
