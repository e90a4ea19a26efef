"""Processes from image to noise, the times and weights of training, and the predictions that networks make."""

from imagegen_jax import moved

__getattr__ = moved.attributes(__name__)  # this was a module once
